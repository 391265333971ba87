"""Choose the reader of a table by its suffix: rows.py for text formats, excel.py for .xlsx. Reads .parquet itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

from llmkit.core.errors import DataError
from llmkit.text.entries import Entry
from llmkit.text.records.excel import read_excel
from llmkit.text.records.plain_values import to_plain
from llmkit.text.records.rows import Row, Rows, RowStream, open_text, read_text
from llmkit.text.sources import Source

_BATCH_ROWS = 256
TABLE_ENDINGS = (".csv", ".tsv", ".jsonl", ".json", ".parquet", ".xlsx")


def read_entry(stream: RowStream, entry: Entry) -> Rows:
    """Read the rows of a file by its suffix; a suffix not in TABLE_ENDINGS means one row per line."""
    if entry.ending == ".parquet":
        yield from _read_parquet(stream, entry)
    elif entry.ending == ".xlsx":
        yield from read_excel(stream, entry)
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
    """Yield the rows; once `stream.selected` is set, later batches have only these columns."""
    stream.unit, stream.reads_selected = "row", True
    with open_parquet(entry, stream.source) as table:
        stream.columns = list(table.schema_arrow.names)
        typed = [each.name for each in table.schema_arrow if not _is_plain(each.type)]
        selected, n_batches, n_rows = None, 0, 0
        batches = table.iter_batches(_BATCH_ROWS)
        while (batch := next(batches, None)) is not None:
            for number, cells in enumerate(batch.to_pylist(), start=n_rows + 1):
                yield Row(number, cells | {name: to_plain(cells[name]) for name in typed if name in cells})
            n_rows, n_batches = n_rows + len(batch), n_batches + 1
            if stream.selected != selected:
                selected = stream.selected
                batches = islice(table.iter_batches(_BATCH_ROWS, columns=selected), n_batches, None)


def _is_plain(kind: Any) -> bool:
    """Whether pyarrow converts the values of a column to strings, numbers, booleans, or lists of them."""
    from pyarrow import types

    if types.is_dictionary(kind):
        return _is_plain(kind.value_type)
    if types.is_list(kind) or types.is_large_list(kind):
        return _is_plain(kind.value_type)
    tests = (types.is_string, types.is_large_string, types.is_integer, types.is_floating, types.is_boolean)
    return any(test(kind) for test in tests)
