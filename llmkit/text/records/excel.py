"""Read the rows of one sheet of an .xlsx workbook.

`read.sheet` names the sheet; default: the first visible sheet that is not empty. Blank columns are dropped. Merged
cells that span several rows have their value in each row. Error values such as #N/A become empty cells. Notes say what
was guessed or dropped.
"""

import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any, BinaryIO

from llmkit.core.errors import DataError, EnvironmentFault, did_you_mean
from llmkit.text.entries import Entry
from llmkit.text.records.delimited import Dialect, Record
from llmkit.text.records.plain_values import is_inexact, to_cell
from llmkit.text.records.rows import SAMPLE_ROWS, Rows, RowStream, read_records

_MAX_BLANK_ROWS = 10_000
_ERRORS = frozenset(["#N/A", "#REF!", "#VALUE!", "#DIV/0!", "#NAME?", "#NUM!", "#NULL!"])
_FORMULA = re.compile(
    rb'<(?:\w+:)?c\b[^>]*?\br="([A-Z]+\d+)"[^>]*>\s*<(?:\w+:)?f\b(?:[^>]*/>|[^>]*>[^<]*</(?:\w+:)?f>)'
    rb"\s*(?:<(?:\w+:)?v\s*/>|<(?:\w+:)?v>\s*</(?:\w+:)?v>)?\s*</(?:\w+:)?c>"
)
_MERGED = re.compile(rb'<(?:\w+:)?mergeCell\b[^>]*?\bref="(([A-Z]+)(\d+):[A-Z]+(\d+))"')


def read_excel(stream: RowStream, entry: Entry) -> Rows:
    """Yield the rows of a sheet.

    Raises:
        DataError: the workbook is damaged, or has no sheet with the name in `read.sheet`.
        EnvironmentFault: openpyxl is not installed.
    """
    try:
        import openpyxl
    except ImportError:
        hint = 'pip install "llmkit[excel]", or save the sheet as .csv (UTF-8)'
        raise EnvironmentFault("reading .xlsx needs openpyxl", where=entry.path, hint=hint) from None

    stream.unit = "row"
    with entry.open_seekable(stream.source) as file:
        try:
            book = openpyxl.load_workbook(file, read_only=True, data_only=True)
            sheet = _choose_sheet(stream, book.worksheets)
            if sheet is None:
                return
            contents = _Contents(sheet)
            contents.scan(file)
            yield from read_records(stream, _without_blank_columns(contents.records()), Dialect(","), entry.ending)
            stream.source.notes.update(contents.describe())
        except DataError:
            raise
        except Exception as error:  # openpyxl passes on the errors of zipfile and of its XML parser
            what = f"not a valid .xlsx file: {error}"
            raise DataError(what, where=entry.path, hint="save the sheet as .csv (UTF-8)") from None


def _choose_sheet(stream: RowStream, sheets: list[Any]) -> Any:
    """Return the sheet to read; None if all are empty."""
    wanted = stream.read.sheet
    if wanted is not None:
        named = {sheet.title.strip().casefold(): sheet for sheet in reversed(sheets)}
        if (found := named.get(wanted.strip().casefold())) is not None:
            return found
        titles = [sheet.title for sheet in sheets]
        what = f"no sheet {wanted!r}; found: {', '.join(map(repr, titles))}"
        raise DataError(what, where=stream.path, hint=did_you_mean(wanted, titles))
    filled = [sheet for sheet in sheets if next(_Contents(sheet).records(), None) is not None]
    filled.sort(key=lambda sheet: sheet.sheet_state != "visible")
    if others := filled[1:]:
        hidden = {sheet.title for sheet in filled if sheet.sheet_state != "visible"}
        listed = ", ".join(f"{each.title!r}{' (hidden)' * (each.title in hidden)}" for each in others)
        what = f"only the sheet {filled[0].title!r} is read; to read another, set --sheet or prepare.read.sheet"
        stream.note(what, f"other sheets: {listed}")
    return filled[0] if filled else None


@dataclass
class _Places:
    """Counts cells or ranges of one kind, and keeps the address of the first."""

    n: int = 0
    first: str = ""

    def add(self, place: str) -> None:
        self.n += 1
        self.first = self.first or place

    def describe(self, title: str) -> str:
        return f"{self.n:,} in sheet {title!r}, first {self.first}"


