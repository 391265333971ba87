"""Choose the columns of a labelled table: the text, the second text of a pair, the label.

Names that the user gives have priority over well-known names, and these over the contents of the cells: the text is the
column with the longest cells, and the label is the column with few different values. An ambiguous choice is an error
that lists the columns. A second text is found by name only, and only together with the first.
"""

import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from llmkit.core.errors import DataError
from llmkit.tables.joined_columns import find_flag_columns, split_names
from llmkit.text.records.column_names import ID_NAMES, LABEL_NAMES, LABELLED_TEXT_NAMES, PAIR_NAMES
from llmkit.text.records.fields import is_text, list_columns, missing_column_error, nested_names
from llmkit.text.records.rows import RowStream

_MAX_LABEL_CHARS = 60
_MIN_PHRASE_CHARS = 4
_TEXTS = {*LABELLED_TEXT_NAMES, *(first for first, _ in PAIR_NAMES)}
_SPLIT_NAMES = {"train", "training", "dev", "valid", "validation", "val", "eval", "test", "testing"}
_DELIMITERS = "，；、،؛;|\t^~¦§:\x01"
"""Characters to suggest as the delimiter if none was detected."""
_NAME_WORD = re.compile(r"[a-z]+|[^\W\d_a-z]+")
_MIN_ROWS = 10  # with fewer, every row may have a different label


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of the text, the second text and the label."""

    text: str
    pair: str | None
    label: str | None


@dataclass(frozen=True, slots=True)
class _ColumnStats:
    """Statistics of a column's cells in a sample of rows."""

    mean_length: float
    n_distinct: int
    has_text: bool
    may_be_label: bool
    has_phrases: bool = False
    """Whether most cells are different texts of two or more words."""


def choose_columns(
    columns: Sequence[str],
    sample: Sequence[Mapping[str, object]],
    *,
    text: str | None,
    pair: str | None,
    label: str | None,
    need_label: bool,
    where: str,
) -> Columns:
    """Return the columns to read. An empty `pair` or `label` disables that column, even if one has a well-known name.

    Without `need_label` a label column is used only if it is given or has a well-known name.

    Raises:
        DataError: a given column does not exist, or the choice is ambiguous; the error lists the columns.
    """
    given = [name for name in (text, pair, label) if name]
    if duplicate := next((name for name in given if given.count(name) > 1), None):
        what = f"column {duplicate!r} is given twice"
        raise DataError(what, where=where, hint="text, pair and label must be different columns")
    for name in given:
        if name not in columns:
            raise missing_column_error(name, columns, where)
    folded = {column.strip().casefold(): column for column in reversed(columns)}
    if label is None and len(columns) > 1:
        label = next((folded[n] for n in LABEL_NAMES if n in folded and folded[n] not in given), None)
    text, pair = _find_by_name(folded, text, pair, label, spare=int(need_label and not label))
    by_cells = _CellChooser(columns, sample, where)
    if need_label and text is None and not label and len(candidates := by_cells.find_candidates({pair})) == 2:
        text, label = by_cells.choose_text_and_label(candidates)
    text = text or by_cells.choose_text({pair, label})
    if need_label and not label:
        label = by_cells.choose_label({text, pair})
    return Columns(text, pair or None, label or None)


def find_unused_texts(rows: RowStream, columns: Columns) -> list[str]:
    """Return the columns of the file that hold texts of several words and are not in `columns`."""
    taken: set[str | None] = {
        column for name in (columns.text, columns.pair, columns.label) if name for column in (name, *split_names(name))
    }
    return _CellChooser(rows.columns, [row.cells for row in rows.sample], rows.path).find_unused_texts(taken)


