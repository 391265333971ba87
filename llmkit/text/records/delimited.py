"""Split .csv and .tsv text into records; a sample of the rows, never a single line, decides delimiter and quoting.

A cell in quotes may contain delimiters and line ends; a quote in it is doubled, as in RFC 4180, or follows a backslash.
In .tsv a quote is an ordinary character (text/tab-separated-values) unless the sample shows quoted cells. A first line
`sep=;`, as Excel writes it, names the delimiter. If no delimiter fits most rows, the table has one column.

A row with an unclosed quote yields an error instead of cells; the rows after it are read.
"""

import csv
import re
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice

from llmkit.text.lines import MAX_ROW_CHARS
from llmkit.text.records.column_names import KNOWN_NAMES
from llmkit.text.records.fields import is_text

DELIMITERS = (";", "\t", "|", ",")
"""If several delimiters fit equally well, the first is chosen; the comma is last because texts often contain commas."""
FULL_WIDTH_DELIMITERS = ("，", "；", "｜")
"""What an East Asian input method types for `,`, `;` and `|`. Texts contain them as punctuation, so they separate cells
only if the first line has well-known column names.
"""
NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "|", "": "nothing", "，": "full-width commas"}
_SAMPLE_LINES = 1000
_SAMPLE_CHARS = 1 << 20
_MIN_SHARE = 0.98
_NO_DELIMITER = "\uffff"  # csv needs a character, and no text has this one
_UNCLOSED = "unclosed quote"
_SEP_LINE = re.compile(r'"?sep=(.)"?', re.IGNORECASE)
_SENTENCE_END = re.compile(r"[。！？…；，!?.][”’」』)）]*$")
_MIN_SUGGESTED_ROWS = 3
_DECIMAL_COMMA = re.compile(r"\s*[-+]?\d+,\d+\s*")

