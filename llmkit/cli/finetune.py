"""`llmkit finetune` and `llmkit finetune-cls`."""

import typer

from llmkit.cli.options import (
    COMMAND_STARTED,
    AllowOption,
    DistributedOptions,
    DryRunOption,
    EngineOption,
    FoldsOption,
    JsonOption,
    LabelOption,
    NnodesOption,
    NprocOption,
    OverwriteOption,
    PairOption,
    RdzvOption,
    RecipeArgument,
    ResumeOption,
    RowsOption,
    RunOption,
    SeedsOption,
    SetOption,
    ShowSamplesOption,
    SkipBadOption,
    StartOption,
    TestRowsOption,
    TextOption,
    UnseenOption,
    ValidationRowsOption,
    check_command,
    own_recipe,
    resume_of,
)


def finetune_command(
    context: typer.Context,
    out: RunOption,
    recipe: RecipeArgument = None,
    data: RowsOption = None,
    model: StartOption = None,
    validation: ValidationRowsOption = None,
    test: TestRowsOption = None,
    text: TextOption = None,
    pair: PairOption = None,
    label: LabelOption = None,
    folds: FoldsOption = None,
    seeds: SeedsOption = 1,
    unseen_labels: UnseenOption = None,
    skip_bad: SkipBadOption = False,
    show_samples: ShowSamplesOption = False,
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
    """Fine-tune a classifier on labelled texts.

    Columns are detected from the header or the content, and printed. Several labels per row: a list, or
    `-s "cls.separator=;"`; a number per row: `-s cls.labels=regression`. `finetune` runs the recipe's `task`;
    `finetune-cls` always trains a classifier.
    """
    from llmkit.cli.output import echo, show_json, show_metrics, show_series
    from llmkit.config.loading import load_recipe
    from llmkit.training.folder import read_series

    task = (context.info_name or "").partition("-")[2] or None
    distributed = DistributedOptions(nproc, nnodes, rdzv_endpoint, engine)
    overrides = [*distributed.overrides, *(set_ or [])]
    overrides += ["prepare.read.skip_bad=true"] if skip_bad else []
    columns = {"text": text, "pair": pair, "label": label, "unseen_labels": unseen_labels}
    named = {"train": data, "validation": validation, "test": test}
    files = {name: path for name, path in named.items() if path is not None}
    recipe = own_recipe(out, recipe) if resume else recipe
    config = load_recipe(recipe, overrides, task=task, columns=columns)
    check_command(config, recipe, "finetune", task)
    if resume and not folds and seeds == 1:
        folds, seeds = read_series(out)
    if (folds or seeds > 1) and not dry_run:
        distributed.refuse("several folds or seeds run one after the other, on one process", "--folds, --seeds")
        from llmkit.runs.repeat import finetune_repeatedly

        summary = finetune_repeatedly(
            config, files=files, out=out, model=model, folds=folds, seeds=seeds, resume=resume_of(resume),
            overwrite=overwrite, show_samples=show_samples,
        )  # fmt: skip
        show_json(summary) if json else show_series(summary, config.task, out)
        return
    if not dry_run:
        distributed.launch()
    from llmkit.runs.train import finetune  # torch loads here, so --help stays instant

    result = finetune(
        config, files=files, out=out, model=model, resume=resume_of(resume), overwrite=overwrite, dry_run=dry_run,
        allow=allow or (), started=COMMAND_STARTED, show_samples=show_samples, fold=(0, folds) if folds else None,
    )  # fmt: skip
    if json:
        show_json(result)
    elif dry_run:
        rows = f"{result['samples_per_epoch']:,} rows per epoch"
        echo(f"{result['recipe']}\n# {result['n_parameters']:,} weights, {rows}")
    else:
        split = "test" if "test" in result else "validation"
        if split in result:
            echo(f"on the {split} rows")
            show_metrics(result[split])
        echo(f"{'model':<22} {out / 'model'}\n{'report':<22} {out / 'report.html'}")
