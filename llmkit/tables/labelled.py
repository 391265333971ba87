"""Read labelled rows, and build label2id, the map from labels to ids that training, scoring and serving share.

A label is a string, even `0` or `NA`; only regression converts labels to numbers. A missing label is an error that
names the line; it does not turn the labels 0 and 1 into 0.0 and 1.0, as in pandas.

Rows are streamed: all missing and invalid labels are raised in one error after the last row, so a caller that stops
early does not get the error. Independent of models or tokens.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from llmkit.core.console import clean_line, list_some
from llmkit.core.errors import DataError, Problem
from llmkit.tables.label_columns import Columns
from llmkit.tables.label_forms import THOUSANDS, fold_label, label_map_option, parse_list, to_decimal, to_number
from llmkit.text.lines import unify_returns
from llmkit.text.records.fields import BadCell, describe_type, missing_column_error
from llmkit.text.records.rows import Row, RowStream
from llmkit.text.sources import log_once

MAX_LINES_SHOWN = 5
_EDGES = re.compile(r"^[\s\u00ad\u200b\u200e\u200f\u2060\ufeff]+|[\s\u00ad\u200b\u200e\u200f\u2060\ufeff]+$")
_SOFT = "soft labels, such as a probability per label, are not supported: give one label, or a list of labels"

Label = str | tuple[str, ...] | float
"""One label, several, or a number."""
ParseLabel = Callable[[object], Label | None]
"""Parses the cell of a label: None for a missing label, NaN for a cell that should be a number but is not. Raises
BadCell for a cell that cannot be a label."""


@dataclass(frozen=True, slots=True)
class LabelledRow:
    """A text, an optional second text, the label if known, and the line or row number."""

    text: str
    pair: str | None
    label: Label | None
    line: int
    cells: Mapping[str, object] = field(default_factory=dict, compare=False)
    """All cells of the row as read."""


@dataclass(slots=True)
class LineRefs:
    """Counts lines of a file and keeps the first line numbers."""

    n: int = 0
    first: list[int] = field(default_factory=list)

    def add(self, line: int) -> None:
        """Count a line."""
        self.n += 1
        if len(self.first) < MAX_LINES_SHOWN:
            self.first.append(line)

    def describe(self, unit: str) -> str:
        """Format the lines as `lines 4, 7 and 12 more`."""
        more = f" and {self.n - len(self.first):,} more" if self.n > len(self.first) else ""
        return f"{unit}{'s' if self.n > 1 else ''} {', '.join(map(str, self.first))}{more}"


@dataclass(slots=True)
class UnseenLabels:
    """Labels that training did not see, and the rows with such labels."""

    labels: Counter[str] = field(default_factory=Counter)
    rows: LineRefs = field(default_factory=LineRefs)


def read_labelled(rows: RowStream, columns: Columns, parse: ParseLabel) -> Iterator[LabelledRow]:
    """Yield rows with the cells of `columns`; `parse` reads the labels, which are None without `columns.label`.

    Empty texts are kept. With `rows.read.skip_bad`, rows with errors are skipped and counted.

    Raises:
        DataError: a cell that is not a text, or a missing key, with the line; after the last row, the number of rows
            without a label (in regression, without a finite number) and the first of their lines.
    """
    missing, not_numbers = LineRefs(), LineRefs()
    example = comma_example = ""
    n_rows = 0
    for row in rows:
        n_rows += 1
        label: Label | None = None
        try:
            text = _to_text(row, columns.text, rows)
            pair = None if columns.pair is None else _to_text(row, columns.pair, rows)
            if columns.label is not None:
                label = parse(row.cells.get(columns.label))
        except BadCell as error:
            rows.reject(str(error), row.line)
            continue
        if columns.label is None or not (label is None or _is_nan(label)):
            if isinstance(label, float) and "," in (cell := str(row.cells.get(columns.label or ""))):
                comma_example = comma_example or f"{cell.strip()!r} is read as {label:g}"
            yield LabelledRow(text, pair, label, row.line, row.cells)
        elif rows.read.skip_bad:
            rows.source.skip("no label" if label is None else "the label is not a number", rows.locate(row.line))
        elif label is None:
            missing.add(row.line)
        else:
            example = example or str(row.cells.get(columns.label))[:40]
            not_numbers.add(row.line)
    if comma_example:
        log_once(f"{rows.path}: numbers with a decimal comma: {comma_example}")
    problems = []
    if missing.n:
        what = f"{missing.n:,} of {n_rows:,} rows have no {columns.label!r}"
        hint = "add the labels, or skip these rows with --skip-bad"
        problems.append(Problem(what, f"{rows.path}, {missing.describe(rows.unit)}", hint))
    if not_numbers.n:
        what = f"{not_numbers.n:,} of {n_rows:,} rows have no finite number in {columns.label!r}, such as {example!r}"
        hint = "regression needs numbers; for labels that are words, remove cls.labels=regression"
        if THOUSANDS.fullmatch(example.strip()):
            hint = f"is the comma in {example.strip()} a decimal comma? Write a decimal point; else remove the comma"
        problems.append(Problem(what, f"{rows.path}, {not_numbers.describe(rows.unit)}", hint))
    if problems:
        raise DataError.from_problems(problems)


def _to_text(row: Row, column: str, rows: RowStream) -> str:
    if column not in row.cells:
        if rows.read.skip_bad:
            raise BadCell(f"no key {column!r}")
        raise missing_column_error(column, list(row.cells), rows.locate(row.line))
    cell = row.cells[column]
    if cell is None:
        return ""
    if (word := _to_word(cell)) is None:
        raise BadCell(f"{column!r} holds {describe_type(cell)}, not a text")
    return word


def _to_word(cell: object) -> str | None:
    """Return a JSON string, boolean or number as text; None for anything else."""
    if isinstance(cell, str):
        return unify_returns(cell)
    if isinstance(cell, bool):
        return "true" if cell else "false"
    return str(cell) if isinstance(cell, int | float) else None


def parse_label(cell: object) -> str | None:
    """Return one label; None for a missing one. Raises BadCell for a list or an object."""
    if _is_missing(cell):
        return None
    if isinstance(cell, list):
        raise BadCell("the label is a list; cls.labels=multi_label reads several labels")
    word = _to_word(cell)
    if word is None:
        is_soft = isinstance(cell, dict) and all(isinstance(each, int | float) for each in cell.values())
        raise BadCell(
            f"the label is {describe_type(cell)}, not a word" + (f"; {_SOFT}" if is_soft else _name_key(cell))
        )
    return _strip(word) or None


def _name_key(cell: object) -> str:
    """Return a hint for the keys of an object; empty for other values."""
    key = next((key for key, value in cell.items() if isinstance(value, str)), None) if isinstance(cell, dict) else None
    return f"; --label COLUMN.{key} reads its key {key!r}" if key else ""


def _strip(word: str) -> str:
    """Remove white space and zero-width characters, such as a byte order mark, from both ends."""
    return word.strip() if word.isascii() else _EDGES.sub("", word)


def parse_number(cell: object) -> float | None:
    """Return a number; NaN for a word that is not a number, None for a missing label.

    Raises BadCell for a list or an object.
    """
    word = parse_label(cell)
    if word is None:
        return None
    return math.nan if isinstance(cell, bool) else to_decimal(word)


def parse_labels(cell: object, separator: str | None) -> tuple[str, ...] | None:
    """Return a set of labels as a sorted tuple, `()` for an empty cell or list; None for a missing one.

    Raises BadCell for objects and nested lists.
    """
    if _is_missing(cell):
        return None
    if isinstance(cell, list):
        if any(isinstance(each, float) and not each.is_integer() for each in cell):
            raise BadCell(f"the label is a list of numbers; {_SOFT}")
        parts = [_to_word(each) for each in cell]
    elif isinstance(cell, str) and (written := parse_list(cell)) is not None:
        parts = list(written)
    elif isinstance(cell, str) and separator:
        parts = list(cell.split(separator))
    else:
        parts = [_to_word(cell)]
    if None in parts:
        inner = next((each for each in cell if isinstance(each, dict)), None) if isinstance(cell, list) else cell
        raise BadCell(f"the labels are not words, or not a flat list of words{_name_key(inner)}")
    return tuple(sorted({word for part in parts if part and (word := _strip(part))}))


def map_labels(parse: ParseLabel, label_map: Mapping[str, str]) -> ParseLabel:
    """Return `parse` with labels renamed by `label_map`; labels that get the same new name are merged."""

    def parse_mapped(cell: object) -> Label | None:
        label = parse(cell)
        if isinstance(label, tuple):
            return tuple(sorted({label_map.get(name, name) for name in label}))
        return label_map.get(label, label) if isinstance(label, str) else label

    return parse_mapped if label_map else parse


def _is_missing(cell: object) -> bool:
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def _is_nan(label: Label) -> bool:
    return isinstance(label, float) and math.isnan(label)


def build_label2id(counts: Mapping[str, int], where: str, *, n_rows: int | None = None) -> dict[str, int]:
    """Return label2id of the train rows: labels sorted (numbers by value), independent of the order of the rows.

    `counts` has the number of rows per label; `n_rows` is needed if a row may have no label or several.

    Raises:
        DataError: fewer than two different labels.
    """
    n_rows = sum(counts.values()) if n_rows is None else n_rows
    if len(counts) < 2:
        label, n = next(iter(counts.items()), ("", 0))
        some = f"{n:,} of {n_rows:,} rows have the only label" if n < n_rows else f"all {n:,} rows have the label"
        what = f"{some} {label!r}: there is nothing to learn" if n else "no row has a label"
        hint = "give rows with two or more different labels; is this the label column? --label NAME selects another"
        raise DataError(what, where=where, hint=hint)
    return {label: number for number, label in enumerate(sorted(counts, key=_by_value))}


def to_ids(
    rows: Iterable[LabelledRow],
    label2id: Mapping[str, int],
    where: str,
    *,
    unseen: Literal["refuse", "ignore"],
    unit: str = "line",
    unseen_labels: UnseenLabels | None = None,
) -> Iterator[tuple[LabelledRow, tuple[int, ...]]]:
    """Yield each row with the ids of its labels: one id for a single label, any number for a set of labels.

    Rows with a label that is not in `label2id` are skipped and collected in `unseen_labels`.

    Raises:
        DataError: with `refuse`, after the last row: the labels without an id, and the lines of their rows.
    """
    unseen_labels = UnseenLabels() if unseen_labels is None else unseen_labels
    for row in rows:
        if row.label is None or isinstance(row.label, float):
            raise TypeError(f"line {row.line} has no single label: {row.label!r}")
        labels = (row.label,) if isinstance(row.label, str) else row.label
        unknown = [label for label in labels if label not in label2id]
        if unknown:
            unseen_labels.labels.update(unknown)
            unseen_labels.rows.add(row.line)
        else:
            yield row, tuple(label2id[label] for label in labels)
    if unseen_labels.labels and unseen == "refuse":
        names = sorted(unseen_labels.labels)
        known = ", ".join(clean_line(label) for label in list(label2id)[:10]) + (", ..." if len(label2id) > 10 else "")
        what = f"labels that do not occur in the train rows: {list_some(list(map(repr, names)), MAX_LINES_SHOWN)}"
        hint = f"known labels: {known}; to skip these rows: --unseen-labels ignore"
        folded = {fold_label(label): label for label in reversed(list(label2id))}
        if has_default_names(label2id):
            what = what.replace("do not occur in the train rows", "the model does not know")
            pairs = [f"{number}={name}" for number, name in enumerate(names[: len(label2id)][:MAX_LINES_SHOWN])]
            pairs += ["..."] if len(label2id) > len(pairs) else []
            hint = "the model's labels have no names; give names to LABEL_0, LABEL_1, ... in the order of the model: "
            hint += f"--label-map {','.join(pairs)}"
        elif variants := {name: folded[fold_label(name)] for name in names if fold_label(name) in folded}:
            hint = f"they differ from known labels only in form: {label_map_option(variants)} merges them"
        raise DataError(what, where=f"{where}, {unseen_labels.rows.describe(unit)}", hint=hint)


def has_default_names(names: Collection[str]) -> bool:
    """Whether labels have the default names of transformers: LABEL_0, LABEL_1, ..."""
    return bool(names) and all(re.fullmatch(r"LABEL_\d+", name) for name in names)


def _by_value(label: str) -> tuple[int, float, str]:
    number = to_number(label)
    return (1, 0.0, label) if math.isnan(number) else (0, number, label)