Record = tuple[int, list[str] | str]
"""(line where the record begins, its cells or the error in it)."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """Delimiter and quoting of a table."""

    delimiter: str
    """Empty: each record is one cell."""
    is_quoted: bool = True
    escape: str | None = None
    """The escape character of a quote inside quotes; None if such a quote is doubled."""
    skip_spaces: bool = False
    """Whether a space follows each delimiter."""
    n_skipped: int = 0
    """Lines before the first record: 1 for `sep=;`."""

    def describe(self) -> str:
        """Describe delimiter and quoting in words, for messages."""
        cells = f"{NAMES.get(self.delimiter, repr(self.delimiter))} between cells" if self.delimiter else "one column"
        is_usual = self.is_quoted == (self.delimiter != "\t")
        return cells + ("" if is_usual else " with quotes" if self.is_quoted else " without quotes")


def split_records(lines: Iterator[str], ending: str, delimiter: str) -> tuple[Dialect, Iterator[Record]]:
    """Return the dialect of the lines, and their records; blank lines are skipped.

    `delimiter` is the setting `read.delimiter`: a character, none, or auto.
    """
    head: list[str] = []
    n_chars = 0
    for line in islice(lines, _SAMPLE_LINES):
        head.append(line)
        n_chars += len(line)
        if n_chars > _SAMPLE_CHARS:
            break
    dialect = detect_dialect([line.removesuffix("\r") for line in head], ending, delimiter)
    return dialect, parse_records(chain(head[dialect.n_skipped :], lines), dialect, dialect.n_skipped + 1)


def parse_records(lines: Iterator[str], dialect: Dialect, first_line: int = 1) -> Iterator[Record]:
    """Yield the records of the lines; `first_line` is the number of the first line."""
    if dialect.is_quoted:
        yield from _parse_quoted(lines, dialect, first_line)
        return
    for number, line in enumerate(lines, first_line):
        if line := line.removesuffix("\r"):
            yield number, line.split(dialect.delimiter) if dialect.delimiter else [line]


def _parse_quoted(lines: Iterator[str], dialect: Dialect, start: int) -> Iterator[Record]:
    """Yield the records of lines with quotes. After a bad record, parsing continues at the line after the record's
    first line.
    """
    csv.field_size_limit(MAX_ROW_CHARS)  # the default limit, 131,072, is less than a chapter
    waiting: deque[str] = deque()
    taken: list[str] = []

    def take_lines() -> Iterator[str]:
        n_chars = 0
        while True:
            line = waiting.popleft() if waiting else next(lines, None)
            if line is None:
                return
            n_chars = len(line) if not taken else n_chars + len(line)
            if n_chars > MAX_ROW_CHARS:
                raise csv.Error("quote not closed within 64 M characters")
            taken.append(line)
            yield line + "\n"

    def open_reader() -> Iterator[list[str]]:
        return csv.reader(
            take_lines(), delimiter=dialect.delimiter or _NO_DELIMITER, strict=True, escapechar=dialect.escape,
            doublequote=dialect.escape is None, skipinitialspace=dialect.skip_spaces,
        )  # fmt: skip

    reader = open_reader()
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            reason = _UNCLOSED if "unexpected end" in str(error) else f"bad quoting: {error}"
            yield start, reason
            waiting.extendleft(reversed(taken[1:]))
            start += 1
            taken.clear()
            reader = open_reader()
            continue
        if cells:
            yield start, cells
        start += len(taken)
        taken.clear()


def detect_dialect(head: Sequence[str], ending: str = ".csv", delimiter: str = "auto") -> Dialect:
    """Return the dialect of the first lines of a text, which may end inside a quoted cell."""
    n_skipped = 0
    if head and (named := _SEP_LINE.fullmatch(head[0].strip("\ufeff \r"))):
        n_skipped, head = 1, head[1:]
        delimiter = named[1] if delimiter == "auto" else delimiter
    if ending == ".tsv" and delimiter == "auto" and (any("\t" in line for line in head) or not names_columns(head)):
        delimiter = "\t"
    if delimiter != "auto":
        return _decide_quotes(head, Dialect("" if delimiter == "none" else delimiter, n_skipped=n_skipped), ending)
    text = "\n".join(head)
    marks = [mark for mark in DELIMITERS if mark in text]
    fits = [_Fit(head, _decide_quotes(head, Dialect(mark, n_skipped=n_skipped), ending)) for mark in marks]
    tables = [fit for fit in fits if fit.n_cells > 1 and not fit.is_prose]
    good = [fit for fit in tables if fit.share >= _MIN_SHARE]
    # Ragged rows are errors in a table, but lines of text with commas are not a table.
    ragged = [fit for fit in tables if (fit.share > 0.5 and not fit.names_one_column) or fit.n_known > 1]
    if found := good or ragged:
        return max(found, key=lambda fit: fit.key).dialect
    wide = (mark for mark in FULL_WIDTH_DELIMITERS if names_columns(head, [mark]))
    return _decide_quotes(head, Dialect(next(wide, ""), n_skipped=n_skipped), ending)


def names_columns(head: Sequence[str], delimiters: Sequence[str] = DELIMITERS) -> bool:
    """Whether splitting the first line at a delimiter yields two well-known names of columns."""
    cells = [head[0].split(mark) for mark in delimiters] if head else []
    return any(sum(cell.strip(' "').casefold() in KNOWN_NAMES for cell in each) > 1 for each in cells)


def find_full_width_delimiter(records: Sequence[Record]) -> str:
    """Return a full-width delimiter that occurs equally often in the first cell of each record.

    Empty if there is none, if there are fewer than three records, or if most of the cells are sentences or verses.
    """
    lines = [cells[0].rstrip() for _, cells in records if isinstance(cells, list)]
    n_sentences = sum(bool(_SENTENCE_END.search(line)) for line in lines)
    if len(lines) < _MIN_SUGGESTED_ROWS or 2 * n_sentences > len(lines):
        return ""
    counts = {mark: {line.count(mark) for line in lines} for mark in FULL_WIDTH_DELIMITERS}
    return next((mark for mark, found in counts.items() if len(found) == 1 and found != {0}), "")


class _Fit:
    """Quality of the fit of a dialect to a sample of lines."""

    def __init__(self, head: Sequence[str], dialect: Dialect) -> None:
        records = _parse_sample(head, dialect)
        rows = [cells for cells in records if isinstance(cells, list)]
        widths = Counter(map(len, rows))
        self.dialect = dialect
        self.first = rows[0] if rows else []
        self.n_cells = max(widths, key=lambda width: (widths[width], width), default=0)
        self.share = widths[self.n_cells] / max(1, len(records))
        self.n_known = sum(cell.strip().casefold() in KNOWN_NAMES for cell in self.first)
        self.names_one_column = len(self.first) == self.n_known == 1
        rows = [row for row in rows if len(row) == self.n_cells]
        spaces = [dialect.skip_spaces or cell.startswith(" ") for row in rows for cell in row[1:]]
        spaced = 2 * sum(spaces) > len(spaces) and not re.search(re.escape(dialect.delimiter) + ' +"', "\n".join(head))
        self.is_prose = spaced and not self.n_known and not any(map(_is_numeric, zip(*rows, strict=True)))
        has_decimals = 10 * sum(bool(_DECIMAL_COMMA.fullmatch(cell)) for row in rows for cell in row) > len(rows)
        order = -DELIMITERS.index(dialect.delimiter) if len(rows) > 1 else 0
        self.key = (self.share >= _MIN_SHARE, not spaced, has_decimals, self.n_known, self.n_cells, order)


def _is_numeric(column: Sequence[str]) -> bool:
    return 5 * sum(not is_text(cell) for cell in column) > 4 * len(column)


def _decide_quotes(head: Sequence[str], dialect: Dialect, ending: str) -> Dialect:
    """Return the dialect with the quoting that parses the sample with the fewest errors."""
    text = "\n".join(head)
    if dialect.delimiter not in ("", " ", "\t"):
        dialect = replace(dialect, skip_spaces=_always_spaced(text, dialect.delimiter))
    if '"' not in text:
        return replace(dialect, is_quoted=ending != ".tsv")
    if ending == ".tsv":
        return replace(dialect, is_quoted=_is_quoted_table(head, dialect))
    if n_bad := _count_bad(head, dialect):
        escaped = replace(dialect, escape="\\")
        if '\\"' in text and _count_bad(head, escaped) < n_bad:
            return escaped
    return dialect


def _always_spaced(text: str, delimiter: str) -> bool:
    """Whether a space follows every delimiter outside of quotes."""
    bare = re.sub('"[^"]*"', '""', text)
    return delimiter in bare and not re.search(re.escape(delimiter) + "(?! )", bare)


def _count_bad(head: Sequence[str], dialect: Dialect) -> int:
    return sum(isinstance(cells, str) for cells in _parse_sample(head, dialect))


def _parse_sample(head: Sequence[str], dialect: Dialect) -> list[list[str] | str]:
    """Return the records of a sample, which may end inside a quoted cell."""
    records: list[list[str] | str] = []
    for line, cells in parse_records(iter(head), dialect):
        if cells == _UNCLOSED and 2 * line > len(head) >= _SAMPLE_LINES // 2:
            break
        records.append(cells)
    return records


def _is_quoted_table(head: Sequence[str], dialect: Dialect) -> bool:
    """Whether a .tsv was written with quoting: all quotes are well formed, and some cells need them."""
    if _count_bad(head, dialect):
        return False
    quoted = _parse_sample(head, dialect)
    bare = [line.split(dialect.delimiter) if dialect.delimiter else [line] for line in head if line]
    cells = [cell for row in bare for cell in row]
    is_needed = any('""' in cell[1:-1] and cell[0] == cell[-1] == '"' for cell in cells if len(cell) > 2)
    fits_better = len({len(row) for row in quoted}) == 1 < len({len(row) for row in bare})
    all_quoted = any(
        len(column) > 1 and all(cell[:1] == cell[-1:] == '"' and len(cell) > 1 for cell in column)
        for column in zip(*bare, strict=False)
    )
    return is_needed or fits_better or all_quoted
