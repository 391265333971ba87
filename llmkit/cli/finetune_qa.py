"""`llmkit finetune-qa`."""

import typer

from llmkit.cli import options


def finetune_qa_command(
    context: typer.Context,
    out: options.RunFolder,
    recipe: options.RecipeArgument = None,
    data: options.Questions = None,
    model: options.StartModel = None,
    validation: options.ValidationRows = None,
    test: options.TestRows = None,
    question: options.Question = None,
    context_column: options.Context = None,
    answer: options.Answer = None,
    folds: options.Folds = None,
    seeds: options.Seeds = 1,
    learning_curve: options.LearningCurve = None,
    delimiter: options.Delimiter = None,
    sheet: options.Sheet = None,
    header: options.HasHeader = None,
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
    """Fine-tune a model that answers questions with a part of a text.

    Reads files in the form of SQuAD 1.1 and 2.0 and of CMRC 2018, and tables with one question per row, whose columns
    are detected and printed.
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
    RowTraining(
        out=out, recipe=recipe, model=model, data=data, validation=validation, test=test,
        columns={"question": question, "context": context_column, "answer": answer}, overrides=overrides, folds=folds,
        seeds=seeds, learning_curve=learning_curve, show_samples=show_samples, resume=resume, allow=allow or (),
        overwrite=overwrite, dry_run=dry_run, json=json,
        distributed=options.DistributedOptions(nproc, nnodes, rdzv_endpoint),
    ).run(options.task_in_name(context))  # fmt: skip
