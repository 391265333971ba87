"""Rows of a table in any format: .csv, .tsv, .jsonl, .json, .parquet, `hf:` data sets, plain lines, stdin.

Rows are streamed; the first SAMPLE_ROWS are read in advance, to find the columns and whether a .csv or .tsv has a
header. Without a known suffix (`-`, .txt, none) the beginning of the text decides: JSON, a line with a tab, a line of
column names separated by commas; otherwise each line is a text in a column `text`.

Cells are texts in .csv, .tsv and plain lines, JSON values elsewhere. Does not know what a column means.
"""

import csv
import json
import re
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Literal

from llmkit.config.prepare import Read
from llmkit.core.errors import DataError
from llmkit.tables.label_columns import KNOWN_NAMES, LABEL_NAMES, TEXT_NAMES
from llmkit.text.corpora import find_class_names, open_dataset
from llmkit.text.inputs import find_files, is_stream
from llmkit.text.json_rows import BadValue, describe_type, parse_lines, parse_stream
from llmkit.text.plain import split_lines, unify_line_ends
from llmkit.text.sources import Entry, Source, find_entries
from llmkit.text.tables import (
    UNDECODED,
    Record,
    find_problem,
    guess_delimiter,
    header_error,
    is_text,
    open_parquet,
    open_text,
    reject_row,
    split_records,
)

SAMPLE_ROWS = 1000
_MAX_SNIFFED_CHARS = 1 << 16
_MAX_NAME_CHARS = 50
_JSON_BEGINS = re.compile(r'\s*(\{\s*["}]|\[\s*[\[\]{"])')  # but not "[sic] is a word", a plain line

