"""`llmkit eval`."""

from llmkit.cli.options import (
    EvalDataOption,
    JsonOption,
    LabelOption,
    ModelArgument,
    PairOption,
    RecipeOption,
    SetOption,
    ShowSamplesOption,
    SkipBadOption,
    SplitOption,
    StrideOption,
    TextOption,
    UnseenOption,
    own_recipe,
)


def eval_command(
    model: ModelArgument,
    data: EvalDataOption = None,
    split: SplitOption = None,
    stride: StrideOption = None,
    text: TextOption = None,
    pair: PairOption = None,
    label: LabelOption = None,
    unseen_labels: UnseenOption = None,
    skip_bad: SkipBadOption = False,
    show_samples: ShowSamplesOption = False,
    recipe: RecipeOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
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
    config = load_recipe(own_recipe(model, recipe), overrides, columns=columns, forget_columns=recipe is None)
    from llmkit.evaluating.evaluate import evaluate  # torch loads here, so --help stays instant

    (show_json if json else show_metrics)(evaluate(config, model=model, data=data or (), show_samples=show_samples))
