"""Read the rows of a table in any format: .csv, .tsv, .jsonl, .json, .parquet, .xlsx, plain lines.

Rows are streamed; the first ones are read in advance, to find the columns and whether there is a header. Cells are
texts in .csv, .tsv, .xlsx and plain lines, JSON values elsewhere. A row with another number of cells than the header,
or one that cannot be parsed, is an error with its line number, or is skipped and counted; the rows after it are read.

Does not know the meaning of columns.
"""

import re
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain, dropwhile, islice
from typing import Literal, NamedTuple

from llmkit.config.prepare import Read
from llmkit.core.console import count
from llmkit.core.errors import DataError
from llmkit.text.decoding.encodings import TextStream
from llmkit.text.entries import Entry
from llmkit.text.lines import replace_lone_returns, split_lines, unify_line_ends, unify_returns
from llmkit.text.records.column_names import KNOWN_NAMES
from llmkit.text.records.delimited import (
    FULL_WIDTH_DELIMITERS,
    Dialect,
    Record,
    find_full_width_delimiter,
    split_records,
)
from llmkit.text.records.fields import MISSING, BadCell, describe_type, get_value, is_chat, list_columns
from llmkit.text.records.json_rows import UNDECODED, BadValue, parse_lines, parse_stream
from llmkit.text.records.json_shapes import FindRows, find_pandas_rows, find_rows
from llmkit.text.records.table_header import count_title_rows, is_header
from llmkit.text.sources import Source

SAMPLE_ROWS = 1000
_SAMPLE_CHARS = 4_000_000

FASTTEXT = "fasttext"
_LABELS = re.compile(r"\s*((?:__label__\S+\s+)*)(.*)", re.DOTALL)
Header = Literal["auto"] | bool
Rows = Generator["Row", None, None]


class Row(NamedTuple):
    """One row: line number, and cells by column name."""

    line: int
    """The line where the row begins, from 1; in parquet, .xlsx and data sets the row number, from 1."""
    cells: dict[str, object]


class RowStream:
    """Iterates over the rows once; use it in a `with` block, which closes the file.

    `columns` are the columns of the first rows; `sample` holds the first rows, and the iteration yields them too.
    `has_header` is None for formats without a header; `unit` says whether `Row.line` is a line or a row number.
    `source` counts the skipped rows, notes what was guessed, and has, after the last row, the size and hash of a file.
    """

    def __init__(self, source: Source, read: Read, *, header: Header = "auto", wanted: Sequence[str] = ()) -> None:
        self.path = source.path
        self.source = source
        self.read = read
        self.header = read.header if header == "auto" else header
        self.wanted = wanted
        self.unit: Literal["line", "row"] = "line"
        self.columns: list[str] = []
        self.has_header: bool | None = None
        self.computed: list[str] = []
        """The columns that `add_column` has added."""
        self.sample: list[Row] = []
        self.may_guess_header = True
        """Whether the first row counts as a header if neither its names nor the rows below it decide."""
        self.keeps_line_ends = False
        r"""Whether to keep `\r\n` and `\r` inside the quotes of a .csv; otherwise they become `\n`."""
        self.container = ""
        """Key of the list of rows in a .json file that is an object."""
        self.announce: Callable[[Source], None] | None = None
        """Called with `source` at the end of the `with` block, to log the notes."""
        self.selected: list[str] | None = None
        """Columns to read in the rows after the sample; None: all."""
        self.reads_selected = False
        """Whether the reader omits columns that are not in `selected`."""
        self._reader: Rows

    def start(self, reader: Rows) -> None:
        """Read the sample; `reader` may set `columns` and `has_header` before it yields the first row."""
        self._reader = reader
        n_chars = 0
        for row in islice(reader, SAMPLE_ROWS):
            self.sample.append(row)
            if (n_chars := n_chars + _size(row.cells.values())) > _SAMPLE_CHARS:
                break
        self.columns = self.columns or list(dict.fromkeys(key for row in self.sample for key in row.cells))
        self._rest: Iterator[Row] = reader
        for name in self.wanted:  # requested paths of keys, such as `data.text`
            is_path = "." in name and name not in self.columns
            if is_path and any(get_value(row.cells, name) is not MISSING for row in self.sample):
                self.add_column(name, partial(get_value, path=name))

    def add_column(self, name: str, compute: Callable[[dict[str, object]], object]) -> None:
        """Add a column that `compute` derives from the cells of each row.

        A row lacks the column if `compute` returns MISSING, and is rejected if `compute` raises BadCell.
        """

        def add(rows: Iterable[Row]) -> Iterator[Row]:
            for row in rows:
                try:
                    value = compute(row.cells)
                except BadCell as error:
                    self.reject(str(error), row.line)
                    continue
                if value is not MISSING:
                    row.cells[name] = value
                yield row

        self.columns = [*self.columns, name]
        self.computed.append(name)
        self.sample = list(add(self.sample))
        self._rest = add(self._rest)

    def __iter__(self) -> Iterator[Row]:
        return chain(self.sample, self._rest)

    def __enter__(self) -> "RowStream":
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()
        if self.announce:
            self.announce(self.source)

    @property
    def field(self) -> str | None:
        """The field that the user named."""
        return self.read.field or next(iter(self.wanted), None)

    def note(self, what: str, example: str) -> None:
        """Record a guess or an omission, with an example."""
        self.source.notes[what] = example

    def locate(self, line: int) -> str:
        """Return the path and line of a row, for errors."""
        return f"{self.path}:{line}" if self.unit == "line" else f"{self.path}, row {line}"

    def reject(self, problem: str, line: int, hint: str = "") -> None:
        """Skip and count a bad row if `read.skip_bad` is set, else raise DataError."""
        if not self.read.skip_bad:
            hint = f"fix the row, or skip bad rows with --skip-bad{'; ' if hint else ''}{hint}"
            raise DataError(problem, where=self.locate(line), hint=hint)
        self.source.skip(re.sub(r"\d+", "n", problem.partition(":")[0]), self.locate(line))


