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
    from llmkit.cli.output import show_dry_run, show_json, show_run, show_series
    from llmkit.config.loading import load_recipe, require_named_code
    from llmkit.training.folder import Series, read_series, read_sizes
    from llmkit.training.inputs import choose_inputs, is_resumed_alone

    task = options.task_in_name(context)
    distributed = options.DistributedOptions(nproc, nnodes, rdzv_endpoint)
    overrides = options.overrides_of(
        set_,
        engine=("train.engine", engine),
        skip_bad=("prepare.read.skip_bad", skip_bad),
        delimiter=("prepare.read.delimiter", delimiter),
        sheet=("prepare.read.sheet", sheet),
        header=("prepare.read.header", options.word_of(header)),
        label_map=("cls.label_map", label_map),
    )
    columns = {"text": text, "pair": pair, "label": label, "unseen_labels": unseen_labels}
    named = {"train": data, "validation": validation, "test": test}
    files = {name: path for name, path in named.items() if path is not None}
    is_alone = is_resumed_alone(out, options.resume_of(resume), recipe)
    is_own = resume is not None and recipe is None
    recipe = options.own_recipe(out, recipe) if resume else recipe
    config = load_recipe(recipe, overrides, task=task, columns=columns)
    if is_own and recipe is not None:
        require_named_code(config, recipe, overrides)
    options.check_command(config, recipe, "finetune", task)
    if not is_alone:
        model, files = choose_inputs(config, recipe, model, files)
    series = Series(folds, seeds, read_sizes(learning_curve))
    if series.has_several_runs:
        what = "several folds, seeds or sizes run one after the other, in one process"
        distributed.refuse(what, "--folds, --seeds, --learning-curve")
    if model is not None:
        options.check_model(model)
    inputs = [*files.values(), model]
    if options.check_run_options(out, resume, overwrite=overwrite, dry_run=dry_run, inputs=inputs, nnodes=nnodes):
        from llmkit.tasks.table import TASKS

        TASKS[config.task].check_request(config, model, files)
    if resume and not series.has_several_runs:
        series = read_series(out)
    if series.has_several_runs and not dry_run:
        from llmkit.runs.repeat import finetune_repeatedly

        summary = finetune_repeatedly(
            config, series, files=files, out=out, model=model, resume=options.resume_of(resume), overwrite=overwrite,
            show_samples=show_samples,
        )  # fmt: skip
        if json:
            show_json(summary)
        else:
            show_series(summary, config.task, out)
        return
    if not dry_run:
        distributed.launch()
    from llmkit.runs.train import finetune  # torch loads here, so --help stays instant

    result = finetune(
        config, files=files, out=out, model=model, resume=options.resume_of(resume), overwrite=overwrite,
        dry_run=dry_run, allow=allow or (), started=options.COMMAND_STARTED, show_samples=show_samples,
        fold=(0, series.folds) if series.folds else None,
    )  # fmt: skip
    if json:
        show_json(result)
    elif dry_run:
        show_dry_run(result, "row")
    else:
        show_run(result, out, splits=("test", "validation"))
