"""Choose the columns of a labelled table: the text, its second text, the label.

A given name wins, then a well-known name, then the shape: the text is the column with the longest cells, the
label the one with few different values. What is not clear is never guessed: the error lists the columns. A
second text is found by name only, and only together with its partner.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llmkit.core.errors import DataError
from llmkit.text.tables import is_text, listed, missing_column

# In each list the first that is there is taken.
TEXT_NAMES = (
    *("text", "sentence", "sentence1", "premise", "question", "question1", "review", "content", "body", "message"),
    *("tweet", "utterance", "query", "text_a", "text1", "sentence_a", "comment", "document", "article", "headline"),
    *("文本", "内容", "內容", "正文", "句子", "句子1", "评论", "評論", "文章", "问题"),
    *("description", "title", "标题", "標題"),
)
PAIR_NAMES = (
    *(("sentence1", "sentence2"), ("premise", "hypothesis"), ("question1", "question2"), ("question", "sentence")),
    *(("question", "passage"), ("question", "answer"), ("query", "passage"), ("query", "document")),
    *(("text_a", "text_b"), ("text1", "text2"), ("text", "text2"), ("text", "text_b"), ("text", "pair")),
    *(("sentence_a", "sentence_b"), ("句子1", "句子2"), ("文本1", "文本2"), ("问题1", "问题2"), ("前提", "假设")),
    ("问题", "答案"),
)
LABEL_NAMES = (
    *("label", "labels", "class", "category", "intent", "target", "sentiment", "score", "rating", "stars", "y"),
    *("class index", "coarse_label", "标签", "標籤", "类别", "類別", "分类", "分類", "情感", "意图", "意圖", "得分"),
)
_ID_NAMES = ("id", "idx", "index", "guid", "uid", "uuid", "unnamed: 0", "编号", "編號", "序号", "序號")
KNOWN_NAMES = frozenset((*TEXT_NAMES, *LABEL_NAMES, *_ID_NAMES, *(name for pair in PAIR_NAMES for name in pair)))
"""Words that name a column wherever they stand in a first row."""

_MAX_LABEL_CHARS = 60
_MIN_ROWS = 10  # with fewer, each may well have a label of its own


@dataclass(frozen=True, slots=True)
class Columns:
    """Where a row's text, second text and label stand."""

    text: str
    pair: str | None
    label: str | None


@dataclass(frozen=True, slots=True)
class _Shape:
    """What the cells of a column look like in a sample of the rows."""

    mean_length: float
    n_distinct: int
    has_text: bool
    may_be_label: bool


def choose_columns(
    columns: Sequence[str],
    sample: Sequence[Mapping[str, object]],
    *,
    text: str | None,
    pair: str | None,
    label: str | None,
    need_label: bool,
    where: str,
) -> Columns:
    """The columns to read. An empty `pair` or `label` means that there is none, whatever the names say.

    Without `need_label` a label is taken only where it is given or has a well-known name.

    Raises:
        DataError: a given column is not there, or it is not clear which one is meant; lists the columns.
    """
    named = [name for name in (text, pair, label) if name]
    if twice := next((name for name in named if named.count(name) > 1), None):
        raise DataError(f"column {twice!r} is named for two things", where=where, hint="text, pair and label differ")
    for name in (text, pair, label):
        if name and name not in columns:
            raise missing_column(name, columns, where)
    folded = {column.strip().casefold(): column for column in reversed(columns)}
    given = {name for name in (text, pair, label) if name}
    if label is None and len(columns) > 1:
        label = next((folded[n] for n in LABEL_NAMES if n in folded and folded[n] not in given), None)
    text, pair = _find_by_name(folded, text, pair, label, spare=int(need_label and not label))
    shapes = _Shapes(columns, sample, where)
    if need_label and text is None and not label and len(free := shapes.free({pair})) == 2:
        text, label = shapes.choose_of_two(free)
    text = text or shapes.choose_text({pair, label})
    if need_label and not label:
        label = shapes.choose_label({text, pair})
    return Columns(text, pair or None, label or None)


