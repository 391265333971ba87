"""`llmkit pretrain` and `llmkit pretrain-clm`."""

from pathlib import Path

from llmkit.cli.options import (
    DataOption,
    DryRunOption,
    JsonOption,
    OverwriteOption,
    RecipeArgument,
    ResumeOption,
    RunOption,
    SetOption,
    StartOption,
)


def pretrain_command(
    recipe: RecipeArgument,
    data: DataOption,
    out: RunOption,
    model: StartOption = None,
    set_: SetOption = None,
    resume: ResumeOption = False,
    overwrite: OverwriteOption = False,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """Pretrain by the recipe's `objective`."""
    pretrain_clm_command(data, out, recipe, model, set_, resume, overwrite, dry_run, json)


def pretrain_clm_command(
    data: DataOption,
    out: RunOption,
    recipe: RecipeArgument = None,
    model: StartOption = None,
    set_: SetOption = None,
    resume: ResumeOption = False,
    overwrite: OverwriteOption = False,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """Pretrain a causal language model."""
    from llmkit.cli.output import echo, show_json, show_metrics
    from llmkit.config.loading import load_recipe

    config = load_recipe(_own_recipe(recipe, out, resume), set_ or [])
    from llmkit.pipelines.pretrain_clm import pretrain_clm  # torch loads here, so --help stays instant

    result = pretrain_clm(config, data=data, out=out, model=model, resume=resume, overwrite=overwrite, dry_run=dry_run)
    if json:
        show_json(result)
    elif dry_run:
        echo(f"{result['recipe']}\n{result['n_parameters']:,} weights, {result['blocks_per_epoch']:,} blocks an epoch")
    else:
        if "validation" in result:
            show_metrics(result["validation"])
        echo(f"{'model':<22} {out / 'model'}\n{'report':<22} {out / 'report.html'}")


def _own_recipe(recipe: Path | None, out: Path, resume: bool) -> Path | None:
    """A resumed run has its recipe in its folder; none need be given."""
    kept = out / "recipe.yaml"
    return kept if resume and recipe is None and kept.is_file() else recipe
