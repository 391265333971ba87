"""The options that several commands share; each has one name and one meaning everywhere."""

import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from llmkit.core.errors import UsageError

if TYPE_CHECKING:
    from llmkit.config.recipe import Recipe

COMMAND_STARTED = time.perf_counter()
"""Start of `train.max_minutes`: when the command line is imported, before anything slow."""


def resume_of(option: "Resume | None") -> bool | Literal["auto"]:
    """As training takes it."""
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


def check_command(config: "Recipe", path: Path | None, command: str, task: str | None) -> None:
    """Refuse a recipe that is for another command; `task` is the command's own.

    Raises:
        UsageError: names the command that runs it.
    """
    if command in config.COMMANDS and task in (None, config.task):
        return
    from llmkit.config.recipe import RECIPES

    fitting = [name for name, recipe in RECIPES.items() if command in recipe.COMMANDS]
    named = f"llmkit {command}{f'-{task}' if task else ''}"
    what = f"the recipe's task is {config.task}, which `{named}` does not train"
    hint = f"use llmkit {config.COMMANDS[0]}-{config.task}, or write `task: {task or ' or '.join(fitting)}` into it"
    raise UsageError(what, where=f"{path or 'recipe'}, task", hint=hint)
