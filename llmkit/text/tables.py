"""Read .csv, .tsv and .parquet: one document per row, from the column that holds the text.

A cell is text: "NA", "null" and "None" are kept, and empty cells are skipped and counted. In .csv quotes work as in
RFC 4180, with line ends inside quotes; in .tsv a quote is an ordinary character (text/tab-separated-values). A row with
another number of cells than the header, or with an unclosed quote, is an error with its line number, or is skipped and
counted; the rows after it are read.
"""

import csv
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from typing import Any

from llmkit.config.prepare import Read
from llmkit.core.errors import DataError, did_you_mean
from llmkit.text.documents import Document, make_documents
from llmkit.text.encodings import TextStream
from llmkit.text.plain import MAX_ROW_CHARS, split_lines, unify_line_ends
from llmkit.text.sources import Entry, Source

# In order of preference.
TEXT_NAMES = (
    *("text", "content", "body", "document", "article", "story", "sentence"),
    *("正文", "内容", "內容", "文本", "文章"),
)


def choose_column(columns: Sequence[str], wanted: str | None, rows: Iterable[Mapping[str, object]], where: str) -> str:
    """The wanted column, else one with a well-known name, else the only one that has texts in `rows`.

    Numbers written as text, as in CSV, are not texts. DataError lists the columns.
    """
    if wanted is not None:
        if wanted in columns:
            return wanted
        raise missing_column_error(wanted, columns, where)
    folded = {column.strip().casefold(): column for column in reversed(columns)}
    for name in TEXT_NAMES:
        if name in folded:
            return folded[name]
    textual = {column for row in rows for column, value in row.items() if isinstance(value, str) and is_text(value)}
    if len(textual) == 1:
        return textual.pop()
    raise DataError(
        f"no column has a known name such as {', '.join(TEXT_NAMES[:3])}; found: {list_columns(columns)}",
        where=where,
        hint="name the column that holds the text: -s prepare.read.text_column=NAME",
    )


def missing_column_error(wanted: str, columns: Sequence[str], where: str) -> DataError:
    """The error for a column that the user named and that does not exist."""
    return DataError(
        f"no column {wanted!r}; found: {list_columns(columns)}",
        where=where,
        hint=did_you_mean(wanted, map(str, columns)),
    )


def is_text(value: str) -> bool:
    """Whether a cell is neither white space nor a number."""
    try:
        float(value)
    except ValueError:
        return bool(value.strip())
    return False


def list_columns(columns: Sequence[str]) -> str:
    """The columns for an error message, shortened."""
    return ", ".join(repr(column[:60]) for column in columns[:30]) + (", ..." if len(columns) > 30 else "")


_SAMPLE_ROWS = 100
UNDECODED = re.compile("[\udc80-\udcff]")  # undecodable bytes as surrogateescape decodes them

Record = tuple[int, list[str] | str]
"""The line where a record begins, and its cells, or the error in it."""


@contextmanager
def open_text(entry: Entry, source: Source, read: Read, *, by_row: bool = True) -> Iterator[TextStream]:
    """The decoded text of an entry.

    With `read.skip_bad` and `by_row`, for formats whose rows are independent, an undecodable byte spoils only its row
    (see UNDECODED); otherwise it raises.
    """
    errors = "surrogateescape" if read.skip_bad and by_row else "strict"
    with entry.open(source) as file:
        stream = TextStream(file, read.encoding, entry.path, errors=errors)
        yield stream
        source.encoding, source.example = stream.encoding, stream.example


def split_records(pieces: Iterable[str], path: str, *, tabs: bool) -> Iterator[Record]:
    """The records of decoded .tsv (`tabs`) or .csv text, without blank lines."""
    lines = split_lines(unify_line_ends(pieces), path)
    if tabs:
        return ((number, line.split("\t")) for number, line in enumerate(lines, start=1) if line)
    return _parse_csv(lines)


def read_table(entry: Entry, source: Source, read: Read) -> Iterator[Document]:
    """Documents of a .csv or .tsv file with a header line."""
    with open_text(entry, source, read) as stream:
        records = split_records(stream, entry.path, tabs=entry.ending == ".tsv")
        header = next(records, None)
        if header is None:
            source.skip("empty file", entry.path)
        else:
            yield from _read_rows(header, records, entry.path, source, read)