def describe_split_column(rows: RowStream, columns: Columns) -> list[str]:
    """Return a note if a column assigns rows to splits: llmkit ignores the column and uses all rows."""
    taken = {columns.text, columns.pair, columns.label}
    for name in rows.columns:
        found = {str(row.cells.get(name)).strip().casefold() for row in rows.sample} if name not in taken else set()
        if len(found) > 1 and found <= _SPLIT_NAMES:
            what = f"column {name!r} assigns rows to splits ({', '.join(sorted(found))}), but llmkit uses all rows"
            return [f"{what}; write one file per split: --data, --validation, --test"]
    return []


def describe_guess(columns: Columns, names: Sequence[str], given: Collection[str | None]) -> list[str]:
    """Return notes on the text and label columns that were chosen among several, unless their names are unambiguous.

    `names` are all columns; `given` are the columns that the user named or that the model was trained with.
    """
    taken = {columns.text, columns.pair, columns.label}
    others = [name for name in names if name not in taken and name.strip().casefold() not in ID_NAMES]
    notes = []
    for option, chosen, sure, known in (
        ("text", columns.text, _TEXTS, _TEXTS), ("label", columns.label, LABEL_NAMES[:2], LABEL_NAMES)
    ):  # fmt: skip
        if chosen is None or chosen in given:
            continue
        is_sure = chosen.strip().casefold() in sure
        if rivals := [name for name in others if not is_sure or name.strip().casefold() in known]:
            another = f"--{option} NAME selects another column: {list_columns(rivals)}"
            notes.append(f"{chosen!r} is used as the {option}; {another}")
    return notes


def _find_by_name(
    folded: Mapping[str, str], text: str | None, pair: str | None, label: str | None, *, spare: int
) -> tuple[str | None, str | None]:
    """Return (text, pair) by name; a pair must leave at least `spare` columns for a label."""
    if pair is None and len(folded) - bool(label) - spare >= 2:
        for first, second in PAIR_NAMES:
            one, two = folded.get(first), folded.get(second)
            if one and two and label not in (one, two) and text in (None, one):
                return one, two
    elif pair and not text:
        partners = [first for first, second in PAIR_NAMES if folded.get(second) == pair]
        text = next((folded[n] for n in partners if n in folded and folded[n] != label), None)
    taken = (pair, label)
    return text or next((folded[n] for n in LABELLED_TEXT_NAMES if n in folded and folded[n] not in taken), None), pair


