"""The options that several commands share; each has one name and one meaning everywhere."""

import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

COMMAND_STARTED = time.perf_counter()
"""Start of `train.max_minutes`: when the command line is imported, before anything slow."""


def resume_of(option: "Resume | None") -> bool | Literal["auto"]:
    """As the pipelines take it."""
    return "auto" if option == Resume.auto else option is not None


def own_recipe(model: str, recipe: Path | None) -> Path | None:
    """Without a recipe on the command line, a run is scored and written with by its own."""
    kept = Path(model) / "recipe.yaml"
    return kept if recipe is None and kept.is_file() else recipe


RecipeArgument = Annotated[Path | None, typer.Argument(help="A recipe (YAML); without it, good defaults.")]
RecipeOption = Annotated[Path | None, typer.Option("--recipe", help="A recipe (YAML).")]
ModelArgument = Annotated[str, typer.Argument(help="A run folder, a saved model folder, or a hub name.")]
DataOption = Annotated[Path, typer.Option("--data", help="A folder that `llmkit prepare` made.")]
RunOption = Annotated[Path, typer.Option("--out", help="The run folder to write.")]
StartOption = Annotated[str | None, typer.Option("--model", help="Start from these weights, with their tokenizer.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", "-s", help="section.key=value, beats the recipe; repeatable.")
]


class Resume(StrEnum):
    """What may follow `--resume`; nothing is `now`, see cli/app.py."""

    now = "now"
    auto = "auto"


ResumeOption = Annotated[
    Resume | None, typer.Option("--resume", metavar="[auto]", help="Go on with the run in --out; auto: or start it.")
]
AllowOption = Annotated[
    list[str] | None, typer.Option(help="With --resume: a field or fingerprint that may have changed; repeatable.")
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace what --out holds.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print the resolved recipe, check, start nothing.")]
JsonOption = Annotated[bool, typer.Option("--json", help="The result as JSON on stdout.")]
TextOption = Annotated[str | None, typer.Option("--text", help="The column with the text; guessed unless given.")]
PairOption = Annotated[str | None, typer.Option("--pair", help="The column with a second text.")]
LabelOption = Annotated[str | None, typer.Option("--label", help="The column with the label.")]
UnseenOption = Annotated[
    str | None, typer.Option("--unseen-labels", help="refuse (default) or ignore rows whose label training never saw.")
]
SkipBadOption = Annotated[bool, typer.Option("--skip-bad", help="Leave out and count rows that cannot be used.")]
ShowSamplesOption = Annotated[
    bool, typer.Option("--show-samples", help="Put the most confident mistakes, with their texts, into the report.")
]


def column_overrides(
    text: str | None, pair: str | None, label: str | None, unseen_labels: str | None = None, skip_bad: bool = False
) -> list[str]:
    """The options on columns and rows, as `--set` would say them."""
    given = {"text": text, "pair": pair, "label": label, "unseen_labels": unseen_labels}
    overrides = [f"cls.{name}={quote(value)}" for name, value in given.items() if value is not None]
    return [*overrides, "prepare.read.skip_bad=true"] if skip_bad else overrides


FORGET_COLUMNS = ("cls.text=null", "cls.pair=null", "cls.label=null", "cls.header=auto", "cls.separator=null")
"""What a run's own recipe says of its train file does not hold for another one; config.json knows the names."""


def overrides_for_file(recipe: Path | None, set_: list[str] | None, columns: list[str]) -> list[str]:
    """What is typed, on top of a given recipe, or of the run's own without its columns."""
    return [*(FORGET_COLUMNS if recipe is None else ()), *(set_ or []), *columns]


def quote(text: str) -> str:
    """Text that YAML reads as text, whatever it looks like: a column may be called 1 or yes."""
    return "'" + text.replace("'", "''") + "'"