@contextmanager
def open_text(entry: Entry, source: Source, read: Read, *, by_row: bool = True) -> Iterator[TextStream]:
    """Open the decoded text of an entry.

    With `read.skip_bad` and `by_row`, for formats whose rows are independent, an undecodable byte invalidates only its
    row (see UNDECODED); otherwise it raises an error.
    """
    errors = "surrogateescape" if read.skip_bad and by_row else "strict"
    with entry.open(source) as file:
        stream = TextStream(file, read.encoding, entry.path, errors=errors)
        yield stream
        stream.record(source)


def read_text(stream: RowStream, ending: str, pieces: Iterator[str]) -> Rows:
    """Read rows from decoded text. `ending` is .csv, .tsv, .json, .jsonl or FASTTEXT; any other means plain lines."""
    begin = ""
    for piece in pieces:
        begin = (begin + piece).lstrip("\ufeff")  # a second byte order mark
        if begin.strip():
            break
    pieces = chain([begin], pieces)
    if ending == ".json":
        is_list = begin.lstrip().startswith("[")  # its elements are rows, even if there is only one
        find = (lambda value, wanted: None) if is_list else find_rows
        yield from _read_json(stream, parse_stream(pieces, stream.path), find)
    elif ending == ".jsonl":
        yield from _read_json(stream, parse_lines(split_lines(pieces, stream.path)), find_pandas_rows)
    elif ending in (".csv", ".tsv"):
        keep = partial(replace_lone_returns, is_quoted=ending == ".csv")
        unify = keep if stream.keeps_line_ends else unify_line_ends
        lines = split_lines(unify(pieces), stream.path)
        dialect, records = split_records(lines, ending, stream.read.delimiter)
        yield from read_records(stream, records, dialect, ending)
    elif ending == FASTTEXT:
        yield from _read_fasttext(stream, split_lines(unify_line_ends(pieces), stream.path))
    else:
        yield from _read_plain(stream, split_lines(unify_line_ends(pieces), stream.path))


