"""Label the rows of a file: in their order, as a stream, with all the columns they came with."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from llmkit.config.recipe import Recipe
from llmkit.core.errors import DataError, UsageError, say
from llmkit.core.files import check_writable, new_file
from llmkit.core.progress import RowLine
from llmkit.models.loading import read_kind, resolve_model, wrong_kind
from llmkit.tables.labelled import read_labelled
from llmkit.tables.rows import open_rows
from llmkit.tasks.cls.row_reading import describe_left_out, without_surrogates
from llmkit.tasks.cls.row_scoring import RowScorer, open_scorer

Format = Literal["csv", "tsv", "jsonl"]
Write = Callable[[str], object]

GUESS, PROBABILITY = "prediction", "probability"


def predict(
    recipe: Recipe,
    *,
    model: str,
    data: str,
    out: Path | None,
    write: Write,
    file_format: Format | None = None,
    all_probabilities: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write each row with its label and the label's probability to `out`, whole or not at all, or to `write`.

    With `all_probabilities` each label has a column. For several labels a row, the guess is all whose probability
    reaches their threshold; for regression it is a number. Returns how many rows there were.

    Raises:
        UsageError: the model labels no texts, or `out` is there already.
        DataError: what tables/rows.py and tables/labelled.py raise; a column that is called as a new one.
        ModelError: the model cannot be used.
    """
    chosen = file_format or _format_of(out)
    if out is not None:
        _check_out(out, overwrite)
    path = resolve_model(model)
    if (kind := read_kind(path)) != "classifier":
        raise wrong_kind(model, kind, path)
    scorer = open_scorer(path, recipe.evaluate)
    if out is None:
        return _predict(recipe, scorer, data, write, chosen, all_probabilities)
    with new_file(out) as file:
        return _predict(recipe, scorer, data, file.write, chosen, all_probabilities)


def _predict(
    recipe: Recipe, scorer: RowScorer, data: str, write: Write, chosen: Format, all_probabilities: bool
) -> dict[str, Any]:
    section = recipe.cls
    wanted = [name for name in (section.text, section.pair, scorer.format.text) if name]
    n_rows, n_cut = 0, 0
    with open_rows(data, recipe.prepare.read, header=section.header, wanted=wanted) as rows, RowLine() as line:
        columns = scorer.format.find_columns(rows, need_label=False, text=section.text, pair=section.pair, label="")
        say(f"{data}: text {columns.text!r}" + (f", pair {columns.pair!r}" if columns.pair else ""))
        names = _new_columns(scorer, all_probabilities)
        if taken := [name for name in names if name in rows.columns]:
            hint = "rename it in the file: the result keeps all columns and adds this one"
            raise DataError(f"there is a column {taken[0]!r} already", where=data, hint=hint)
        emit = _make_writer(write, chosen, [*rows.columns, *names])
        scorer = scorer.with_format(scorer.format.with_columns(columns))
        for chunk, inputs, outputs in scorer.score(read_labelled(rows, columns, scorer.kind)):
            for row, record in zip(chunk, _describe(scorer, outputs, all_probabilities), strict=True):
                emit({**row.cells, **record})
            n_rows += len(chunk)
            n_cut += inputs.n_cut
            line.add(len(chunk))
        n_skipped = sum(rows.source.skipped.values())
    notes = describe_left_out(n_skipped, data, "that cannot be read")
    for note in [*notes, *scorer.format.describe_cut(n_cut, n_rows, data)]:
        say(note)
    return {"n_rows": n_rows, "n_truncated": n_cut, "n_skipped": n_skipped}


def _describe(scorer: RowScorer, outputs: NDArray[np.float64], all_probabilities: bool) -> Iterator[dict[str, Any]]:
    """The new cells of each row."""
    guesses, names = scorer.guess(outputs), scorer.names
    for guess, output in zip(guesses, outputs, strict=True):
        if scorer.kind == "regression":
            yield {GUESS: round(float(guess), 6)}
            continue
        if scorer.kind == "single":
            record: dict[str, Any] = {GUESS: names[guess], PROBABILITY: round(float(output[guess]), 6)}
        else:
            record = {GUESS: [name for name, marked in zip(names, guess, strict=True) if marked]}
        if all_probabilities:
            record |= {f"p({name})": round(float(value), 6) for name, value in zip(names, output, strict=True)}
        yield record


def _new_columns(scorer: RowScorer, all_probabilities: bool) -> list[str]:
    new = [GUESS] + ([PROBABILITY] if scorer.kind == "single" else [])
    shown = all_probabilities and scorer.kind != "regression"
    return [*new, *(f"p({name})" for name in scorer.names)] if shown else new


def _make_writer(write: Write, chosen: Format, columns: list[str]) -> Callable[[Mapping[str, Any]], None]:
    """What writes one row; the header is written at once."""
    if chosen == "jsonl":
        return lambda record: _write_line(write, json.dumps(record, ensure_ascii=False, default=str))
    to_line = _to_tsv if chosen == "tsv" else _to_csv
    _write_line(write, to_line(columns))
    return lambda record: _write_line(write, to_line([record.get(name) for name in columns]))


def _write_line(write: Write, line: str) -> None:
    write(without_surrogates(line) + "\n")


def _to_csv(cells: Sequence[Any]) -> str:
    buffer = io.StringIO()
    # Python before 3.13 quotes a cell with a line end only if the writer's own line end has it.
    csv.writer(buffer, lineterminator="\r\n").writerow(map(_to_text, cells))
    return buffer.getvalue().removesuffix("\r\n")


def _to_tsv(cells: Sequence[Any]) -> str:
    """A .tsv has neither quotes nor line ends inside its cells."""
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
    hint = "end it in .csv, .tsv or .jsonl, or say --format"
    raise UsageError(f"the name {out.name!r} does not say how to write it", where="--out", hint=hint)


def _check_out(out: Path, overwrite: bool) -> None:
    if out.exists() and not overwrite:
        raise UsageError(f"{str(out)!r} exists", where="--out", hint="give another name, or --overwrite")
    check_writable(out)