@dataclass
class _Contents:
    """The rows of a sheet, and notes on its cells."""

    sheet: Any
    formulas: _Places = field(default_factory=_Places)
    """Places of formulas without a saved value, which openpyxl reads as empty cells."""
    merged: _Places = field(default_factory=_Places)
    """Ranges of merged cells that span several rows."""
    errors: _Places = field(default_factory=_Places)
    inexact: _Places = field(default_factory=_Places)
    _until: dict[tuple[int, int], int] = field(default_factory=dict)
    """Maps (first row, column) of a merged range to its last row; rows and columns count from 1."""

    def scan(self, file: BinaryIO) -> None:
        """Find formulas without a saved value and merged cells, which openpyxl does not report."""
        rest = b""
        with zipfile.ZipFile(file) as book, book.open(self.sheet._worksheet_path) as xml:
            while chunk := xml.read(1 << 20):
                rest += chunk
                end = rest.rfind(b">") + 1
                cells = rest.rfind(b"</c>", 0, end) + 4
                end = cells if cells > 3 else end
                self._add_places(rest[:end])
                rest = rest[max(end, len(rest) - (1 << 20)) :]
            self._add_places(rest)

    def _add_places(self, xml: bytes) -> None:
        for place in _FORMULA.findall(xml):
            self.formulas.add(place.decode())
        for place, column, first, last in _MERGED.findall(xml):
            if int(first) < int(last):
                self.merged.add(place.decode())
                self._until[int(first), _to_number(column)] = int(last)

    def records(self) -> Iterator[Record]:
        """Yield the rows that are not blank, without trailing blank cells."""
        n_blank = 0
        filled: dict[int, tuple[str, int]] = {}
        for number, row in enumerate(self.sheet.iter_rows(min_row=1, min_col=1, values_only=True), start=1):
            n_errors = self.errors.n
            cells = [self._to_cell(value, number, column) for column, value in enumerate(row, start=1)]
            is_blank = not any(cells) and self.errors.n == n_errors
            while cells and not cells[-1]:
                cells.pop()
            n_blank = n_blank + 1 if is_blank else 0
            if n_blank > _MAX_BLANK_ROWS:
                what = f"{_MAX_BLANK_ROWS:,} consecutive rows are blank"
                raise DataError(what, where=self.sheet.title, hint="save it as .csv (UTF-8)")
            if is_blank:
                continue
            for column, (value, last) in list(filled.items()):
                if number > last:
                    del filled[column]
                else:
                    cells += [""] * (column - len(cells))
                    cells[column - 1] = cells[column - 1] or value
            if self._until:
                for column, value in enumerate(cells, start=1):
                    if last := self._until.get((number, column), 0):
                        filled[column] = value, last
            yield number, cells

    def _to_cell(self, value: object, row: int, column: int) -> str:
        if isinstance(value, str) and value in _ERRORS:
            self.errors.add(f"{value} in {_to_letters(column)}{row}")
            return ""
        if is_inexact(value):
            self.inexact.add(f"{_to_letters(column)}{row}")
        return to_cell(value)

    def describe(self) -> dict[str, str]:
        """Return notes with examples."""
        found = {
            "formulas without a saved value are empty cells; save the file in a spreadsheet program": self.formulas,
            "merged cells have their value in each of their rows": self.merged,
            "error values are empty cells": self.errors,
            "numbers of more than 15 digits were rounded by the spreadsheet; format ids as text there": self.inexact,
        }
        return {what: places.describe(self.sheet.title) for what, places in found.items() if places.n}


def _without_blank_columns(records: Iterator[Record]) -> Iterator[Record]:
    """Yield the records without columns that are blank in the first rows; a later cell in such a column is an error."""
    head = list(islice(records, SAMPLE_ROWS))
    used = sorted({number for _, cells in head for number, cell in enumerate(cells) if cell.strip()})
    known = set(used)
    for line, cells in chain(head, records):
        extra = next((n for n, cell in enumerate(cells) if n not in known and cell.strip()), None)
        if extra is not None:
            yield line, f"a cell in column {_to_letters(extra + 1)}, which is blank in the first {SAMPLE_ROWS:,} rows"
        else:
            yield line, [cells[number] if number < len(cells) else "" for number in used]


def _to_number(letters: bytes) -> int:
    number = 0
    for letter in letters:
        number = 26 * number + letter - 64
    return number


def _to_letters(column: int) -> str:
    letters = ""
    while column:
        column, letter = divmod(column - 1, 26)
        letters = chr(65 + letter) + letters
    return letters
