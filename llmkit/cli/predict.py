"""`llmkit predict`."""

import sys

from llmkit.cli import options
from llmkit.core import console


def predict_command(
    model: options.Model,
    data: options.PredictData = "-",
    out: options.PredictOut = None,
    text: options.Text = None,
    pair: options.Pair = None,
    question: options.Question = None,
    context: options.Context = None,
    label_map: options.LabelMap = None,
    delimiter: options.Delimiter = None,
    sheet: options.Sheet = None,
    header: options.HasHeader = None,
    probabilities: options.Probabilities = False,
    format_: options.Format = None,
    safe_csv: options.SafeCsv = False,
    excel: options.Excel = False,
    skip_bad: options.SkipBad = False,
    overwrite: options.Overwrite = False,
    recipe: options.RecipeOption = None,
    set_: options.Set = None,
    json: options.Json = False,
) -> None:
    """Predict labels for new rows with a classifier.

    Writes all rows in order, with all columns, the predicted label and its probability.
    """
    from llmkit.cli.output import show_json, show_line, write_out
    from llmkit.config.command_keys import check_overrides
    from llmkit.config.loading import load_recipe

    overrides = options.overrides_of(
        set_, skip_bad=("prepare.read.skip_bad", skip_bad), delimiter=("prepare.read.delimiter", delimiter),
        sheet=("prepare.read.sheet", sheet),
        header=("prepare.read.header", options.word_of(header)),
    )  # fmt: skip
    check_overrides("predict", set_ or ())
    columns = {"text": text, "pair": pair, "label_map": label_map, "question": question, "context": context}
    config = load_recipe(options.own_recipe(model, recipe), overrides, columns=columns, forget_columns=recipe is None)
    from llmkit.evaluating.predict import check_out, predict

    check_out(out, data, format_, overwrite=overwrite)
    options.check_model(model)
    options.check_data([data])

    def write(line: str) -> None:
        show_line(line) if sys.stdout.isatty() else write_out(line)

    result = predict(
        config, model=model, data=data, out=out, write=write,
        file_format="jsonl" if json and out is None and format_ is None else format_,
        all_probabilities=probabilities, overwrite=overwrite, safe_csv=safe_csv, excel=excel,
    )  # fmt: skip
    if json and out is not None:
        show_json(result)
    elif out is not None:
        console.info(f"{console.count(result['n_rows'], 'row')} written to {out}")