def _find_by_name(
    folded: Mapping[str, str], text: str | None, pair: str | None, label: str | None, *, spare: int
) -> tuple[str | None, str | None]:
    """(text, pair) as far as names tell; no pair is taken that leaves fewer than `spare` columns for a label."""
    if pair is None and len(folded) - bool(label) - spare >= 2:
        for first, second in PAIR_NAMES:
            one, two = folded.get(first), folded.get(second)
            if one and two and label not in (one, two) and text in (None, one):
                return one, two
    elif pair and not text:
        partners = [first for first, second in PAIR_NAMES if folded.get(second) == pair]
        text = next((folded[n] for n in partners if n in folded and folded[n] != label), None)
    taken = (pair, label)
    return text or next((folded[n] for n in TEXT_NAMES if n in folded and folded[n] not in taken), None), pair


class _Shapes:
    """The columns by what their cells look like."""

    def __init__(self, columns: Sequence[str], sample: Sequence[Mapping[str, object]], where: str) -> None:
        self._columns = columns
        self._where = where
        self._shapes = {column: _look_at(column, [row.get(column) for row in sample]) for column in columns}

    def free(self, taken: set[str | None]) -> list[str]:
        """Columns that are neither taken nor numbers of rows nor mostly empty."""
        return [
            c for c in self._columns if c not in taken and (self._shapes[c].has_text or self._shapes[c].may_be_label)
        ]

    def choose_of_two(self, pair: Sequence[str]) -> tuple[str, str]:
        """(text, label) of two columns: labels come again, texts do not; where that tells nothing, texts are longer."""
        shapes = self._shapes
        label, text = sorted(
            pair, key=lambda c: (not shapes[c].may_be_label, shapes[c].n_distinct, shapes[c].mean_length)
        )
        if not (shapes[text].has_text and shapes[label].may_be_label):
            raise self._unclear("text" if shapes[label].may_be_label else "label")
        return text, label

    def choose_text(self, taken: set[str | None]) -> str:
        """The only column with texts, or one whose cells are at least twice as long as any other's."""
        open_ones = [column for column in self._columns if column not in taken]
        if len(self._columns) == 1 and open_ones:
            return open_ones[0]
        found = [column for column in open_ones if self._shapes[column].has_text]
        found.sort(key=lambda column: -self._shapes[column].mean_length)
        if not found:
            raise self._unclear("text")
        if len(found) > 1 and self._shapes[found[0]].mean_length < 2 * self._shapes[found[1]].mean_length:
            raise self._unclear("text")
        return found[0]

    def choose_label(self, taken: set[str | None]) -> str:
        """The only column with few different, short values, or with lists."""
        found = [column for column in self._columns if column not in taken and self._shapes[column].may_be_label]
        if len(found) != 1:
            raise self._unclear("label")
        return found[0]

    def _unclear(self, what: str) -> DataError:
        examples = ", ".join((TEXT_NAMES if what == "text" else LABEL_NAMES)[:3])
        return DataError(
            f"no column is called {examples} or the like, and the cells do not tell which one holds the {what}; "
            f"found: {listed(self._columns)}",
            where=self._where,
            hint=f"say which one it is: --{what} NAME",
        )


def _look_at(column: str, cells: Sequence[object]) -> _Shape:
    filled = [cell for cell in cells if not (cell is None or cell == "" or (isinstance(cell, str) and cell.isspace()))]
    if column.strip().casefold() in _ID_NAMES or not filled or 2 * len(filled) < len(cells):
        return _Shape(0.0, 0, has_text=False, may_be_label=False)
    words = [cell.strip() if isinstance(cell, str) else str(cell) for cell in filled]
    n_distinct = len(set(words))
    mean_length = sum(map(len, words)) / len(words)
    lists = any(isinstance(cell, list) for cell in filled)
    repeats = len(words) < _MIN_ROWS or 2 * n_distinct <= len(words)
    return _Shape(
        mean_length,
        n_distinct,
        has_text=2 * sum(isinstance(cell, str) and is_text(cell) for cell in filled) > len(filled),
        may_be_label=lists
        or (repeats and mean_length <= _MAX_LABEL_CHARS and not any(isinstance(c, dict) for c in filled)),
    )