class _CellChooser:
    """Chooses the text and label columns by the contents of their cells."""

    def __init__(self, columns: Sequence[str], sample: Sequence[Mapping[str, object]], where: str) -> None:
        self._columns = columns
        self._sample = sample
        self._where = where
        self._stats = {column: _compute_stats(column, [row.get(column) for row in sample]) for column in columns}

    def find_candidates(self, taken: set[str | None]) -> list[str]:
        """Return the columns not in `taken` that may be a text or a label: no ids, not mostly empty."""
        stats = self._stats
        return [c for c in self._columns if c not in taken and (stats[c].has_text or stats[c].may_be_label)]

    def choose_text_and_label(self, candidates: Sequence[str]) -> tuple[str, str]:
        """Return (text, label) of two columns: the label has repeated cells, or else the shorter cells."""
        stats = self._stats
        label, text = sorted(
            candidates, key=lambda c: (not stats[c].may_be_label, stats[c].n_distinct, stats[c].mean_length)
        )
        if not (stats[text].has_text and stats[label].may_be_label):
            raise self._ambiguous("text" if stats[label].may_be_label else "label")
        return text, label

    def choose_text(self, taken: set[str | None]) -> str:
        """Return the only column, or the only one with texts, or the one with the longest texts.

        The mean length of the longest must be at least twice that of any other.
        """
        free = [column for column in self._columns if column not in taken]
        if len(self._columns) == 1 and free:
            return free[0]
        found = [column for column in free if self._stats[column].has_text]
        found.sort(key=lambda column: -self._stats[column].mean_length)
        if not found or (len(found) > 1 and self._stats[found[0]].mean_length < 2 * self._stats[found[1]].mean_length):
            raise self._ambiguous("text")
        return found[0]

    def choose_label(self, taken: set[str | None]) -> str:
        """Return the only column with few different, short values, or with lists.

        If there are several, return the only one whose name has a well-known word, such as `标签 label` or
        `sentiment_class`.
        """
        found = [column for column in self._columns if column not in taken and self._stats[column].may_be_label]
        if len(found) > 1:
            found = [column for column in found if not _words_of(column).isdisjoint(LABEL_NAMES)]
        if len(found) != 1:
            raise self._ambiguous("label")
        return found[0]

    def find_unused_texts(self, taken: set[str | None]) -> list[str]:
        """Return the columns that are not in `taken` and hold texts of several words."""
        return [column for column in self._columns if column not in taken and self._stats[column].has_phrases]

    def _ambiguous(self, what: str) -> DataError:
        hint = f"name the column: --{what} NAME"
        texts = self.find_unused_texts(set())
        if len(self._columns) == 1:
            hint = self._explain_single_column()
        elif nested := nested_names(self._sample):
            hint += f"; nested keys: {', '.join(nested[:5])}"
        if what == "label" and len(flags := find_flag_columns(self._columns, self._sample)) > 1:
            hint += f"; several columns of 0 and 1, or yes and no: --label {shlex.quote(','.join(flags))}"
        elif what == "text" and len(texts) > 1:
            hint += f"; texts to join: --text {shlex.quote(','.join(texts))}; pairs: --text {shlex.quote(texts[0])} "
            hint += f"--pair {shlex.quote(texts[1])}"
        examples = ", ".join((LABELLED_TEXT_NAMES if what == "text" else LABEL_NAMES)[:3])
        return DataError(
            f"no column has a known name such as {examples}, and the cells do not show which one holds the {what}; "
            f"found: {list_columns(self._columns)}",
            where=self._where,
            hint=hint,
        )

    def _explain_single_column(self) -> str:
        """Return a hint for a table of one column: the delimiter that it may have, or nested keys."""
        cells = [str(row.get(self._columns[0])) for row in self._sample]
        if nested := nested_names(self._sample):
            return f"name nested keys, for example --text {nested[0]}; found: {', '.join(nested[:5])}"
        for mark in _DELIMITERS:
            if cells and all(mark in cell for cell in cells):
                return f"if {mark!r} separates the cells, name the file .csv and set --delimiter {shlex.quote(mark)}"
        return "the table has only one column, so it has no labels; give a .csv with columns such as text,label"


def _words_of(column: str) -> set[str]:
    return set(_NAME_WORD.findall(column.casefold()))


def _compute_stats(column: str, cells: Sequence[object]) -> _ColumnStats:
    filled = [cell for cell in cells if not (cell is None or cell == "" or (isinstance(cell, str) and cell.isspace()))]
    if column.strip().casefold() in ID_NAMES or not filled or 2 * len(filled) < len(cells):
        return _ColumnStats(0.0, 0, has_text=False, may_be_label=False)
    words = [cell.strip() if isinstance(cell, str) else str(cell) for cell in filled]
    n_distinct = len(set(words))
    mean_length = sum(map(len, words)) / len(words)
    lists = [cell for cell in filled if isinstance(cell, list)]
    has_objects = any(isinstance(each, dict) for cell in [*lists, filled] for each in cell)
    repeats = len(words) < _MIN_ROWS or 2 * n_distinct <= len(words)
    n_phrases = sum(" " in word or (not word.isascii() and len(word) >= _MIN_PHRASE_CHARS) for word in words)
    return _ColumnStats(
        mean_length,
        n_distinct,
        has_text=2 * sum(isinstance(cell, str) and is_text(cell) for cell in filled) > len(filled),
        may_be_label=not has_objects and (bool(lists) or (repeats and mean_length <= _MAX_LABEL_CHARS)),
        has_phrases=2 * n_distinct > len(words) and 2 * n_phrases > len(words) and isinstance(filled[0], str),
    )
