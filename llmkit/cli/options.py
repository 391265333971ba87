"""The options that several commands share; each has one name and one meaning everywhere."""

from pathlib import Path
from typing import Annotated

import typer


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
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace what --out holds.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print the resolved recipe, check, start nothing.")]
JsonOption = Annotated[bool, typer.Option("--json", help="The result as JSON on stdout.")]
