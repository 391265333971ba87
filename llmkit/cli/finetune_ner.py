"""`llmkit finetune-ner`."""

import typer

from llmkit.cli import options


def finetune_ner_command(
    context: typer.Context,
    out: options.RunFolder,
    recipe: options.RecipeArgument = None,
    data: options.TaggedRows = None,
    model: options.StartModel = None,
    validation: options.ValidationRows = None,
    test: options.TestRows = None,
    tag_column: options.TagColumn = None,
    folds: options.Folds = None,
    seeds: options.Seeds = 1,
    learning_curve: options.LearningCurve = None,
    delimiter: options.Delimiter = None,
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
    """Fine-tune a tagger of entities on tagged words.

    Files are CoNLL columns, or tables with lists of words and tags, or texts with the character offsets of
    entities. Schemes (BIO, IOB1, BIOES, BMES) and columns are recognized and printed.
    """
    from llmkit.cli.row_training import RowTraining

    overrides = options.overrides_of(
        set_,
        engine=("train.engine", engine),
        skip_bad=("prepare.read.skip_bad", skip_bad),
        delimiter=("prepare.read.delimiter", delimiter),
        header=("prepare.read.header", options.word_of(header)),
        tag_column=("ner.tag_column", tag_column),
    )
    RowTraining(
        out=out, recipe=recipe, model=model, data=data, validation=validation, test=test,
        columns={"unseen_labels": unseen_labels}, overrides=overrides, folds=folds, seeds=seeds,
        learning_curve=learning_curve, show_samples=show_samples, resume=resume, allow=allow or (),
        overwrite=overwrite, dry_run=dry_run, json=json,
        distributed=options.DistributedOptions(nproc, nnodes, rdzv_endpoint),
    ).run(options.task_in_name(context))  # fmt: skip
