"""`llmkit pretrain`, `llmkit pretrain-clm` and `llmkit pretrain-mlm`."""

from pathlib import Path

from llmkit.cli.options import (
    COMMAND_STARTED,
    AllowOption,
    DataOption,
    DistributedOptions,
    DryRunOption,
    EngineOption,
    JsonOption,
    NnodesOption,
    NprocOption,
    OverwriteOption,
    RdzvOption,
    RecipeArgument,
    Resume,
    ResumeOption,
    RunOption,
    SetOption,
    StartOption,
    check_command,
    own_recipe,
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
    """Pretrain a model for the recipe's `task`."""
    distributed = DistributedOptions(nproc, nnodes, rdzv_endpoint, engine)
    _pretrain(None, recipe, data, out, model, set_, resume, allow, overwrite, dry_run, json, distributed)


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
    distributed = DistributedOptions(nproc, nnodes, rdzv_endpoint, engine)
    _pretrain("clm", recipe, data, out, model, set_, resume, allow, overwrite, dry_run, json, distributed)


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
    """Pretrain a masked language model: BERT (masked tokens and next sentence), ModernBERT.

    Prepare the data with `-s prepare.tokenizer.kind=wordpiece` or with the tokenizer of a BERT.
    """
    distributed = DistributedOptions(nproc, nnodes, rdzv_endpoint, engine)
    _pretrain("mlm", recipe, data, out, model, set_, resume, allow, overwrite, dry_run, json, distributed)


def _pretrain(
    task: str | None, recipe: Path | None, data: Path, out: Path, model: str | None, set_: list[str] | None,
    resume: Resume | None, allow: list[str] | None, overwrite: bool, dry_run: bool, json: bool,
    distributed: DistributedOptions,
) -> None:  # fmt: skip
    from llmkit.cli.output import echo, show_json, show_metrics
    from llmkit.config.loading import load_recipe

    recipe = own_recipe(out, recipe) if resume else recipe
    config = load_recipe(recipe, [*distributed.overrides, *(set_ or [])], task)
    check_command(config, recipe, "pretrain", task)
    if not dry_run:
        distributed.launch()
    from llmkit.runs.train import pretrain  # torch loads here, so --help stays instant

    result = pretrain(
        config, data=data, out=out, model=model, resume=resume_of(resume), overwrite=overwrite, dry_run=dry_run,
        allow=allow or (), started=COMMAND_STARTED,
    )  # fmt: skip
    if json:
        show_json(result)
    elif dry_run:
        n_samples = f"{result['samples_per_epoch']:,} sequences per epoch"
        echo(f"{result['recipe']}\n# {result['n_parameters']:,} weights, {n_samples}")
    else:
        if "validation" in result:
            show_metrics(result["validation"])
        echo(f"{'model':<22} {out / 'model'}\n{'report':<22} {out / 'report.html'}")
