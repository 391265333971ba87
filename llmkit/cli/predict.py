"""`llmkit predict`."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from llmkit.cli.options import (
    JsonOption,
    ModelArgument,
    OverwriteOption,
    PairOption,
    RecipeOption,
    SetOption,
    SkipBadOption,
    TextOption,
    own_recipe,
)


def predict_command(
    model: ModelArgument,
    data: Annotated[str, typer.Option("--data", help="Texts: .csv .tsv .jsonl .parquet .txt hf:NAME; - stdin.")] = "-",
    out: Annotated[Path | None, typer.Option("--out", help="A .csv, .tsv or .jsonl; else stdout.")] = None,
    text: TextOption = None,
    pair: PairOption = None,
    probabilities: Annotated[bool, typer.Option("--probabilities", help="A column for each label.")] = False,
    format_: Annotated[
        Literal["csv", "tsv", "jsonl"] | None, typer.Option("--format", help="Of the result; csv on stdout.")
    ] = None,
    skip_bad: SkipBadOption = False,
    overwrite: OverwriteOption = False,
    recipe: RecipeOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Label new rows with a classifier.

    Each row comes back in its place with all its columns, its label and the label's probability.
    """
    from llmkit.cli.output import show_json, show_line, write_out
    from llmkit.config.loading import load_recipe

    overrides = [*(set_ or []), *(["prepare.read.skip_bad=true"] if skip_bad else [])]
    columns = {"text": text, "pair": pair}
    config = load_recipe(own_recipe(model, recipe), overrides, columns=columns, forget_columns=recipe is None)
    from llmkit.evaluating.predict import predict  # torch loads here, so --help stays instant

    def write(line: str) -> None:
        show_line(line) if sys.stdout.isatty() else write_out(line)

    result = predict(
        config, model=model, data=data, out=out, write=write,
        file_format="jsonl" if json and out is None and format_ is None else format_,
        all_probabilities=probabilities, overwrite=overwrite,
    )  # fmt: skip
    if json and out is not None:
        show_json(result)