def read_records(stream: RowStream, records: Iterator[Record], dialect: Dialect, ending: str) -> Rows:
    """Turn records into rows; the first record may be a header."""
    head: list[Record] = []
    n_chars = 0
    for record in islice(dropwhile(_is_blank, records), SAMPLE_ROWS):
        head.append(record)
        if (n_chars := n_chars + _size(record[1])) > _SAMPLE_CHARS:
            break
    if not head:
        return
    head = _skip_titles(stream, head)
    line, first = head[0]
    if isinstance(first, str):
        hint = "the first line must be valid, with every quote closed"
        raise DataError(first, where=stream.locate(line), hint=hint)
    below = [cells for _, cells in head[1:] if isinstance(cells, list) and len(cells) == len(first)]
    guess = partial(is_header, first, below, stream.wanted, by_default=stream.may_guess_header)
    stream.has_header = guess() if stream.header == "auto" else stream.header
    # A column without a name, which spreadsheets may append, is named by its number, like all columns without a header.
    names = first if stream.has_header else [""] * len(first)
    columns = [unify_returns(name.strip()) or str(number) for number, name in enumerate(names, start=1)]
    stream.columns = columns
    _note_table(stream, first, dialect, ending)
    if not dialect.delimiter and stream.read.delimiter == "auto" and (mark := find_full_width_delimiter(head)):
        what = f"{mark} does not separate cells; if it should: -s prepare.read.delimiter={mark}"
        stream.note(what, f"each row has the same number of them: {first[0].count(mark)}")
    model = "header" if stream.has_header else "first row"
    repeated: list[int] = []
    for line, cells in chain(head[stream.has_header :], records):
        if isinstance(cells, str):
            stream.reject(cells, line)
        elif len(cells) == 1 < len(columns) and not cells[0].strip():
            continue  # a blank line with spaces
        elif len(cells) != len(columns):
            what = f"{len(cells)} cells, but the {model} has {len(columns)}"
            wide = next((mark for mark in FULL_WIDTH_DELIMITERS if any(mark in cell for cell in cells)), "")
            other = f"or set prepare.read.delimiter: this is {dialect.describe()}"
            other = f"or replace the full-width {wide} between its cells" if wide and len(cells) == 1 else other
            other = "or make the header the first row of the sheet" if ending == ".xlsx" else other
            stream.reject(what, line, hint=other)
        elif any(map(UNDECODED.search, cells)):
            stream.reject("bytes that cannot be decoded", line)
        elif stream.has_header and cells == first and len(columns) > 1:
            repeated.append(line)
        else:
            yield Row(line, dict(zip(columns, cells, strict=True)))
    if repeated:
        what = "rows that repeat the header, as in concatenated files, are skipped"
        stream.note(what, f"number of rows: {len(repeated):,}, first {stream.unit} {repeated[0]:,}")


def _skip_titles(stream: RowStream, head: list[Record]) -> list[Record]:
    """Return the first records without titles and comments above the table, and note what was skipped."""
    if stream.header is False or not all(isinstance(cells, list) for _, cells in head):
        return head
    n_above = count_title_rows([cells for _, cells in head if isinstance(cells, list)], stream.wanted)
    if n_above:
        what = "rows above the table are skipped; if the table has no header, set prepare.read.header=false"
        stream.note(what, f"number of rows: {n_above:,}, first {''.join(head[0][1])[:60]!r}")
    return head[n_above:]


def _size(cells: Iterable[object]) -> int:
    """Return the approximate number of characters in the cells."""
    return sum(50 + (len(cell) if isinstance(cell, str | list) else 0) for cell in cells)


def _is_blank(record: Record) -> bool:
    return isinstance(record[1], list) and not any(map(str.strip, record[1]))


def require_unique(columns: Sequence[str], where: str, *, has_header: bool = True) -> None:
    """Raise DataError if two columns have the same name."""
    duplicates = [name for name, n in Counter(columns).items() if n > 1]
    if duplicates:
        no_header = "; is the first line a row? Then set prepare.read.header=false"
        hint = "give each column a different name" + (no_header if has_header else "")
        raise DataError(f"more than one column is called {duplicates[0]!r}", where=where, hint=hint)