def _read_rows(header: Record, records: Iterator[Record], path: str, source: Source, read: Read) -> Iterator[Document]:
    line, columns = header
    if isinstance(columns, str):
        raise header_error(columns, f"{path}:{line}")
    sample = list(islice(records, _SAMPLE_ROWS))
    rows = [dict(zip(columns, cells, strict=False)) for _, cells in sample if isinstance(cells, list)]
    column = columns.index(choose_column(columns, read.text_column, rows, f"{path}:{line}"))
    for index, (line, cells) in enumerate(chain(sample, records)):
        if isinstance(cells, str) or (problem := find_problem(cells, len(columns), "header")):
            reject_row(cells if isinstance(cells, str) else problem, f"{path}:{line}", source, read.skip_bad)
        elif text := cells[column]:
            yield from make_documents([text], path, index, read.max_doc_chars)
        else:
            source.skipped["empty"] += 1


def header_error(problem: str, where: str) -> DataError:
    """The error for a first line that is no valid record."""
    return DataError(problem, where=where, hint="the header line must be valid, with every quote closed")


def find_problem(cells: list[str], n_columns: int, model: str) -> str:
    """The error in a row that should have as many cells as `model`, the header or the first row; empty if none."""
    if len(cells) != n_columns:
        return f"{len(cells)} cells where the {model} has {n_columns}"
    if any(map(UNDECODED.search, cells)):
        return "bytes that cannot be decoded"
    return ""


def reject_row(problem: str, where: str, source: Source, skip_bad: bool) -> None:
    """Skip and count a bad row, or raise DataError for it."""
    if not skip_bad:
        raise DataError(problem, where=where, hint="fix the row, or skip bad rows with --skip-bad")
    source.skip(re.sub(r"\d+", "n", problem.partition(":")[0]), where)


def _parse_csv(lines: Iterator[str]) -> Iterator[Record]:
    """Records of a CSV file; after a bad one parsing continues with the line after its first line."""
    csv.field_size_limit(MAX_ROW_CHARS)  # the default limit, 131,072, is less than a chapter
    first = next(lines, None)
    if first is None:
        return
    waiting = deque([first])
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

    delimiter = guess_delimiter(first)
    start = 1
    reader = csv.reader(take_lines(), delimiter=delimiter, strict=True)
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            reason = "unclosed quote" if "unexpected end" in str(error) else f"bad quoting: {error}"
            yield start, reason
            waiting.extendleft(reversed(taken[1:]))
            start += 1
            taken.clear()
            reader = csv.reader(take_lines(), delimiter=delimiter, strict=True)
            continue
        if cells:
            yield start, cells
        start += len(taken)
        taken.clear()


def guess_delimiter(header: str) -> str:
    """A comma, or another common delimiter if the header has no comma."""
    return next((mark for mark in (",", ";", "\t", "|") if mark in header), ",")


@contextmanager
def open_parquet(entry: Entry, source: Source) -> Iterator[Any]:
    """The pyarrow ParquetFile of an entry; DataError if it is damaged."""
    import pyarrow
    import pyarrow.parquet

    with entry.open_seekable(source) as file:
        try:
            yield pyarrow.parquet.ParquetFile(file)
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:  # the last: text that is not UTF-8
            what = f"not a valid parquet file: {error}"
            raise DataError(what, where=entry.path, hint="write the file again") from None


def read_parquet(entry: Entry, source: Source, read: Read) -> Iterator[Document]:
    """Documents of a .parquet file, batch by batch."""
    with open_parquet(entry, source) as table:
        column = _choose_parquet_column(table.schema_arrow, read.text_column, entry.path)
        index = 0
        for batch in table.iter_batches(batch_size=256, columns=[column]):
            for text in batch.column(0).to_pylist():
                if text:
                    yield from make_documents([text], entry.path, index, read.max_doc_chars)
                else:
                    source.skipped["empty"] += 1
                index += 1


def _choose_parquet_column(schema: Any, wanted: str | None, path: str) -> str:
    textual = [field.name for field in schema if _holds_text(field.type)]
    column = choose_column(schema.names, wanted, [dict.fromkeys(textual, "x")], path)
    if column not in textual:
        raise DataError(
            f"column {column!r} holds {schema.field(column).type}, not text",
            where=path,
            hint=f"columns with text: {', '.join(textual) or 'none'}",
        )
    return column


def _holds_text(kind: object) -> bool:
    import pyarrow.types as types

    value = kind.value_type if types.is_dictionary(kind) else kind  # type: ignore[attr-defined]  # a dictionary has it
    return bool(types.is_string(value) or types.is_large_string(value) or types.is_string_view(value))
