"""`llmkit generate`."""

from pathlib import Path
from typing import TYPE_CHECKING

from llmkit.cli import options
from llmkit.core import console

if TYPE_CHECKING:
    from llmkit.config.prepare import Read


def generate_command(
    model: options.Model,
    prompt: options.Prompt = None,
    prompts: options.Prompts = None,
    recipe: options.RecipeOption = None,
    set_: options.Set = None,
    json: options.Json = False,
) -> None:
    """Generate text with a causal language model, or fill in [MASK] with a masked language model.

    Set temperature, length and other settings with `-s generate.key=value`.
    """
    from llmkit.cli.output import echo, show_json
    from llmkit.config.command_keys import check_overrides
    from llmkit.config.loading import load_recipe

    check_overrides("generate", set_ or ())
    config = load_recipe(options.own_recipe(model, recipe), set_ or [], forget_columns=recipe is None)
    texts = _read_all(prompt or [], prompts, config.prepare.read)
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


def _read_all(given: list[str], file: Path | None, read: "Read") -> list[str]:
    """Return prompts from the command line (`-` reads stdin) and from a file; one empty prompt if none is given.

    Raises:
        DataError: the file or stdin cannot be read, or the file is empty.
    """
    from llmkit.generating.prompts import read_prompt_text, read_prompts

    texts = [read_prompt_text(text, read).removesuffix("\n") if text == "-" else text for text in given]
    if file is None:
        return texts or [""]
    return texts + read_prompts(str(file), read)
