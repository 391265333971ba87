"""`llmkit generate`."""

import sys
from pathlib import Path

from llmkit.cli import options
from llmkit.core import console
from llmkit.core.errors import DataError


def generate_command(
    model: options.Model,
    prompt: options.Prompt = None,
    prompts: options.Prompts = None,
    recipe: options.RecipeOption = None,
    set_: options.Set = None,
    json: options.Json = False,
) -> None:
    """Generate text with a causal language model, or fill in [MASK] with a masked one.

    Set temperature, length and so on with `-s generate.key=value`.
    """
    from llmkit.cli.output import echo, show_json
    from llmkit.config.loading import load_recipe

    config = load_recipe(options.own_recipe(model, recipe), set_ or [])
    texts = _read_prompts(prompt or [], prompts)
    options.check_model(model)
    from llmkit.generating.generate import generate  # torch loads here, so --help stays instant
    from llmkit.models.loading import resolve_model
    from llmkit.tasks.table import task_of_model

    if json:
        show_json(generate(config.generate, model=model, prompts=texts))
        return
    task = task_of_model(resolve_model(model))
    live = task.streams_text and len(texts) == 1 and config.generate.num_samples == 1
    waiting = [texts[0]]  # shown with the first piece of text, so that an error comes before any output

    def write(piece: str) -> None:
        echo(waiting.pop() + piece if waiting else piece, end="")

    records = generate(config.generate, model=model, prompts=texts, on_text=write if live else None)
    echo("".join(waiting) if live else task.describe_samples(records))  # the prompt, if no text follows it
    if task.streams_text:
        n_tokens = sum(record["n_tokens"] for record in records)
        console.info(f"{console.count(n_tokens, 'token')}, {records[0]['tokens_per_second']:,.0f} tokens/s")


def _read_prompts(given: list[str], file: Path | None) -> list[str]:
    """Prompts from the command line, from stdin where one is `-`, and from a file; an empty one if none is given.

    Raises:
        DataError: the file or stdin cannot be read as UTF-8, or the file is empty.
    """
    texts = [_read_text(Path(text)).removesuffix("\n") if text == "-" else text for text in given]
    if file is None:
        return texts or [""]
    lines = split_prompts(_read_text(file))
    if not lines:
        raise DataError(
            "there are no prompts", where=str(file), hint="one prompt per line; an empty line is a prompt too"
        )
    return texts + lines


def split_prompts(text: str) -> list[str]:
    """One prompt per line, empty ones too; U+2028 and other rare separators stay in their prompt."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return lines if lines[-1] else lines[:-1]


def _read_text(file: Path) -> str:
    is_stdin = str(file) == "-"
    try:
        return (sys.stdin.buffer.read() if is_stdin else file.read_bytes()).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        where = "stdin" if is_stdin else str(file)
        raise DataError(
            f"the prompts cannot be read: {reason}", where=where, hint="write one prompt per line, in UTF-8"
        ) from None