Header = Literal["auto"] | bool
Rows = Generator["Row", None, None]


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its line and its cells by column."""

    line: int
    """The line where it begins, from 1; in parquet and data sets the row number, from 1."""
    cells: dict[str, object]


class RowStream:
    """Iterates over the rows once; use it in a `with` block, which closes the file.

    `columns` are those of the first rows; `sample` holds these rows, which the iteration yields too. `has_header` is
    None for formats without a header; `unit` says whether `Row.line` is a line or a row number. `source` counts the
    skipped rows and has, after the last row, the size and hash of a file.
    """

    def __init__(self, path: str, unit: Literal["line", "row"], skip_bad: bool) -> None:
        self.path = path
        self.unit = unit
        self.columns: list[str] = []
        self.has_header: bool | None = None
        self.source = Source(path)
        self.sample: list[Row] = []
        self.skip_bad = skip_bad

    def start(self, reader: Rows) -> None:
        """Read the sample; `reader` may have set `columns` and `has_header` before its first row."""
        self._reader = reader
        self.sample = list(islice(reader, SAMPLE_ROWS))
        if not self.sample:
            skipped = "; ".join(f"{reason}: {n}" for reason, n in self.source.skipped.items())
            below = " below the header" if self.has_header else ""
            what = f"there are no rows{below}" + (f" that can be used ({skipped})" if skipped else "")
            no_header = "is the first line a row? Then set -s cls.header=false"
            raise DataError(what, where=self.path, hint=no_header if self.has_header else "give a file with texts")
        self.columns = self.columns or list(dict.fromkeys(key for row in self.sample for key in row.cells))
        self._rows = chain(self.sample, reader)

    def __iter__(self) -> Iterator[Row]:
        return self._rows

    def __enter__(self) -> "RowStream":
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()

    def locate(self, line: int) -> str:
        """The path and line of a row, for errors."""
        return f"{self.path}:{line}" if self.unit == "line" else f"{self.path}, row {line}"

    def reject(self, problem: str, line: int) -> None:
        """Skip and count a bad row, or raise DataError for it without `skip_bad`."""
        reject_row(problem, self.locate(line), self.source, self.skip_bad)


def open_rows(path: str, read: Read, *, header: Header = "auto", wanted: Sequence[str] = ()) -> RowStream:
    """Open the rows of one file, of stdin (`-`) or of a data set (`hf:NAME[:CONFIG][@SPLIT]`).

    `wanted` are columns that the user named: a first line with one of them is a header. With `read.skip_bad` bad rows
    are skipped, counted in `source.skipped` and logged.

    Raises:
        DataError: no such file, no rows, bad rows (with their line), two columns of one name. Bad rows after the sample
            raise during the iteration.
    """
    if path.startswith("hf:"):
        stream = RowStream(path, "row", read.skip_bad)
        stream.start(_read_dataset(stream))
        return stream
    path = _find_file(path)
    stream = RowStream(path, "row" if ".parquet" in Path(path).suffixes else "line", read.skip_bad)
    stream.start(_read_file(stream, read, header, wanted))
    return stream


def _find_file(path: str) -> str:
    if path.startswith("builtin:"):
        raise DataError("a built-in corpus is not a table", where=path, hint="give .csv, .tsv, .jsonl or .parquet")
    found = find_files([path]) if not Path(path).is_dir() or path == "-" else []
    if len(found) == 1:
        return found[0]
    what = f"{len(found)} files match" if found else f"{path} is a folder"
    raise DataError(f"{what}; one file is needed", where=path, hint=f"name one file, or a data set: hf:{path}")


def _read_file(stream: RowStream, read: Read, header: Header, wanted: Sequence[str]) -> Rows:
    names = ["-"] if is_stream(stream.path) else [each.path for each in find_entries(stream.path, Source(stream.path))]
    if len(names) != 1:
        listed = ", ".join(name.rpartition("!")[2] for name in names[:5]) or "no readable file"
        hint = "pack one .csv, .tsv, .jsonl, .json or .parquet file alone, or unpack it"
        raise DataError(f"the archive holds {listed}; one table is needed", where=stream.path, hint=hint)
    entries = find_entries(stream.path, stream.source)  # a reference keeps a .zip open
    entry = next(entries)
    if entry.ending not in ("", ".txt", ".md", ".parquet", *_TEXT_KINDS):
        raise DataError("this is a document, not a table", where=entry.path, hint="give .csv, .tsv, .jsonl or .parquet")
    if entry.ending == ".parquet":
        stream.unit = "row"
        yield from _read_parquet(stream, entry)
        return
    with open_text(entry, stream.source, read, by_row=entry.ending != ".json") as text:
        ending, pieces = (entry.ending, iter(text)) if entry.ending in _TEXT_KINDS else _sniff(text, wanted)
        if ending in (".csv", ".tsv"):
            yield from _read_table(stream, split_records(pieces, entry.path, tabs=ending == ".tsv"), header, wanted)
        elif ending == ".jsonl":
            yield from _read_values(stream, parse_lines(split_lines(pieces, entry.path)))
        elif ending == ".json":
            yield from _read_values(stream, parse_stream(pieces, entry.path))
        else:
            yield from _read_plain(stream, split_lines(pieces, entry.path))


_TEXT_KINDS = (".csv", ".tsv", ".jsonl", ".json")


def _sniff(text: Iterable[str], wanted: Sequence[str]) -> tuple[str, Iterator[str]]:
    """(suffix, text) of a text without a known suffix."""
    pieces = unify_line_ends(text)
    head = ""
    for piece in pieces:
        head += piece
        if len(head) > _MAX_SNIFFED_CHARS or "\n" in head.lstrip():
            break
    line = head.lstrip().partition("\n")[0]
    text = chain([head], pieces)
    if _JSON_BEGINS.match(head):
        return (".jsonl" if line.startswith("{") and _is_json(line) else ".json"), text
    if "\t" in line:
        return ".tsv", text
    try:
        cells = {cell.strip() for cell in next(csv.reader([line], delimiter=guess_delimiter(line)), [])}
    except csv.Error:
        cells = set()
    folded = {cell.casefold() for cell in cells}
    names_columns = folded & set(TEXT_NAMES) and folded & set(LABEL_NAMES)
    if names_columns or (cells & set(wanted) and len(cells) > 1):
        return ".csv", text
    return ".txt", text


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _read_table(stream: RowStream, records: Iterator[Record], header: Header, wanted: Sequence[str]) -> Rows:
    head = list(islice(records, SAMPLE_ROWS))
    if not head:
        return
    line, first = head[0]
    if isinstance(first, str):
        raise header_error(first, stream.locate(line))
    below = [cells for _, cells in head[1:] if isinstance(cells, list) and len(cells) == len(first)]
    stream.has_header = _looks_like_header(first, below, wanted) if header == "auto" else header
    # Columns without a name, which spreadsheets may append, are named by their number, as all are without a header.
    names = first if stream.has_header else [""] * len(first)
    stream.columns = [name.strip() or str(number) for number, name in enumerate(names, start=1)]
    _require_unique_columns(stream)
    model = "header" if stream.has_header else "first row"
    for line, cells in chain(head[stream.has_header :], records):
        if isinstance(cells, str) or (problem := find_problem(cells, len(stream.columns), model)):
            stream.reject(cells if isinstance(cells, str) else problem, line)
        else:
            yield Row(line, dict(zip(stream.columns, cells, strict=True)))


def _looks_like_header(first: Sequence[str], below: Sequence[Sequence[str]], wanted: Sequence[str]) -> bool:
    """Whether a first row is a header: it has known names, or its cells are unlike those below them."""
    cells = [cell.strip() for cell in first]
    if set(cells) & set(wanted):
        return True
    repeated = [bool(cell) and any(row[index].strip() == cell for row in below) for index, cell in enumerate(cells)]
    known = [cell.casefold() in KNOWN_NAMES for cell in cells]
    # A single known name that is repeated below, such as an intent called "query", is a label.
    if sum(known) > 1 or any(is_known and not again for is_known, again in zip(known, repeated, strict=True)):
        return True
    if len(cells) == 1:  # a list of texts, whose first is most likely a text too
        return False
    return not any(repeated) and all(not cell or (is_text(cell) and len(cell) <= _MAX_NAME_CHARS) for cell in cells)


def _require_unique_columns(stream: RowStream) -> None:
    duplicates = [name for name, n in Counter(stream.columns).items() if n > 1]
    if duplicates:
        hint = "give each column a different name" + ("; or is the first line a row?" if stream.has_header else "")
        raise DataError(f"more than one column is called {duplicates[0]!r}", where=stream.locate(1), hint=hint)


def _read_values(stream: RowStream, values: Iterable[tuple[int, object]]) -> Rows:
    for line, value in values:
        if isinstance(value, dict):
            yield Row(line, value)
        elif isinstance(value, str):
            yield Row(line, {"text": value})
        elif isinstance(value, BadValue):
            stream.reject(value.problem, line)
        else:
            stream.reject(f"the row is {describe_type(value)}, not an object or a text", line)


def _read_plain(stream: RowStream, lines: Iterable[str]) -> Rows:
    for number, line in enumerate(lines, start=1):
        if UNDECODED.search(line):
            stream.reject("bytes that cannot be decoded", number)
        elif line.strip():
            yield Row(number, {"text": line})


def _read_parquet(stream: RowStream, entry: Entry) -> Rows:
    with open_parquet(entry, stream.source) as table:
        stream.columns = list(table.schema_arrow.names)
        _require_unique_columns(stream)
        batches = table.iter_batches(batch_size=256)
        for number, cells in enumerate(chain.from_iterable(batch.to_pylist() for batch in batches), start=1):
            yield Row(number, cells)


def _read_dataset(stream: RowStream) -> Rows:
    rows = open_dataset(stream.path)
    class_names = find_class_names(rows)
    for number, row in enumerate(rows, start=1):
        cells = dict(row)
        for column, names in class_names.items():
            cells[column] = _to_class_names(cells[column], names)
        yield Row(number, cells)


def _to_class_names(value: object, names: Sequence[str]) -> object:
    if isinstance(value, list):
        return [_to_class_names(each, names) for each in value]
    return names[value] if isinstance(value, int) and value >= 0 else None  # -1 means unlabelled


def without_surrogates(text: str) -> str:
    """The text with question marks for lone surrogates, which JSON allows and UTF-8 cannot encode."""
    return text.encode("utf-8", "replace").decode()
