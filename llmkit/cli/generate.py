"""`llmkit generate`."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from llmkit.cli.options import JsonOption, ModelArgument, RecipeOption, SetOption, own_recipe
from llmkit.core.errors import DataError, say


def generate_command(
    model: ModelArgument,
    prompt: Annotated[
        list[str] | None, typer.Option("--prompt", help="Text to go on from; repeatable; - is stdin.")
    ] = None,
    prompts: Annotated[Path | None, typer.Option("--prompts", help="A file with one prompt a line.")] = None,
    recipe: RecipeOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Write text with a language model, or fill in a masked one's [MASK].

    Temperature, length and the like are `-s generate.key=value`.
    """
    from llmkit.cli.output import echo, show_json
    from llmkit.config.loading import load_recipe

    config = load_recipe(own_recipe(model, recipe), set_ or [])
    texts = _read_prompts(prompt or [], prompts) or [""]
    from llmkit.generating.generate import generate  # torch loads here, so --help stays instant

    if json:
        show_json(generate(config.generate, model=model, prompts=texts))
        return
    live = len(texts) == 1 and config.generate.num_samples == 1
    waiting = [texts[0]]  # the prompt is shown with the first piece of text, once nothing can go wrong any more

    def write(piece: str) -> None:
        echo(waiting.pop() + piece if waiting else piece, end="")

    records = generate(config.generate, model=model, prompts=texts, on_text=write if live else None)
    if "masks" in records[0]:
        echo("\n\n".join(_show_fills(record) for record in records))
        return
    if live:
        echo("")
    else:
        echo(f"\n{'-' * 40}\n".join(record["prompt"] + record["text"] for record in records))
    n_tokens = sum(record["n_tokens"] for record in records)
    say(f"{n_tokens:,} tokens, {records[0]['tokens_per_second']:,.0f} tokens/s")


def _show_fills(record: dict[str, Any]) -> str:
    """The candidates of each mask, one a line: probability, and the prompt with it filled in."""
    masks = ([f"{fill['probability']:>7.2%}  {fill['text']}" for fill in mask] for mask in record["masks"])
    return "\n\n".join("\n".join(lines) for lines in masks)


def _read_prompts(given: list[str], file: Path | None) -> list[str]:
    """Prompts from the command line, from stdin where one is `-`, and from a file.

    Raises:
        DataError: the file cannot be read as UTF-8.
    """
    texts = [sys.stdin.read().rstrip("\n") if text == "-" else text for text in given]
    texts = [text.encode("utf-8", "replace").decode() for text in texts]  # bytes of another encoding in the shell
    if file is None:
        return texts
    try:
        return texts + [line for line in file.read_text(encoding="utf-8-sig").splitlines() if line]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"the prompts cannot be read: {reason}", where=str(file), hint="one prompt a line, UTF-8"
        ) from None
