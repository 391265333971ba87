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
    question: options.Question = None,
    context: options.Context = None,
    answer: options.Answer = None,
    label_map: options.LabelMap = None,
    delimiter: options.Delimiter = None,
    sheet: options.Sheet = None,
    header: options.HasHeader = None,
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
    from llmkit.config.command_keys import check_overrides
    from llmkit.config.loading import load_recipe

    overrides = options.overrides_of(
        set_, skip_bad=("prepare.read.skip_bad", skip_bad),
        delimiter=("prepare.read.delimiter", delimiter), sheet=("prepare.read.sheet", sheet),
        header=("prepare.read.header", options.word_of(header)),
        split=("evaluate.split", split),
        stride=("evaluate.stride", stride), text=("prepare.read.field", text),
    )  # fmt: skip
    check_overrides("eval", set_ or ())
    columns = {
        "text": text, "pair": pair, "label": label, "unseen_labels": unseen_labels, "label_map": label_map,
        "question": question, "context": context, "answer": answer,
    }  # fmt: skip
    recipe_file = options.own_recipe(model, recipe)
    task = None
    if recipe_file is None:
        options.check_model(model)
        options.check_data(data or ())
        from llmkit.models.loading import resolve_model
        from llmkit.tasks.table import task_of_model

        task = task_of_model(resolve_model(model)).name
    config = load_recipe(recipe_file, overrides, task, columns=columns, forget_columns=recipe is None)
    if recipe_file is not None:
        options.check_model(model)
        options.check_data(data or ())
    from llmkit.evaluating.evaluate import check_columns, evaluate  # torch loads here, so --help stays instant

    named = {"text": text, "pair": pair, "label": label, "question": question, "context": context, "answer": answer}
    check_columns(named, data or ())
    (show_json if json else show_metrics)(evaluate(config, model=model, data=data or (), show_samples=show_samples))
