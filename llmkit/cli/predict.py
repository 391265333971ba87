"""`llmkit predict`."""

import sys

from llmkit.cli.options import (
    FormatOption,
    JsonOption,
    ModelArgument,
    OverwriteOption,
    PairOption,
    PredictDataOption,
    PredictOutOption,
    ProbabilitiesOption,
    RecipeOption,
    SetOption,
    SkipBadOption,
    TextOption,
    own_recipe,
)


def predict_command(
    model: ModelArgument,
    data: PredictDataOption = "-",
    out: PredictOutOption = None,
    text: TextOption = None,
    pair: PairOption = None,
    probabilities: ProbabilitiesOption = False,
    format_: FormatOption = None,
    skip_bad: SkipBadOption = False,
    overwrite: OverwriteOption = False,
    recipe: RecipeOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Predict labels for new rows with a classifier.

    Writes every row in its order, with all its columns, its label and the label's probability.
    """
    from llmkit.cli.output import show_json, show_line, write_out
    from llmkit.config.loading import load_recipe

    overrides = [*(set_ or []), *(["prepare.read.skip_bad=true"] if skip_bad else [])]
    columns = {"text": text, "pair": pair}
    config = load_recipe(own_recipe(model, recipe), overrides, columns=columns, forget_columns=recipe is None)
    from llmkit.evaluating.predict import predict  # torch loads here, so --help stays instant

    def write(line: str) -> None:
        show_line(line) if sys.stdout.isatty() else write_out(line)

    result = predict(
        config, model=model, data=data, out=out, write=write,
        file_format="jsonl" if json and out is None and format_ is None else format_,
        all_probabilities=probabilities, overwrite=overwrite,
    )  # fmt: skip
    if json and out is not None:
        show_json(result)
