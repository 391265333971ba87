"""Read questions with their contexts and answers, from nested files such as SQuAD and from tables with columns.

Nested files, such as SQuAD 1.1 and 2.0 and CMRC 2018, are lists of articles with paragraphs, or lists of paragraphs;
each paragraph has a context and a list of questions. Every other file is a table with one question per row.

A row that cannot be read is an error with its line, or is skipped and counted with `read.skip_bad`.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain

from llmkit.core.console import count
from llmkit.core.errors import DataError
from llmkit.tables.answers import Answer, AnswerCounts, GivenAnswer, locate_answer, parse_answers
from llmkit.tables.labelled import LineRefs
from llmkit.tables.question_columns import (
    ANSWER_NAMES,
    ARTICLE_NAMES,
    CONTEXT_NAMES,
    ID_NAMES,
    IMPOSSIBLE_NAMES,
    QUESTION_NAMES,
    QuestionColumns,
    choose_question_columns,
)
from llmkit.text.records.fields import MISSING, BadCell, describe_type
from llmkit.text.records.rows import Row, RowStream

PARAGRAPHS, QUESTIONS = "paragraphs", "qas"
NESTED = QuestionColumns("question", "context", "answers", None, "is_impossible", "id", "title")
"""The columns of the flat rows that a nested file becomes."""
_TRUE, _FALSE = frozenset(("true", "1", "yes", "1.0", "是")), frozenset(("false", "0", "no", "0.0", "", "否"))


@dataclass(frozen=True, slots=True)
class Question:
    """A question, its context and its reference answers."""

    question: str
    context: str
    answers: tuple[Answer, ...]
    """Empty: the question has no answer, or the file has no answers."""
    line: int
    id: str = ""
    article: str = ""
    """What identifies the article that the context belongs to; empty if the file does not say."""
    cells: Mapping[str, object] = field(default_factory=dict, compare=False)
    """The cells to copy to predictions."""

    @property
    def references(self) -> list[str]:
        """Return the texts of the answers."""
        return [answer.text for answer in self.answers]


@dataclass(slots=True)
class QuestionCounts:
    """Counts of questions, and of answers that were corrected or contradict a mark, for notes on a file."""

    answers: AnswerCounts = field(default_factory=AnswerCounts)
    contradictory: LineRefs = field(default_factory=LineRefs)
    """Questions marked as unanswerable that have answers."""
    n_questions: int = 0
    n_without_answer: int = 0

    def describe(self, path: str, unit: str) -> list[str]:
        """Return notes on the corrections."""
        notes = self.answers.describe(path, unit)
        if self.contradictory.n:
            marked = f"{count(self.contradictory.n, 'question')} marked as impossible, but with answers"
            notes.append(f"{path}: {marked}; the answers are ignored ({self.contradictory.describe(unit)})")
        return notes


@dataclass
class QuestionFile:
    """The questions of a file; iterate once."""

    rows: RowStream
    columns: QuestionColumns
    is_nested: bool
    need_answers: bool
    separator: str | None = None
    counts: QuestionCounts = field(default_factory=QuestionCounts)

    @property
    def kept(self) -> list[str]:
        """Return the columns that are copied to the predictions."""
        if self.is_nested:
            return [name for name in ("id", "title", "question", "context") if name]
        return [name for name in self.rows.columns if name not in self.rows.computed]

    def __iter__(self) -> Iterator[Question]:
        for row in self._flat_rows():
            try:
                question = self._read(row)
            except BadCell as error:
                name = row.cells.get(self.columns.id) if self.columns.id else None
                self.rows.reject(f"{error}{f' (question {str(name)[:40]})' if name else ''}", row.line)
                continue
            self.counts.n_questions += 1
            self.counts.n_without_answer += not question.answers
            yield question

    def _flat_rows(self) -> Iterator[Row]:
        return flatten(self.rows, self.rows) if self.is_nested else iter(self.rows)

    def _read(self, row: Row) -> Question:
        cells, columns = row.cells, self.columns
        question, context = (_read_text(cells, name) for name in (columns.question, columns.context))
        given: list[GivenAnswer] = []
        if columns.answers is not None and (self.need_answers or cells.get(columns.answers)):
            if self.need_answers and columns.answers not in cells:
                raise BadCell(f"no {columns.answers!r}")
            start = cells.get(columns.answer_start) if columns.answer_start else None
            given = parse_answers(cells.get(columns.answers), start, self.separator)
        if columns.is_impossible is not None and _read_flag(cells.get(columns.is_impossible)) and given:
            self.counts.contradictory.add(row.line)
            given = []
        answers = tuple(
            dict.fromkeys(locate_answer(context, each, row.line, self.counts.answers) for each in given)
        ) if self.need_answers else ()  # fmt: skip
        name, article = (_read_name(cells, key) for key in (columns.id, columns.article))
        kept = {key: cells.get(key) for key in self.kept} if self.is_nested else cells
        return Question(question, context, answers, row.line, name, article, kept)


def open_questions(
    rows: RowStream, given: Mapping[str, str | None], *, need_answers: bool, separator: str | None = None
) -> QuestionFile:
    """Choose the columns of an open file; `given` maps roles to the columns that the user named.

    Raises:
        DataError: see `choose_question_columns`; a nested file without questions; a named column of a nested file.
    """
    nested = [row for row in rows.sample if _is_nested(row.cells)]
    if not nested:
        columns = choose_question_columns(
            rows.columns, [row.cells for row in rows.sample], given, need_answers=need_answers, where=rows.path
        )
        return QuestionFile(rows, columns, is_nested=False, need_answers=need_answers, separator=separator)
    if name := next((name for name in given.values() if name), None):
        hint = "do not name columns: the file has articles or paragraphs with lists of questions, whose keys are known"
        raise DataError(f"{name!r} is not read from a file of SQuAD's form", where=rows.path, hint=hint)
    flat = flatten((row for row in rows.sample), None)
    if next(flat, None) is None and next(iter(rows.sample[len(nested) :]), None) is None:
        raise DataError("the paragraphs have no questions", where=rows.path, hint="give a file with a list 'qas'")
    return QuestionFile(rows, NESTED, is_nested=True, need_answers=need_answers)


def _is_nested(cells: Mapping[str, object]) -> bool:
    return any(
        isinstance(inner := cells.get(key), list) and bool(inner) and all(isinstance(each, dict) for each in inner)
        for key in (PARAGRAPHS, QUESTIONS)
    )


def flatten(rows: Iterable[Row], stream: RowStream | None) -> Iterator[Row]:
    """Yield one row per question of articles and paragraphs, with the columns of NESTED.

    A row that is neither an article nor a paragraph is rejected by `stream`, or left out if `stream` is None.
    """
    for row in rows:
        if PARAGRAPHS not in row.cells and QUESTIONS not in row.cells:
            if stream is not None:
                stream.reject(f"the row has neither {PARAGRAPHS!r} nor {QUESTIONS!r}", row.line)
            continue
        article = _find(row.cells, ARTICLE_NAMES)
        paragraphs = row.cells.get(PARAGRAPHS, [row.cells])
        name = article if isinstance(article, str) and article else f"row {row.line}" if PARAGRAPHS in row.cells else ""
        try:
            flat = list(chain.from_iterable(_flatten_paragraph(each) for each in _to_list(paragraphs, PARAGRAPHS)))
        except BadCell as error:
            if stream is not None:
                stream.reject(str(error), row.line)
            continue
        for cells in flat:
            yield Row(row.line, cells | {"title": name})


def _flatten_paragraph(paragraph: object) -> Iterator[dict[str, object]]:
    if not isinstance(paragraph, Mapping):
        raise BadCell(f"a paragraph is {describe_type(paragraph)}, not an object")
    context = _find(paragraph, CONTEXT_NAMES)
    if context is MISSING:
        raise BadCell(f"a paragraph has no key 'context'; its keys: {', '.join(map(repr, list(paragraph)[:5]))}")
    for each in _to_list(paragraph.get(QUESTIONS, []), QUESTIONS):
        if not isinstance(each, Mapping):
            raise BadCell(f"a question is {describe_type(each)}, not an object")
        cells: dict[str, object] = {"context": context}
        for name, known in (
            ("id", ID_NAMES), ("question", QUESTION_NAMES), ("answers", ANSWER_NAMES),
            ("is_impossible", IMPOSSIBLE_NAMES),
        ):  # fmt: skip
            if (value := _find(each, known)) is not MISSING:
                cells[name] = value
        yield cells


def _find(cells: Mapping[str, object], names: Iterable[str]) -> object:
    return next((cells[name] for name in names if name in cells), MISSING)


def _to_list(value: object, key: str) -> list[object]:
    if not isinstance(value, list):
        raise BadCell(f"{key!r} holds {describe_type(value)}, not a list")
    return value


def _read_text(cells: Mapping[str, object], name: str) -> str:
    if name not in cells:
        raise BadCell(f"no {name!r}; the row has {', '.join(map(repr, list(cells)[:5])) or 'no keys'}")
    value = cells[name]
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadCell(f"{name!r} holds {describe_type(value)}, not a text")
    return str(value)


def _read_flag(value: object) -> bool:
    """Whether a question is marked as impossible."""
    if value is None or isinstance(value, bool):
        return bool(value)
    word = str(value).strip().casefold()
    if word not in _TRUE | _FALSE:
        raise BadCell(f"the mark of an impossible question is {word[:20]!r}, neither true nor false")
    return word in _TRUE


def _read_name(cells: Mapping[str, object], name: str | None) -> str:
    value = cells.get(name) if name else None
    return str(value) if isinstance(value, str | int) else ""
