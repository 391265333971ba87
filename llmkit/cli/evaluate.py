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

    overrides = [*(set_ or []), *(["prepare.read.skip_bad=true"] if skip_bad else [])]
    overrides += [f"evaluate.split={split}"] if split else []
    overrides += [f"evaluate.stride={stride}"] if stride is not None else []
    columns = {"text": text, "pair": pair, "label": label, "unseen_labels": unseen_labels}
    config = load_recipe(options.own_recipe(model, recipe), overrides, columns=columns, forget_columns=recipe is None)
    from llmkit.evaluating.evaluate import evaluate  # torch loads here, so --help stays instant

    (show_json if json else show_metrics)(evaluate(config, model=model, data=data or (), show_samples=show_samples))
