"""Read tagged words from any table: lists of words and tags, one word per row, or texts with character offsets.

Entities of texts become tags of words. Nested and overlapping entities are refused, because a word has one tag. An
entity that begins or ends inside of a word is extended to the whole word and counted.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

from llmkit.config.ner import Ner
from llmkit.config.prepare import Read
from llmkit.core.console import clean_line
from llmkit.core.errors import DataError
from llmkit.tables.conll import ENDINGS, looks_like_conll, open_conll
from llmkit.tables.label_forms import parse_list
from llmkit.tables.rows import Data, open_rows, without_surrogates
from llmkit.tables.tag_schemes import OUTSIDE, Entity, to_bio
from llmkit.tables.words import Place, WordSplit, find_words, join_words
from llmkit.text.records.column_names import LABELLED_TEXT_NAMES
from llmkit.text.records.fields import BadCell, describe_type, list_columns, missing_column_error
from llmkit.text.records.rows import Row, Rows, RowStream
from llmkit.text.sources import Source

TOKENS_NAMES = ("tokens", "words", "token", "word", "characters", "字")
TAGS_NAMES = ("ner_tags", "tags", "labels", "bio_tags", "ner", "tag", "label", "标签")
SPANS_NAMES = ("entities", "spans", "annotations", "label", "labels", "ner")
SENTENCE_NAMES = ("sentence", "sentence #", "sentence_id", "sentence id", "sent_id", "sentence_number", "sentence_idx")
_START_KEYS = ("start", "start_offset", "start_idx", "begin")
_END_KEYS = ("end", "end_offset", "end_idx", "stop")
_LABEL_KEYS = ("label", "type", "entity_type", "entity", "entity_group", "tag", "labels", "category")


class TagColumns(NamedTuple):
    """The columns of a table: `tokens` or `text` is set, and for training also `tags` or `spans`."""

    tokens: str | None = None
    tags: str | None = None
    text: str | None = None
    spans: str | None = None
    sentence: str | None = None

    def describe(self) -> str:
        """Return the names of the columns in words."""
        return ", ".join(f"{kind} {name!r}" for kind, name in self._asdict().items() if name)


@dataclass(frozen=True, slots=True)
class TaggedRow:
    """Words of a text with their places, the tags as in the file if there are any, and the row as read."""

    text: str
    places: Sequence[Place]
    tags: Sequence[str] | None
    line: int
    cells: Mapping[str, object] = field(default_factory=dict, compare=False)

    @property
    def words(self) -> list[str]:
        return [self.text[start:end] for start, end in self.places]


@dataclass
class SpanCounts:
    """Entities of texts whose offsets were changed."""

    n_moved: int = 0
    example: str = ""

    def describe(self, path: str) -> list[str]:
        """Return a note, if any entity was changed."""
        if not self.n_moved:
            return []
        entities = "entity begins or ends" if self.n_moved == 1 else "entities begin or end"
        what = f"{path}: {self.n_moved:,} {entities} inside of a word and {'is' if self.n_moved == 1 else 'are'}"
        return [clean_line(f"{what} extended to whole words, such as {self.example}")]


def open_tagged(data: Data, section: Ner, read: Read) -> RowStream:
    """Open a file of CoNLL columns or a table.

    Raises:
        DataError: see `open_conll` and tables/rows.py.
    """
    named = [section.tokens, section.tags, section.text, section.spans, section.sentence]
    is_table = section.format == "table" or not isinstance(data, str) or data.startswith("hf:")
    if isinstance(data, str) and not is_table and (section.format == "conll" or _is_conll(data)):
        return open_conll(data, read, section.token_column, section.tag_column)
    return open_rows(data, read, header=section.header, wanted=[name for name in named if name])


def _is_conll(path: str) -> bool:
    """Whether a file has a CoNLL suffix, or a suffix such as .txt or .tsv and lines that look like CoNLL columns."""
    name = path.lower().removesuffix(".gz").removesuffix(".xz").removesuffix(".bz2")
    if name.endswith(ENDINGS):
        return True
    if path == "-" or not name.endswith((".txt", ".tsv", ".train", ".dev", ".test", ".dat")):
        return False
    try:
        with open(path, encoding="utf-8-sig", errors="replace") as file:  # noqa: PTH123
            return looks_like_conll(file.read(20_000).splitlines()[:-1] or [""])
    except OSError:
        return False  # open_rows reports the error


def choose_tag_columns(
    rows: RowStream, section: Ner, *, need_tags: bool, saved: TagColumns | None = None
) -> TagColumns:
    """Return the columns: those that the section names, else those of the train file, else those with known names.

    Raises:
        DataError: a named column does not exist, or no column holds words, texts or (if `need_tags`) tags.
    """
    for name in (section.tokens, section.tags, section.text, section.spans, section.sentence):
        if name is not None and name not in rows.columns:
            raise missing_column_error(name, rows.columns, rows.path)
    saved = saved or TagColumns()
    tokens = section.tokens or _find(rows, saved.tokens, TOKENS_NAMES)
    text = section.text or (None if tokens and not section.spans else _find(rows, saved.text, LABELLED_TEXT_NAMES))
    if text and (section.text or not tokens):
        found = section.spans or _find(rows, saved.spans, SPANS_NAMES)
        columns = TagColumns(text=text, spans=found)
    else:
        tags = section.tags or _find(rows, saved.tags, TAGS_NAMES)
        sentence = section.sentence or _find(rows, saved.sentence, SENTENCE_NAMES)
        columns = TagColumns(tokens, tags, sentence=sentence if tokens and _holds_words(rows, tokens) else None)
    columns = columns if need_tags else columns._replace(tags=None, spans=None)
    kinds = "ner.tokens and ner.tags, or ner.text and ner.spans"
    where = f"{rows.path}, columns {list_columns(rows.columns)}"
    if columns.tokens is None and columns.text is None:
        raise DataError("no column holds words or texts", where=where, hint=f"name the columns with {kinds}")
    if need_tags and columns.tags is None and columns.spans is None:
        hint = f"name the columns with {kinds}; or is the file CoNLL? Then set ner.format=conll"
        raise DataError("no column holds tags or entities", where=where, hint=hint)
    if columns.tokens and columns.sentence is None and need_tags and _holds_words(rows, columns.tokens):
        hint = "set ner.sentence to the column that holds the number of the sentence"
        raise DataError("each row has one word, but no column says which sentence it is in", where=where, hint=hint)
    return columns


def _find(rows: RowStream, saved: str | None, names: Sequence[str]) -> str | None:
    if saved in rows.columns:
        return saved
    folded = {name.casefold(): name for name in reversed(rows.columns)}
    return next((folded[name] for name in names if name in folded), None)


def _holds_words(rows: RowStream, column: str) -> bool:
    """Whether every cell is one word instead of a list of words."""
    cells = [row.cells.get(column) for row in rows.sample]
    return all(isinstance(cell, str) and len(cell.split()) <= 1 and parse_list(cell) is None for cell in cells)


def group_words(rows: RowStream, columns: TagColumns) -> RowStream:
    """Return one row per sentence, with lists, for a table with one word per row; returns any other table unchanged."""
    if columns.sentence is None:
        return rows
    grouped = RowStream(Source(rows.path), rows.read)
    grouped.unit, grouped.announce = rows.unit, rows.announce
    grouped.source = rows.source
    grouped.start(_group(rows, columns))
    return grouped


def _group(rows: RowStream, columns: TagColumns) -> Rows:
    """Yield one row per run of equal sentence numbers; an empty number continues the sentence."""
    assert columns.sentence is not None and columns.tokens is not None
    names = [name for name in (columns.tokens, columns.tags) if name]
    current: object = None
    begin = 0
    cells: dict[str, list[object]] = {name: [] for name in names}
    for row in rows:
        number = row.cells.get(columns.sentence)
        if number not in (None, "", current):
            if begin:
                yield Row(begin, dict(cells))
            current, begin, cells = number, row.line, {name: [] for name in names}
        begin = begin or row.line
        for name in names:
            cells[name].append(row.cells.get(name))
    if begin:
        yield Row(begin, dict(cells))


def read_tagged(rows: RowStream, columns: TagColumns, split: WordSplit, counts: SpanCounts) -> Iterator[TaggedRow]:
    """Yield the rows; a row without words has empty lists. Without a column of tags or spans, `tags` is None.

    Raises:
        DataError: a cell that cannot be read, unless `rows.read.skip_bad` leaves out and counts the row.
    """
    for row in rows:
        try:
            yield _read_row(row, columns, split, counts)
        except BadCell as error:
            rows.reject(str(error), row.line)


def _read_row(row: Row, columns: TagColumns, split: WordSplit, counts: SpanCounts) -> TaggedRow:
    if columns.text is not None:
        cell = row.cells.get(columns.text)
        if cell is not None and not isinstance(cell, str):
            raise BadCell(f"{columns.text!r} holds {describe_type(cell)}, not a text")
        text = without_surrogates(cell or "")
        places = find_words(text, split)
        if columns.spans is None:
            return TaggedRow(text, places, None, row.line, row.cells)
        entities = parse_spans(row.cells.get(columns.spans), text)
        return TaggedRow(text, places, _align(entities, text, places, counts), row.line, row.cells)
    assert columns.tokens is not None
    words = [without_surrogates(word) for word in _parse_words(row.cells.get(columns.tokens), columns.tokens)]
    if "" in words:
        raise BadCell(f"a word of {columns.tokens!r} is empty")
    text, places = join_words(words)
    if columns.tags is None:
        return TaggedRow(text, places, None, row.line, row.cells)
    tags = _parse_words(row.cells.get(columns.tags), columns.tags)
    if len(tags) != len(words):
        raise BadCell(f"{len(words)} words, but {len(tags)} tags")
    return TaggedRow(text, places, tags, row.line, row.cells)


def _parse_words(cell: object, column: str) -> list[str]:
    if cell is None or cell == "":
        return []
    values: Iterable[Any] | None = cell if isinstance(cell, list | tuple) else None
    if isinstance(cell, str):
        values = parse_list(cell)
        values = cell.split() if values is None else values
    if values is None:
        raise BadCell(f"{column!r} holds {describe_type(cell)}, not a list of words")
    words = []
    for value in values:
        if not isinstance(value, str):
            number = "; if tags are numbers, convert them to names such as B-PER" if isinstance(value, int) else ""
            raise BadCell(f"a list of {column!r} holds {describe_type(value)}, not words{number}")
        words.append(value.strip())
    return words


class Span(NamedTuple):
    """An entity by its characters."""

    start: int
    end: int
    label: str


def parse_spans(cell: object, text: str) -> list[Span]:
    """Return the entities of a cell, sorted by their offsets.

    Raises:
        BadCell: not a list of entities; an offset outside of the text; entities that overlap, which are named.
    """
    if isinstance(cell, str) and (written := cell.strip()):
        try:
            cell = json.loads(written)
        except (ValueError, RecursionError):
            raise BadCell(f"the entities are not JSON: {written[:40]!r}") from None
    if cell in (None, "", [], ()):
        return []
    if not isinstance(cell, list | tuple):
        raise BadCell(f"the entities are {describe_type(cell)}, not a list")
    spans = sorted(_parse_span(each, text) for each in cell)
    for before, span in pairwise(spans):
        if before.end > span.start:
            named = [f"{text[each.start : each.end][:40]!r} ({each.label})" for each in (before, span)]
            kind = "nested" if span.end <= before.end else "overlapping"
            raise BadCell(f"{kind} entities: {named[0]} and {named[1]}; a word has only one tag")
    return spans


def _parse_span(value: object, text: str) -> Span:
    if isinstance(value, Mapping):
        found = [
            next((value[key] for key in keys if key in value), None) for keys in (_START_KEYS, _END_KEYS, _LABEL_KEYS)
        ]
        start, end, label = found
        label = label[0] if isinstance(label, list) and len(label) == 1 else label
    elif isinstance(value, list | tuple) and len(value) == 3:
        start, end, label = value
    else:
        raise BadCell("an entity is not [start, end, label] or an object with start, end and label")
    if not (type(start) is int and type(end) is int and isinstance(label, str) and label.strip()):
        raise BadCell(f"an entity lacks an integer start, an integer end or a label: {str(value)[:60]}")
    if not 0 <= start < end <= len(text):
        raise BadCell(
            f"the entity {start} to {end} is empty or outside of the text, which has {len(text):,} characters"
        )
    given = value.get("text") if isinstance(value, Mapping) else None
    if isinstance(given, str) and given.strip() and given.split() != text[start:end].split():
        raise BadCell(
            f"the entity {start} to {end} is {text[start:end][:40]!r} in the text, but its own text is {given[:40]!r}"
        )
    return Span(start, end, label.strip())


def _align(spans: Sequence[Span], text: str, places: Sequence[Place], counts: SpanCounts) -> list[str]:
    """Return BIO tags of the words that the entities cover."""
    entities: list[Entity] = []
    word = 0
    for span in spans:
        first = last = None
        while word < len(places) and places[word][1] <= span.start:
            word += 1
        place = word
        while place < len(places) and places[place][0] < span.end:
            first, last = place if first is None else first, place
            place += 1
        if first is None or last is None:
            raise BadCell(f"the entity {span.start} to {span.end} has no word")
        covered = text[places[first][0] : places[last][1]]
        if covered != text[span.start : span.end].strip():
            counts.n_moved += 1
            counts.example = counts.example or f"{text[span.start : span.end]!r} as {covered!r}"
        if entities and first < entities[-1][1]:
            raise BadCell(f"two entities are in the word {text[slice(*places[first])]!r}: set ner.words=characters")
        entities.append((first, last + 1, span.label))
    return to_bio(entities, len(places)) if entities else [OUTSIDE] * len(places)
