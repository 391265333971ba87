"""Predict labels, entities or answers for the rows of a file, streamed in order, keeping all columns."""

from pathlib import Path
from typing import Any

from llmkit.config.recipe import Recipe
from llmkit.core import console
from llmkit.core.errors import UsageError
from llmkit.core.files import new_file
from llmkit.core.lock import lock_output
from llmkit.core.output_paths import check_writable, expand_home, refuse_special
from llmkit.evaluating.row_writer import Format, RowWriter, Write
from llmkit.tables.rows import Data
from llmkit.tasks.base import PredictionRequest
from llmkit.tasks.table import task_of_model


def predict(
    recipe: Recipe,
    *,
    model: str,
    data: Data,
    out: Path | None,
    write: Write,
    file_format: Format | None = None,
    all_probabilities: bool = False,
    overwrite: bool = False,
    safe_csv: bool = False,
    excel: bool = False,
) -> dict[str, Any]:
    """Write each row of `data` (tables/rows.py) with its prediction to `out`; without `out`, to `write`.

    A classifier adds the predicted label and its probability; `all_probabilities` adds one column per label. `safe_csv`
    and `excel` are `is_safe` and `for_excel` of RowWriter. `out` is complete or absent. Returns row counts.

    Raises:
        UsageError: the model's task has no predictions, `out` exists, or the format has no such option.
        DataError: the file cannot be read (tables/rows.py), or already has a column that `predict` adds.
        ModelError: the model cannot be used.
    """
    from llmkit.models.loading import resolve_model  # imports torch, which check_out does not need

    chosen = check_out(out, data, file_format, overwrite=overwrite)
    path = resolve_model(model)
    task = task_of_model(path)

    if (safe_csv and chosen == "jsonl") or (excel and chosen != "csv"):
        option = "--excel" if excel else "--safe-csv"
        what = f"{option} does not apply to the format {chosen}"
        raise UsageError(what, where="--format", hint=f"leave out {option}, or write a .csv")

    def run(write: Write) -> dict[str, Any]:
        writer = RowWriter(write, chosen, is_safe=safe_csv, for_excel=excel)
        result = task.predict(recipe, PredictionRequest(model, path, data, all_probabilities, writer.begin))
        for note in writer.describe():
            console.info(note)
        return result | ({"n_escaped": writer.n_escaped} if safe_csv else {})

    if out is None:
        return run(write)
    with lock_output(out), new_file(out) as file:
        return run(file.write)


def _format_of(out: Path | None) -> Format:
    if out is None or out.suffix == ".csv":
        return "csv"
    if out.suffix in (".tsv", ".jsonl"):
        return "tsv" if out.suffix == ".tsv" else "jsonl"
    if out.is_dir():
        raise UsageError(f"{str(out)!r} is a folder", where="--out", hint="give the name of a file: labelled.csv")
    if out.suffix.casefold() in (".xlsx", ".xls"):
        hint = f"write a .csv that Excel opens without changing cells: --out {out.with_suffix('.csv').name} --excel"
        raise UsageError(f"predictions are not written as {out.suffix}", where="--out", hint=hint)
    hint = "use the suffix .csv, .tsv or .jsonl, or set --format"
    raise UsageError(f"the output format of {out.name!r} is unknown", where="--out", hint=hint)


def check_out(out: Path | None, data: Data, file_format: Format | None, *, overwrite: bool) -> Format:
    """Check the file that predictions are written to, before slow imports; returns its format.

    Raises:
        UsageError: the suffix is unknown, or `out` exists, or is a folder, a device or the input.
        EnvironmentFault: `out` is not writable.
    """
    chosen = file_format or _format_of(out)
    if out is None:
        return chosen
    refuse_special(out)
    given = expand_home(data) if isinstance(data, str) else None
    if out.exists() and given is not None and given.exists() and out.samefile(given):
        raise UsageError(f"{str(out)!r} is the input, --data", where="--out", hint="give another name")
    if out.exists() and not overwrite:
        raise UsageError(f"{str(out)!r} exists", where="--out", hint="give another name, or --overwrite")
    check_writable(out)
    return chosen
