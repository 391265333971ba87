"""`llmkit pretrain`, `llmkit pretrain-clm` and `llmkit pretrain-mlm`."""

import typer

from llmkit.cli import options
from llmkit.core.errors import UsageError


def pretrain_command(
    context: typer.Context,
    out: options.RunFolder,
    recipe: options.RecipeArgument = None,
    data: options.Data = None,
    model: options.StartModel = None,
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
    """Pretrain a model on a prepared folder, for the task that the command or the recipe names."""
    from llmkit.cli.output import show_dry_run, show_json, show_run
    from llmkit.config.loading import load_recipe
    from llmkit.training.inputs import choose_prepared, is_resumed_alone

    task = options.task_in_name(context)
    distributed = options.DistributedOptions(nproc, nnodes, rdzv_endpoint)
    is_alone = is_resumed_alone(out, options.resume_of(resume), recipe)
    recipe = options.own_recipe(out, recipe) if resume else recipe
    if task is None and recipe is None:
        hint = "name a recipe, or use pretrain-clm or pretrain-mlm, which need none"
        raise UsageError("pretrain takes its task from a recipe", where="llmkit pretrain", hint=hint)
    config = load_recipe(recipe, options.overrides_of(set_, engine=("train.engine", engine)), task)
    options.check_command(config, recipe, "pretrain", task)
    model, prepared = choose_prepared(config, recipe, model, data, out if is_alone else None)
    if model is not None:
        options.check_model(model)
    if not (prepared / "manifest.json").is_file():
        from llmkit.tokens.prepared import load_prepared

        load_prepared(prepared)  # reports problems of the folder before torch is imported
    options.check_run_options(
        out, resume, overwrite=overwrite, dry_run=dry_run, inputs=[str(prepared), model], nnodes=nnodes
    )
    if not dry_run:
        distributed.launch()
    from llmkit.runs.train import pretrain  # torch loads here, so --help stays instant

    result = pretrain(
        config, data=prepared, out=out, model=model, resume=options.resume_of(resume), overwrite=overwrite,
        dry_run=dry_run, allow=allow or (), started=options.COMMAND_STARTED,
    )  # fmt: skip
    if json:
        show_json(result)
    elif dry_run:
        show_dry_run(result, "sequence")
    else:
        show_run(result, out, splits=("validation",))
