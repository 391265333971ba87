"""Labelled rows of a table, and the one map from labels to ids that training, scoring and serving share.

A label is a word, whatever it looks like: `0` and `NA` are words too, and nothing ever turns into a float. So
one missing cell cannot make a regression of a classification; it is an error that names its line.

Knows nothing of models and tokens.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from llmkit.config.prepare import Read
from llmkit.errors import DataError
from llmkit.text.columns import choose_column, missing_column
from llmkit.text.containers import find_entries
from llmkit.text.sources import Source
from llmkit.text.tables import read_cells

LINES_SHOWN = 5


@dataclass(frozen=True, slots=True)
class LabelledRow:
    """A text, its label, and the line where it stands."""

    text: str
    label: str
    line: int


def read_labelled(path: str, read: Read, *, label: str, source: Source) -> list[LabelledRow]:
    """The rows of a .csv or .tsv file; `read.text_column` is the text, or the column that looks like it.

    Raises:
        DataError: no such column, or rows without a label, with their lines.
    """
    rows = [(line, cells) for entry in find_entries(path, source) for line, cells in read_cells(entry, source, read)]
    if not rows:
        raise DataError("there are no rows below the header", where=path, hint="give a table with texts and labels")
    columns = list(rows[0][1])
    if label not in columns:
        raise missing_column(label, columns, path)
    others = [name for name in columns if name != label]
    text = choose_column(others, read.text_column, (cells for _, cells in rows[:100]), path)
    labelled = [LabelledRow(cells[text], cells[label].strip(), line) for line, cells in rows]
    missing = [row.line for row in labelled if not row.label]
    if missing:
        what = f"{len(missing):,} of {len(labelled):,} rows have no {label!r}"
        raise DataError(what, where=f"{path}, {_lines(missing)}", hint="fill the labels in, or take these rows out")
    return labelled


def number_labels(rows: Sequence[LabelledRow], where: str) -> dict[str, int]:
    """label2id, from the train rows alone: sorted, numbers by value, so the order of the rows does not matter.

    Raises:
        DataError: fewer than two different labels.
    """
    labels = {row.label for row in rows}
    if len(labels) < 2:
        what = f"all {len(rows):,} rows have the label {next(iter(labels), '')!r}: there is nothing to learn"
        raise DataError(what, where=where, hint="give rows of at least two labels; is it the right label column?")
    return {label: number for number, label in enumerate(sorted(labels, key=_by_value))}


def to_ids(
    rows: Sequence[LabelledRow], label2id: dict[str, int], where: str, *, unseen: Literal["refuse", "ignore"]
) -> Iterator[tuple[LabelledRow, int]]:
    """Each row with its label's id; rows whose label the train split never had are refused, or left out.

    Raises:
        DataError: labels without an id, with the lines of their rows.
    """
    strangers = {row.label for row in rows if row.label not in label2id}
    if strangers and unseen == "refuse":
        names = ", ".join(map(repr, sorted(strangers)[:LINES_SHOWN]))
        lines = [row.line for row in rows if row.label not in label2id]
        hint = f"known are: {', '.join(list(label2id)[:10])}; --unseen-labels ignore leaves these rows out"
        raise DataError(f"labels that training never saw: {names}", where=f"{where}, {_lines(lines)}", hint=hint)
    return ((row, label2id[row.label]) for row in rows if row.label in label2id)


def _by_value(label: str) -> tuple[int, float, str]:
    try:
        return 0, float(label), label
    except ValueError:
        return 1, 0.0, label


def _lines(lines: Sequence[int]) -> str:
    shown = ", ".join(map(str, lines[:LINES_SHOWN]))
    more = f" and {len(lines) - LINES_SHOWN} more" if len(lines) > LINES_SHOWN else ""
    return f"line{'s' if len(lines) > 1 else ''} {shown}{more}"
