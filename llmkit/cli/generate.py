"""`llmkit generate`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from llmkit.cli.options import JsonOption, ModelArgument, RecipeOption, SetOption, own_recipe
from llmkit.errors import DataError


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
    """Write text; temperature, length and the like are `-s generate.key=value`."""
    from llmkit.cli.output import show_json
    from llmkit.config.loading import load_recipe

    config = load_recipe(own_recipe(model, recipe), set_ or [])
    texts = _read_prompts(prompt or [], prompts) or [""]
    from llmkit.pipelines.generate import generate  # torch loads here, so --help stays instant

    single = len(texts) == 1 and config.generate.num_samples == 1
    if json:
        show_json(generate(config.generate, model=model, prompts=texts))
    elif single:
        _write(texts[0])
        generate(config.generate, model=model, prompts=texts, on_text=_write)
        _write("\n")
    else:
        for sample in generate(config.generate, model=model, prompts=texts):
            typer.echo(_printable(sample["prompt"] + sample["text"]) + "\n" + "-" * 40)


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
        raise DataError(
            f"the prompts cannot be read: {error}", where=str(file), hint="one prompt a line, UTF-8"
        ) from None


def _write(text: str) -> None:
    sys.stdout.write(_printable(text))
    sys.stdout.flush()


def _printable(text: str) -> str:
    """A model repeats what its data held; control characters must not reach the terminal."""
    return "".join(c for c in text if c.isprintable() or c in "\n\t")
