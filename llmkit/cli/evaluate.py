"""`llmkit eval`."""

from llmkit.cli import options


def eval_command(
    model: options.Model,
    data: options.EvalData = None,
    split: options.Split = None,
    stride: options.Stride = None,
    text: options.Text = None,
    pair: options.Pair = None,
    label: options.Label = None,
    unseen_labels: options.UnseenLabels = None,
    skip_bad: options.SkipBad = False,
    show_samples: options.ShowSamples = False,
    recipe: options.RecipeOption = None,
    set_: options.Set = None,
    json: options.Json = False,
) -> None:
    """Evaluate a language model on text, or a classifier on labelled rows.

    Language models: perplexity, bits per byte and accuracy, weighted by tokens. Classifiers: accuracy, F1 and more,
    with confidence intervals.
    """
    from llmkit.cli.output import show_json, show_metrics
    from llmkit.config.loading import load_recipe

    overrides = options.overrides_of(
        set_, skip_bad=("prepare.read.skip_bad", skip_bad), split=("evaluate.split", split),
        stride=("evaluate.stride", stride), text=("prepare.read.text_column", text),
    )  # fmt: skip
    columns = {"text": text, "pair": pair, "label": label, "unseen_labels": unseen_labels}
    options.check_model(model)
    recipe_file = options.own_recipe(model, recipe)
    task = None
    if recipe_file is None:
        from llmkit.models.loading import resolve_model
        from llmkit.tasks.table import task_of_model

        task = task_of_model(resolve_model(model)).name
    config = load_recipe(recipe_file, overrides, task, columns=columns, forget_columns=recipe is None)
    from llmkit.evaluating.evaluate import evaluate  # torch loads here, so --help stays instant

    (show_json if json else show_metrics)(evaluate(config, model=model, data=data or (), show_samples=show_samples))
