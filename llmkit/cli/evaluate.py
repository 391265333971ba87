"""`llmkit eval`."""

from typing import Annotated

import typer

from llmkit.cli.options import JsonOption, ModelArgument, RecipeOption, SetOption, own_recipe


def eval_command(
    model: ModelArgument,
    data: Annotated[
        list[str] | None, typer.Option("--data", help="A prepared folder or text; default: what it was trained on.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Of a prepared folder: validation, test, train.")] = None,
    stride: Annotated[int | None, typer.Option(help="Tokens scored a window; the rest of it is context.")] = None,
    recipe: RecipeOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Score a language model on a whole text.

    Perplexity, bits per byte and accuracy, exactly, weighted by tokens.
    """
    from llmkit.cli.output import show_json, show_metrics
    from llmkit.config.loading import load_recipe

    overrides = [*(set_ or [])]
    overrides += [f"evaluate.split={split}"] if split else []
    overrides += [f"evaluate.stride={stride}"] if stride is not None else []
    config = load_recipe(own_recipe(model, recipe), overrides)
    from llmkit.pipelines.evaluate import evaluate  # torch loads here, so --help stays instant

    (show_json if json else show_metrics)(evaluate(config, model=model, data=data or ()))
