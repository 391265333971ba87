"""`llmkit pretrain`, `llmkit pretrain-clm` and `llmkit pretrain-mlm`."""

from pathlib import Path

from llmkit.cli.distributed_options import DistributedOptions, EngineOption, NnodesOption, NprocOption, RdzvOption
from llmkit.cli.options import (
    COMMAND_STARTED,
    AllowOption,
    DataOption,
    DryRunOption,
    JsonOption,
    OverwriteOption,
    RecipeArgument,
    Resume,
    ResumeOption,
    RunOption,
    SetOption,
    StartOption,
    check_command,
    resume_of,
)


def pretrain_command(
    recipe: RecipeArgument,
    data: DataOption,
    out: RunOption,
    model: StartOption = None,
    set_: SetOption = None,
    resume: ResumeOption = None,
    allow: AllowOption = None,
    overwrite: OverwriteOption = False,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
    nproc: NprocOption = None,
    engine: EngineOption = None,
    nnodes: NnodesOption = 1,
    rdzv_endpoint: RdzvOption = None,
) -> None:
    """Pretrain as the recipe's `task` says."""
    several = DistributedOptions(nproc, nnodes, rdzv_endpoint, engine)
    _pretrain(None, recipe, data, out, model, set_, resume, allow, overwrite, dry_run, json, several)


def pretrain_clm_command(
    data: DataOption,
    out: RunOption,
    recipe: RecipeArgument = None,
    model: StartOption = None,
    set_: SetOption = None,
    resume: ResumeOption = None,
    allow: AllowOption = None,
    overwrite: OverwriteOption = False,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
    nproc: NprocOption = None,
    engine: EngineOption = None,
    nnodes: NnodesOption = 1,
    rdzv_endpoint: RdzvOption = None,
) -> None:
    """Pretrain a causal language model."""
    several = DistributedOptions(nproc, nnodes, rdzv_endpoint, engine)
    _pretrain("clm", recipe, data, out, model, set_, resume, allow, overwrite, dry_run, json, several)


def pretrain_mlm_command(
    data: DataOption,
    out: RunOption,
    recipe: RecipeArgument = None,
    model: StartOption = None,
    set_: SetOption = None,
    resume: ResumeOption = None,
    allow: AllowOption = None,
    overwrite: OverwriteOption = False,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
    nproc: NprocOption = None,
    engine: EngineOption = None,
    nnodes: NnodesOption = 1,
    rdzv_endpoint: RdzvOption = None,
) -> None:
    """Pretrain a BERT: masked tokens and next sentences.

    The data must be prepared with `-s prepare.tokenizer.kind=wordpiece` or with a BERT's own tokenizer.
    """
    several = DistributedOptions(nproc, nnodes, rdzv_endpoint, engine)
    _pretrain("mlm", recipe, data, out, model, set_, resume, allow, overwrite, dry_run, json, several)


def _pretrain(
    task: str | None, recipe: Path | None, data: Path, out: Path, model: str | None, set_: list[str] | None,
    resume: Resume | None, allow: list[str] | None, overwrite: bool, dry_run: bool, json: bool,
    several: DistributedOptions,
) -> None:  # fmt: skip
    from llmkit.cli.output import echo, show_json, show_metrics
    from llmkit.config.loading import load_recipe

    recipe = _own_recipe(recipe, out, resume is not None)
    config = load_recipe(recipe, [*several.overrides, *(set_ or [])], task)
    check_command(config, recipe, "pretrain", task)
    if not dry_run:
        several.launch()
    from llmkit.runs.train import pretrain  # torch loads here, so --help stays instant

    result = pretrain(
        config, data=data, out=out, model=model, resume=resume_of(resume), overwrite=overwrite, dry_run=dry_run,
        allow=allow or (), started=COMMAND_STARTED,
    )  # fmt: skip
    if json:
        show_json(result)
    elif dry_run:
        n_samples = f"{result['samples_per_epoch']:,} sequences an epoch"
        echo(f"{result['recipe']}\n# {result['n_parameters']:,} weights, {n_samples}")
    else:
        if "validation" in result:
            show_metrics(result["validation"])
        echo(f"{'model':<22} {out / 'model'}\n{'report':<22} {out / 'report.html'}")


def _own_recipe(recipe: Path | None, out: Path, resume: bool) -> Path | None:
    """A resumed run has its recipe in its folder; none need be given."""
    kept = out / "recipe.yaml"
    return kept if resume and recipe is None and kept.is_file() else recipe
