"""Read the rows of a file by its suffix: text formats through rows.py, .parquet and .xlsx here."""

import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, time
from itertools import islice
from typing import Any, BinaryIO

from llmkit.core.errors import DataError, EnvironmentFault
from llmkit.text.records.delimited import Dialect, Record
from llmkit.text.records.rows import Row, Rows, RowStream, open_text, read_records, read_text
from llmkit.text.sources import Entry, Source

_BATCH_ROWS = 256
_MAX_BLANK_ROWS = 10_000
_FORMULA = re.compile(
    rb'<(?:\w+:)?c\b[^>]*?\br="([A-Z]+\d+)"[^>]*>\s*<(?:\w+:)?f\b(?:[^>]*/>|[^>]*>[^<]*</(?:\w+:)?f>)'
    rb"\s*(?:<(?:\w+:)?v\s*/>|<(?:\w+:)?v>\s*</(?:\w+:)?v>)?\s*</(?:\w+:)?c>"
)
TABLE_ENDINGS = (".csv", ".tsv", ".jsonl", ".json", ".parquet", ".xlsx")


def read_entry(stream: RowStream, entry: Entry) -> Rows:
    """Read the rows of a file by its suffix; a suffix not in TABLE_ENDINGS means one row per line."""
    if entry.ending == ".parquet":
        yield from _read_parquet(stream, entry)
    elif entry.ending == ".xlsx":
        yield from _read_excel(stream, entry)
    else:
        with open_text(entry, stream.source, stream.read, by_row=entry.ending != ".json") as text:
            yield from read_text(stream, entry.ending, iter(text))


@contextmanager
def open_parquet(entry: Entry, source: Source) -> Iterator[Any]:
    """Open an entry as a ParquetFile of pyarrow. Raises DataError if it is damaged."""
    import pyarrow
    import pyarrow.parquet

    with entry.open_seekable(source) as file:
        try:
            yield pyarrow.parquet.ParquetFile(file)
        except (
            pyarrow.ArrowException,
            OSError,
            UnicodeDecodeError,
        ) as error:  # the last: invalid UTF-8
            what = f"not a valid parquet file: {error}"
            raise DataError(what, where=entry.path, hint="write the file again") from None


def _read_parquet(stream: RowStream, entry: Entry) -> Rows:
    """Yield the rows; rows after the first batches have only the columns `stream.selected`."""
    stream.unit, stream.reads_selected = "row", True
    with open_parquet(entry, stream.source) as table:
        stream.columns = list(table.schema_arrow.names)
        selected, n_batches, n_rows = None, 0, 0
        batches = table.iter_batches(_BATCH_ROWS)
        while (batch := next(batches, None)) is not None:
            yield from (Row(number, cells) for number, cells in enumerate(batch.to_pylist(), start=n_rows + 1))
            n_rows, n_batches = n_rows + len(batch), n_batches + 1
            if stream.selected != selected:
                selected = stream.selected
                batches = islice(table.iter_batches(_BATCH_ROWS, columns=selected), n_batches, None)


def _read_excel(stream: RowStream, entry: Entry) -> Rows:
    """Yield the rows of the first sheet that is not empty; a note names the other sheets."""
    try:
        import openpyxl
    except ImportError:
        hint = 'pip install "llmkit[excel]", or save the sheet as .csv (UTF-8)'
        raise EnvironmentFault("reading .xlsx needs openpyxl", where=entry.path, hint=hint) from None

    stream.unit = "row"
    with entry.open_seekable(stream.source) as file:
        try:
            book = openpyxl.load_workbook(file, read_only=True, data_only=True)
            sheets = [sheet for sheet in book.worksheets if next(_records_of(sheet), None) is not None]
            if not sheets:
                return
            if others := sheets[1:]:
                stream.note("only the first sheet is read", f"left out: {', '.join(repr(s.title) for s in others)}")
            yield from read_records(stream, _records_of(sheets[0]), Dialect(","), entry.ending)
            if found := _find_formulas(file, sheets[0]):
                what = "formulas without a saved value are empty cells; save the file in a spreadsheet program"
                stream.note(what, f"{len(found):,} in sheet {sheets[0].title!r}, first {found[0]}")
        except DataError:
            raise
        except Exception as error:  # openpyxl passes on the errors of zipfile and of its XML parser
            what = f"not a valid .xlsx file: {error}"
            raise DataError(what, where=entry.path, hint="save the sheet as .csv (UTF-8)") from None


def _records_of(sheet: Any) -> Iterator[Record]:
    """Yield the non-blank rows of a sheet, without trailing blank cells beyond the width of the first row."""
    width, n_blank = 0, 0
    for number, row in enumerate(sheet.iter_rows(values_only=True), start=1):
        cells = [_to_cell(value) for value in row]
        while cells and not cells[-1]:
            cells.pop()
        n_blank = 0 if cells else n_blank + 1
        if n_blank > _MAX_BLANK_ROWS:
            raise DataError("10,000 consecutive rows are blank", where=sheet.title, hint="save it as .csv (UTF-8)")
        if cells:
            width = width or len(cells)
            yield number, cells + [""] * (width - len(cells))


def _find_formulas(file: BinaryIO, sheet: Any) -> list[str]:
    """Return the places of formulas without a saved value, which openpyxl reads as empty cells."""
    found: list[str] = []
    rest = b""
    with zipfile.ZipFile(file) as book, book.open(sheet._worksheet_path) as xml:
        while chunk := xml.read(1 << 20):
            rest += chunk
            end = rest.rfind(b"</c>") + 4
            found += (place.decode() for place in _FORMULA.findall(rest[:end]))
            rest = rest[max(end, len(rest) - (1 << 20)) :]
    return found


def _to_cell(value: object) -> str:
    """Return a cell as text: whole numbers without decimals, dates as ISO 8601."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value.isoformat() if isinstance(value, date | time) else str(value)
