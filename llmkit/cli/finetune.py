"""`llmkit finetune` and `llmkit finetune-cls`."""

from typing import Annotated

import typer

from llmkit.cli.distributed_options import DistributedOptions, EngineOption, NnodesOption, NprocOption, RdzvOption
from llmkit.cli.options import (
    COMMAND_STARTED,
    AllowOption,
    DryRunOption,
    JsonOption,
    LabelOption,
    OverwriteOption,
    PairOption,
    RecipeArgument,
    ResumeOption,
    RunOption,
    SetOption,
    ShowSamplesOption,
    SkipBadOption,
    StartOption,
    TextOption,
    UnseenOption,
    check_command,
    resume_of,
)

FileOption = Annotated[str | None, typer.Option("--data", help="Texts and labels: .csv .tsv .jsonl .parquet, hf:NAME.")]
ValidationOption = Annotated[str | None, typer.Option("--validation", help="Its own file; else a tenth is held out.")]
TestOption = Annotated[str | None, typer.Option("--test", help="A file to score once training has ended.")]
FoldsOption = Annotated[int | None, typer.Option(min=2, help="Cross-validate: so many runs, each on the other folds.")]
SeedsOption = Annotated[int, typer.Option(min=1, help="Number of seeds; reports mean and standard deviation.")]


def finetune_command(
    context: typer.Context,
    out: RunOption,
    recipe: RecipeArgument = None,
    data: FileOption = None,
    model: StartOption = None,
    validation: ValidationOption = None,
    test: TestOption = None,
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
    """Fine-tune a classifier on texts with labels.

    Columns are guessed from the header or the shape of the file, and said. Several labels a row: a list, or
    `-s "cls.separator=;"`; a number a row: `-s cls.labels=regression`. `finetune` goes by the recipe's `task`,
    `finetune-cls` names it.
    """
    from llmkit.cli.output import echo, show_json, show_metrics, show_series
    from llmkit.config.loading import load_recipe
    from llmkit.training.folder import read_series

    task = (context.info_name or "").partition("-")[2] or None
    several = DistributedOptions(nproc, nnodes, rdzv_endpoint, engine)
    overrides = [*several.overrides, *(set_ or [])]
    overrides += ["prepare.read.skip_bad=true"] if skip_bad else []
    columns = {"text": text, "pair": pair, "label": label, "unseen_labels": unseen_labels}
    named = {"train": data, "validation": validation, "test": test}
    files = {name: path for name, path in named.items() if path is not None}
    kept = out / "recipe.yaml"
    recipe = kept if resume and recipe is None and kept.is_file() else recipe
    config = load_recipe(recipe, overrides, task=task, columns=columns)
    check_command(config, recipe, "finetune", task)
    if resume and not folds and seeds == 1:
        folds, seeds = read_series(out)
    if (folds or seeds > 1) and not dry_run:
        several.refuse("a series of runs is done one after the other, each on one process", "--folds, --seeds")
        from llmkit.runs.repeat import finetune_repeatedly

        summary = finetune_repeatedly(
            config, files=files, out=out, model=model, folds=folds, seeds=seeds, resume=resume_of(resume),
            overwrite=overwrite, show_samples=show_samples,
        )  # fmt: skip
        show_json(summary) if json else show_series(summary, config.task, out)
        return
    if not dry_run:
        several.launch()
    from llmkit.runs.train import finetune  # torch loads here, so --help stays instant

    result = finetune(
        config, files=files, out=out, model=model, resume=resume_of(resume), overwrite=overwrite, dry_run=dry_run,
        allow=allow or (), started=COMMAND_STARTED, show_samples=show_samples, fold=(0, folds) if folds else None,
    )  # fmt: skip
    if json:
        show_json(result)
    elif dry_run:
        rows = f"{result['samples_per_epoch']:,} rows an epoch"
        echo(f"{result['recipe']}\n# {result['n_parameters']:,} weights, {rows}")
    else:
        split = "test" if "test" in result else "validation"
        if split in result:
            echo(f"on the {split} rows")
            show_metrics(result[split])
        echo(f"{'model':<22} {out / 'model'}\n{'report':<22} {out / 'report.html'}")
