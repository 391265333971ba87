"""`llmkit eval`."""

from typing import Annotated

import typer

from llmkit.cli.options import (
    JsonOption,
    LabelOption,
    ModelArgument,
    PairOption,
    RecipeOption,
    SetOption,
    ShowSamplesOption,
    SkipBadOption,
    TextOption,
    UnseenOption,
    own_recipe,
)


def eval_command(
    model: ModelArgument,
    data: Annotated[
        list[str] | None,
        typer.Option("--data", help="A prepared folder, text, or labelled rows; default: what it was trained on."),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Of a prepared folder: validation, test, train.")] = None,
    stride: Annotated[int | None, typer.Option(help="Tokens scored a window; the rest of it is context.")] = None,
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
    """Score a language model on a whole text, or a classifier on rows with labels.

    Perplexity, bits per byte and accuracy, exactly, weighted by tokens; for labels accuracy, F1 and more, with
    intervals.
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
