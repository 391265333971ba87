"""Predict labels for the rows of a file, streamed in order, keeping all columns."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from llmkit.config.recipe import Recipe
from llmkit.core.errors import UsageError
from llmkit.core.files import check_writable, expand_home, new_file, refuse_special
from llmkit.core.lock import lock_output
from llmkit.tables.rows import Data, without_surrogates
from llmkit.tasks.base import Emit, PredictionRequest
from llmkit.tasks.table import task_of_model

Format = Literal["csv", "tsv", "jsonl"]
Write = Callable[[str], object]


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
) -> dict[str, Any]:
    """Write each row of `data` (tables/rows.py) with its prediction to `out`, atomically, or to `write`.

    A classifier adds the predicted label and its probability; `all_probabilities` adds one column per label. Returns
    the number of rows.

    Raises:
        UsageError: the model is not a classifier, or `out` exists.
        DataError: the file cannot be read (tables/rows.py), or already has a column that `predict` adds.
        ModelError: the model cannot be used.
    """
    from llmkit.models.loading import resolve_model  # imports torch, which check_out does not need

    chosen = check_out(out, data, file_format, overwrite=overwrite)
    path = resolve_model(model)
    task = task_of_model(path)

    def run(write: Write) -> dict[str, Any]:
        request = PredictionRequest(
            model, path, data, all_probabilities, lambda columns: _make_writer(write, chosen, columns)
        )
        return task.predict(recipe, request)

    if out is None:
        return run(write)
    with lock_output(out), new_file(out) as file:
        return run(file.write)


def _make_writer(write: Write, chosen: Format, columns: list[str]) -> Emit:
    """Return a function that writes one row; the header is written immediately."""
    if chosen == "jsonl":
        return lambda record: _write_line(write, json.dumps(record, ensure_ascii=False, default=str))
    to_line = _to_tsv if chosen == "tsv" else _to_csv
    _write_line(write, to_line(columns))
    return lambda record: _write_line(write, to_line([record.get(name) for name in columns]))


def _write_line(write: Write, line: str) -> None:
    write(without_surrogates(line) + "\n")


def _to_csv(cells: Sequence[Any]) -> str:
    buffer = io.StringIO()
    # Python before 3.13 quotes a cell with \r or \n only if the character is in lineterminator.
    csv.writer(buffer, lineterminator="\r\n").writerow(map(_to_text, cells))
    return buffer.getvalue().removesuffix("\r\n")


def _to_tsv(cells: Sequence[Any]) -> str:
    """Format one row as .tsv, which allows neither quotes nor newlines in cells."""
    return "\t".join(" ".join(_to_text(cell).split()) for cell in cells)


def _to_text(cell: Any) -> str:
    if cell is None:
        return ""
    if isinstance(cell, list) and all(isinstance(each, str) for each in cell):
        return "|".join(cell)
    return cell if isinstance(cell, str) else json.dumps(cell, ensure_ascii=False, default=str)


def _format_of(out: Path | None) -> Format:
    if out is None or out.suffix == ".csv":
        return "csv"
    if out.suffix in (".tsv", ".jsonl"):
        return "tsv" if out.suffix == ".tsv" else "jsonl"
    hint = "use the suffix .csv, .tsv or .jsonl, or set --format"
    raise UsageError(f"the output format of {out.name!r} is unknown", where="--out", hint=hint)


def check_out(out: Path | None, data: Data, file_format: Format | None, *, overwrite: bool) -> Format:
    """Check the file that predictions are written to, before slow imports; returns its format.

    Raises:
        UsageError: the suffix is unknown, or `out` exists, or is a folder, a device or the input.
        EnvironmentFault: it is not writable.
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
