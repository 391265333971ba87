"""`llmkit finetune` and `llmkit finetune-cls`."""

import typer

from llmkit.cli import options


def finetune_command(
    context: typer.Context,
    out: options.RunFolder,
    recipe: options.RecipeArgument = None,
    data: options.Rows = None,
    model: options.StartModel = None,
    validation: options.ValidationRows = None,
    test: options.TestRows = None,
    text: options.Text = None,
    pair: options.Pair = None,
    label: options.Label = None,
    folds: options.Folds = None,
    seeds: options.Seeds = 1,
    learning_curve: options.LearningCurve = None,
    label_map: options.LabelMap = None,
    delimiter: options.Delimiter = None,
    sheet: options.Sheet = None,
    header: options.HasHeader = None,
    unseen_labels: options.UnseenLabels = None,
    skip_bad: options.SkipBad = False,
    show_samples: options.ShowSamples = False,
    set_: options.Set = None,
    resume: options.Resume = None,
    allow: options.Allow = None,
    overwrite: options.Overwrite = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    nproc: options.Nproc = None,
    engine: options.Engine = None,
    nnodes: options.Nnodes = 1,
    rdzv_endpoint: options.RdzvEndpoint = None,
) -> None:
    """Fine-tune a classifier on labelled texts.

    Columns are detected from the header or the content, and printed. Several labels per row: a list, or
    `-s "cls.separator=;"`; a number per row: `-s cls.labels=regression`.
    """
    from llmkit.cli.row_training import RowTraining

    overrides = options.overrides_of(
        set_,
        engine=("train.engine", engine),
        skip_bad=("prepare.read.skip_bad", skip_bad),
        delimiter=("prepare.read.delimiter", delimiter),
        sheet=("prepare.read.sheet", sheet),
        header=("prepare.read.header", options.word_of(header)),
    )
    columns = {"text": text, "pair": pair, "label": label, "unseen_labels": unseen_labels, "label_map": label_map}
    RowTraining(
        out=out, recipe=recipe, model=model, data=data, validation=validation, test=test, columns=columns,
        overrides=overrides, folds=folds, seeds=seeds, learning_curve=learning_curve, show_samples=show_samples,
        resume=resume, allow=allow or (), overwrite=overwrite, dry_run=dry_run, json=json,
        distributed=options.DistributedOptions(nproc, nnodes, rdzv_endpoint),
    ).run(options.task_in_name(context))  # fmt: skip
