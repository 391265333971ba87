"""Read the documents of tables: one per row, from the field that holds the text.

The strings "NA", "null" and "None" are kept as texts; empty cells are skipped and counted. Other columns are left out.
A note names the left-out columns that contain texts, with their number of characters.
"""

from collections import Counter
from collections.abc import Iterator

from llmkit.config.prepare import Read
from llmkit.core.errors import DataError
from llmkit.text.documents import Document, make_documents
from llmkit.text.entries import Entry
from llmkit.text.records.column_names import CHAT_NAMES, PARAGRAPH_NAMES, TEXT_NAMES
from llmkit.text.records.fields import (
    MISSING,
    BadCell,
    Field,
    are_messages,
    choose_field,
    count_chars,
    holds_json,
    is_chat,
    is_prose,
    missing_column_error,
    nested_names,
    to_texts,
)
from llmkit.text.records.rows import SAMPLE_ROWS, Row, RowStream, require_unique
from llmkit.text.records.table_files import read_entry
from llmkit.text.sources import Source, report_notes

_KNOWN = frozenset((*TEXT_NAMES, *CHAT_NAMES, *PARAGRAPH_NAMES))


def read_rows(entry: Entry, source: Source, read: Read) -> Iterator[Document]:
    """Yield the documents of a .csv, .tsv, .jsonl, .json, .parquet or .xlsx file."""
    with RowStream(source, read) as rows:
        rows.start(read_entry(rows, entry))
        for index, text in read_texts(rows):
            yield from make_documents([text], entry.path, index, read.max_doc_chars)


def read_texts(rows: RowStream) -> Iterator[tuple[int, str]]:
    """Yield (document number, text) of each row with a text; call `rows.start` first.

    Raises:
        DataError: no field can be chosen, or a row lacks the field, or its value is not text.
    """
    if not rows.sample:
        if rows.columns:
            rows.source.skip("table without rows", rows.path)
        return
    if rows.read.field is None and len(rows.sample) > 1 and are_messages([row.cells for row in rows.sample]):
        if len(rows.sample) < SAMPLE_ROWS:
            yield 0, _read_chat(rows)
            return
        rows.note("the rows are messages of chats; each is a document, without its role", "")
    field = _choose_field(rows)
    rows.selected = [column for column in rows.columns if field.covers(column)] or None
    left_out = _UnreadTexts(rows, field)
    index = 0
    for row in rows:
        left_out.count(row)
        text = row.cells.get(field.name)
        if type(text) is str and text:  # nearly all rows: a column with a string
            yield index, text
            index += 1
            continue
        values = field.values(row.cells)
        try:
            texts = _join(values, rows.read)
        except BadCell as error:
            nested = [path for path in nested_names([row.cells]) if field.covers(path.partition(".")[0])]
            hint = f"or read the text inside of it: -s prepare.read.field={nested[0]}" if nested else ""
            rows.reject(f"{field.name!r} holds {error}", row.line, hint)
            continue
        if not texts and MISSING in values:
            if not rows.read.skip_bad:
                raise missing_column_error(field.name, list(row.cells), rows.locate(row.line))
            rows.source.skip(f"no key {field.name!r}", rows.locate(row.line))
        elif not texts:
            rows.source.skipped["empty"] += 1
        for number, text in enumerate(texts):
            yield index + number, text
        index += max(1, len(texts))
    left_out.note(rows)


def _read_chat(rows: RowStream) -> str:
    """Return the only document of a file whose rows are the messages of one chat."""
    texts: list[str] = []
    for row in rows:
        try:
            texts += to_texts([[row.cells]])
        except BadCell as error:
            rows.reject(f"the row is not a chat message with a text: it holds {error}", row.line)
    content = "content" if "content" in rows.columns else "value"
    what = "the rows are the messages of one chat, which is one document with lines 'role: content'"
    rows.note(f"{what}; prepare.read.field={content} makes each message a document", f"{len(texts):,} messages")
    return "\n".join(texts)


def _join(values: list[object], read: Read) -> list[str]:
    """Return the documents of a row: one, or with `documents: line` one per string of a list."""
    if read.documents == "line" and len(values) == 1 and isinstance(values[0], list) and not is_chat(values[0]):
        return to_texts(values)
    text = "\n".join(to_texts(values))
    return [text] if text else []


def _choose_field(rows: RowStream) -> Field:
    sample = [row.cells for row in rows.sample]
    wanted = rows.read.field
    if wanted and rows.container:
        wanted = ",".join(part.strip().removeprefix(f"{rows.container}.") for part in wanted.split(","))
    try:
        field = choose_field(rows.columns, wanted, sample, rows.path)
    except DataError:
        report_notes([rows.source])  # the table may have been read wrongly, so its columns are wrong
        raise
    require_unique([column for column in rows.columns if field.covers(column)], rows.path)
    for name, n in Counter(rows.columns).items():
        if n > 1:
            rows.note(f"{n} columns are called {name!r} and are not read; give them different names", "not read")
    if not wanted and len(rows.columns) > 1 and field.name.strip().casefold() not in _KNOWN:
        first = next((str(text) for cells in sample if (text := cells.get(field.name))), "")
        what = f"the text is {field.name!r}, the only column with texts (prepare.read.field)"
        rows.note(what, f"first text: {first[:60]!r}")
    values = [value for cells in sample[:100] for value in field.values(cells)]
    if any(map(is_chat, values)):
        rows.note(f"chat messages in {field.name!r} are lines 'role: content'; parts without text are left out", "")
    elif example := next((value for value in values if isinstance(value, list) and len(value) > 1), None):
        each = "a document" if rows.read.documents == "line" else "a line of one document (prepare.read.documents=line)"
        rows.note(f"each text of the lists in {field.name!r} is {each}", f"a list of {len(example)}")
    _note_unread_structure(rows, field, [value for value in values if isinstance(value, str)])
    return field


def _note_unread_structure(rows: RowStream, field: Field, texts: list[str]) -> None:
    """Note texts in list or object syntax, and a `documents` setting that does not apply to rows."""
    if texts and 2 * sum(map(holds_json, texts)) > len(texts):
        what = f"texts in {field.name!r} look like lists or objects, and are read as plain text"
        rows.note(f"{what}; to read them as lists or chats, write the values to a .jsonl file", repr(texts[0][:60]))
    unit = rows.read.documents
    if unit == "separator" or (unit != "file" and any("\n" in text for text in texts)):
        rows.note(f"prepare.read.documents={unit} does not apply to rows: the text of each row is one document", "")


class _UnreadTexts:
    """Counts the texts in columns other than the field."""

    def __init__(self, rows: RowStream, field: Field) -> None:
        self._field = field
        sample = [row.cells for row in rows.sample[:100]]
        others = [name for name, n in Counter(rows.columns).items() if n == 1 and not field.covers(name)]
        self._columns = [c for c in others if 2 * sum(is_prose(row.get(c)) for row in sample) > len(sample)]
        self._n_chars: Counter[str] = Counter()

    def count(self, row: Row) -> None:
        for column in self._columns:
            self._n_chars[column] += count_chars(row.cells.get(column))

    def note(self, rows: RowStream) -> None:
        if not self._columns:
            return
        counts = {
            name: "" if rows.reads_selected else f" ({self._n_chars[name]:,} characters)" for name in self._columns
        }
        columns = ", ".join(f"{name!r}{count}" for name, count in list(counts.items())[:5])
        joined = ",".join((*self._columns[:1], self._field.name))
        what = f"the text is {self._field.name!r}; prepare.read.field={joined} joins two columns"
        rows.note(what, f"left out: {columns}")