def _note_table(stream: RowStream, first: Sequence[str], dialect: Dialect, ending: str) -> None:
    """Add a note on how the table is read, with its first row, unless suffix and header make this clear."""
    is_own = dialect.delimiter == ("\t" if ending == ".tsv" else ",") and dialect.is_quoted == (ending != ".tsv")
    is_known = stream.has_header and {name.casefold() for name in stream.columns} & {*KNOWN_NAMES, *stream.wanted}
    if (is_own or stream.read.delimiter != "auto") and (is_known or stream.header != "auto"):
        return
    cells = "" if ending == ".xlsx" else f"{dialect.describe()}, "
    header = "a header in the first row" if stream.has_header else "no header, so columns are numbered"
    settings = "prepare.read.delimiter, prepare.read.header"
    more = ", ..." if len(first) > 5 else ""
    stream.note(f"read with {cells}{header} ({settings})", f"first row: {list_columns(first[:5])}{more}")


def read_values(stream: RowStream, values: Iterable[tuple[int, object]]) -> Rows:
    """Turn JSON values with their line or row numbers into rows.

    A string, or a list of strings, becomes the cell `text`, and a list of chat messages the cell `messages`.
    """
    late: dict[str, int] = {}
    n_late = 0
    known: set[str] = set()
    for line, value in values:
        if isinstance(value, BadValue):
            is_json = line == 1 and value.starts_value
            stream.reject(
                value.problem, line, hint="if a row spans several lines, name the file .json" if is_json else ""
            )
            continue
        if isinstance(value, str) or (
            isinstance(value, list) and value and all(isinstance(each, str) for each in value)
        ):
            value = {"text": value}
        elif is_chat(value):
            value = {"messages": value}
        if not isinstance(value, dict):
            stream.reject(f"the row is {describe_type(value)}, not an object or a text", line, hint=_hint_for(value))
            continue
        yield Row(line, value)
        known = known or set(stream.columns)
        if known and not value.keys() <= known:
            n_late += 1
            late.update({key: line for key in value if key not in known and key not in late and len(late) < 1000})
    if late:
        places = ", ".join(f"{name!r} in {stream.unit} {line:,}" for name, line in islice(late.items(), 5))
        what = "some rows have columns that the first rows lack; predict does not write these columns to .csv or .tsv"
        stream.note(what, f"number of rows: {n_late:,}, first {places}")


def _hint_for(value: object) -> str:
    """Return a hint for a row that is not an object."""
    if not isinstance(value, list) or not value:
        return ""
    if all(isinstance(each, dict) for each in value):
        return "if the line is a list of rows, name the file .json"
    return "a list has no names of columns: write objects, in pandas with orient=records"


def _read_json(stream: RowStream, values: Iterator[tuple[int, object]], find: FindRows) -> Rows:
    """Read JSON values; `find` finds the rows in a file that is a single object."""
    head = list(islice(values, 2))
    whole = head[0][1] if len(head) == 1 else None
    if isinstance(whole, dict) and (found := find(whole, stream.field)):
        stream.unit, stream.container = "row", found.key
        stream.note(f"the file is one object: {found.shape}", count(len(found.rows), "row"))
        head = list(enumerate(found.rows, start=1))
    yield from read_values(stream, chain(head, values))


def _read_plain(stream: RowStream, lines: Iterable[str]) -> Rows:
    """Yield one row per line, with an empty text for a blank line; none if all lines are blank."""
    blank: list[int] = []
    is_empty = True
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            blank.append(number)
            continue
        yield from (Row(each, {"text": ""}) for each in blank)
        blank.clear()
        is_empty = False
        if UNDECODED.search(line):
            stream.reject("bytes that cannot be decoded", number)
        else:
            yield Row(number, {"text": line})
    if not is_empty:
        yield from (Row(each, {"text": ""}) for each in blank)


def _read_fasttext(stream: RowStream, lines: Iterable[str]) -> Rows:
    """Yield rows with columns `label`, `text` from lines `__label__a __label__b text`; several labels become a list."""
    stream.note("read as lines of fastText: columns label and text", "")
    for row in _read_plain(stream, lines):
        found = _LABELS.fullmatch(str(row.cells["text"]))
        names = [name.removeprefix("__label__") for name in found[1].split()] if found else []
        label = names if len(names) > 1 else names[0] if names else None
        yield Row(row.line, {"label": label, "text": found[2] if found else ""})
