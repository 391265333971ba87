"""Detect whether the first row of a table is a header by comparing it with the rows below.

A header differs from the rows below it: it has well-known names, words above numbers, or a word above a few
labels that repeat. A first row that resembles the rows below, such as a text above texts, is a row. If neither applies,
a first row of two or more short cells is a header, and a single cell is a header only if it is one or two words above
sentences or long texts.
"""

import re
from collections import Counter
from collections.abc import Sequence
from statistics import median

from llmkit.text.records.column_names import KNOWN_NAMES
from llmkit.text.records.fields import is_text

_MAX_NAME_CHARS = 50
_MIN_TEXT_WORDS = 3
_MIN_LABELLED_ROWS = 8
_MIN_COLUMNS_BELOW_FACTS = 4
_DIGITS = re.compile(r"\d+")
_SENTENCE_END = re.compile(r"[.!?。！？…।؟][\"'”’」』)）]*$")


def is_header(
    first: Sequence[str], below: Sequence[Sequence[str]], wanted: Sequence[str] = (), *, by_default: bool = True
) -> bool:
    """Whether the first row is a header.

    `below` are the rows after it, of the same length; `wanted` are columns that the user named. `by_default` is the
    result if two or more columns of short cells give no clear evidence.
    """
    cells = [cell.strip() for cell in first]
    if set(cells) & set(wanted):
        return True
    columns = [[row[number].strip() for row in below] for number in range(len(cells))]
    repeated = [bool(cell) and cell in column for cell, column in zip(cells, columns, strict=True)]
    known = [cell.casefold() in KNOWN_NAMES for cell in cells]
    # A single known name that is repeated below, such as an intent called "query", is a label.
    if sum(known) > 1 or any(is_known and not again for is_known, again in zip(known, repeated, strict=True)):
        return True
    if any(repeated) or any(cell and not is_text(cell) for cell in cells):
        return False
    pairs = list(zip(cells, columns, strict=True))
    if any(_names_numbers(cell, column) or _names_labels(cell, column) for cell, column in pairs):
        return True
    if any(len(cell) > _MAX_NAME_CHARS or _is_like(cell, column) for cell, column in pairs):
        return False
    return by_default if len(cells) > 1 else _is_short(cells[0], columns[0])


def count_title_rows(records: Sequence[Sequence[str]], wanted: Sequence[str] = ()) -> int:
    """Return the number of rows above a table: a title in one cell, or facts in two, such as `Exported` and a date.

    The table below has more than one column, and at least four if a row above it has two cells. If one of these rows
    has only well-known names, or a name that the user gave, it is the header, and the result is 0.
    """
    filled = [[cell.strip().casefold() for cell in cells if cell.strip()] for cells in records]
    widths = [len(cells) for cells in filled]
    usual = median(widths) if widths else 0
    max_above = 2 if usual >= _MIN_COLUMNS_BELOW_FACTS else 1
    n_above = next((number for number, width in enumerate(widths) if not 0 < width <= max_above), 0)
    below = widths[n_above:]
    named = {name.casefold() for name in wanted}
    if any(named.intersection(cells) or KNOWN_NAMES.issuperset(cells) for cells in filled[:n_above]):
        return 0
    return n_above if len(below) > 1 and 10 * sum(width > max_above for width in below) >= 9 * len(below) else 0


def _names_numbers(cell: str, column: Sequence[str]) -> bool:
    """Whether the cell is words and the column below it contains numbers, dates or similar values."""
    filled = [each for each in column if each]
    shapes = {_DIGITS.sub("0", each) for each in filled}
    return len(filled) > 1 and not _DIGITS.search(cell) and (
        not any(map(is_text, filled)) or (len(shapes) == 1 and _DIGITS.search(filled[0]) is not None and is_text(cell))
    )  # fmt: skip


def _names_labels(cell: str, column: Sequence[str]) -> bool:
    """Whether a cell that occurs once is above a few short values that all occur again and again, such as labels."""
    counts = Counter(each for each in column if each)
    is_short = 0 < len(cell) <= _MAX_NAME_CHARS and all(len(each) <= _MAX_NAME_CHARS for each in counts)
    n_filled = counts.total()
    is_column_of_labels = (
        n_filled >= _MIN_LABELLED_ROWS and 1 < len(counts) <= n_filled / 4 and min(counts.values()) > 1
    )
    return is_short and is_column_of_labels and cell not in counts


def _is_like(cell: str, column: Sequence[str]) -> bool:
    """Whether a cell resembles those below it: the same shape, or all are texts."""
    filled = [each for each in column if each]
    if not filled:
        return False
    if _DIGITS.search(cell) and any(_DIGITS.sub("0", each) == _DIGITS.sub("0", cell) for each in filled):
        return True
    ends = sum(bool(_SENTENCE_END.search(each)) for each in filled)
    if _SENTENCE_END.search(cell) and 2 * ends > len(filled):
        return True
    words = median(map(_count_words, filled))
    return words >= _MIN_TEXT_WORDS and 2 * _count_words(cell) >= words


def _is_short(cell: str, column: Sequence[str]) -> bool:
    """Whether a cell is one or two words above sentences, or above texts that are several times as long."""
    filled = [each for each in column if each]
    if len(filled) < 2 or _count_words(cell) > 2 or _SENTENCE_END.search(cell):
        return False
    are_long = median(map(len, filled)) >= 5 * len(cell) and median(map(_count_words, filled)) >= 5
    return are_long or all(map(_SENTENCE_END.search, filled))


def _count_words(text: str) -> float:
    """Return the number of words; in Chinese and other text without spaces, half the number of characters."""
    n_wide = sum(char > "\u2e7f" for char in text)
    return len(text.split()) + n_wide / 2
