"""Read the answers of a question from a cell, and find them in the context.

An answer is a part of its context: a text and the character where it starts. A start that does not fit is corrected to
the nearest occurrence of the text. An answer without a start is the first occurrence. Corrections are counted, and so
are answers without a start that occur several times.
"""

import ast
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from llmkit.core.console import clean_line, count
from llmkit.tables.labelled import LineRefs
from llmkit.text.records.fields import BadCell, describe_type

NOT_FOUND = -1
"""The start of an answer that is not in its context."""
_STARTS = ("answer_start", "start", "start_char", "char_start", "offset")
_ARRAY = re.compile(r"array\((\[.*?\]|\(.*?\))(?:,\s*dtype=[\w.<>']+)?\)", re.DOTALL)
_MAX_PARSED_CHARS = 100_000
_MAX_SHOWN = 60


class Answer(NamedTuple):
    """A reference answer as given, and its characters in the context."""

    text: str
    start: int
    """NOT_FOUND if the context does not contain it."""
    end: int


class GivenAnswer(NamedTuple):
    """An answer as a file gives it."""

    text: str
    start: int | None


@dataclass(slots=True)
class AnswerCounts:
    """Counts of answers that needed a correction, with an example of each kind."""

    kinds: dict[str, tuple[LineRefs, str]] = field(default_factory=dict)

    def add(self, kind: str, line: int, example: str) -> None:
        """Count an answer of this kind."""
        self.kinds.setdefault(kind, (LineRefs(), clean_line(example)))[0].add(line)

    def describe(self, path: str, unit: str) -> list[str]:
        """Return one note per kind."""
        return [
            f"{path}: {count(refs.n, 'answer')} {kind} ({refs.describe(unit)}; {example})"
            for kind, (refs, example) in self.kinds.items()
        ]


WRONG_START = "with a wrong start: corrected to the nearest occurrence of the text"
SEVERAL = "without a start that occur several times in the context: the first occurrence is used"
INEXACT = "found only when case and white space are ignored"
ABSENT = "not in the context: not trained on, but scored"


def parse_answers(cell: object, start: object, separator: str | None) -> list[GivenAnswer]:
    """Return the answers in a cell: a text, a list, or objects as in the files of SQuAD or its data set on the hub.

    `start` is the cell of a separate column of starts, else None. An empty cell or list has no answers.

    Raises:
        BadCell: the cell has another form.
    """
    if isinstance(cell, str) and cell.strip()[:1] in ("[", "{"):
        cell = _parse_written(cell)
    if isinstance(start, str) and start.strip()[:1] == "[":
        start = _parse_written(start)
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return []
    if isinstance(cell, Mapping):
        return _parse_object(cell)
    if isinstance(cell, list):
        if any(isinstance(each, Mapping) for each in cell):
            return [answer for each in cell for answer in parse_answers(each, None, None)]
        return _pair([_to_text(each) for each in cell], start)
    text = _to_text(cell)
    texts = [part for part in text.split(separator) if part.strip()] if separator else [text]
    return _pair(texts, start)


def _parse_object(cell: Mapping[str, object]) -> list[GivenAnswer]:
    if "text" not in cell:
        raise BadCell(f"an answer has no key 'text'; its keys: {', '.join(map(repr, list(cell)[:5])) or 'none'}")
    start = next((cell[name] for name in _STARTS if name in cell), None)
    texts = cell["text"]
    if texts is None:
        return []
    return _pair([_to_text(each) for each in texts] if isinstance(texts, list) else [_to_text(texts)], start)


def _pair(texts: Sequence[str], start: object) -> list[GivenAnswer]:
    starts = list(start) if isinstance(start, list) else [start] * (1 if len(texts) == 1 else 0)
    if starts and len(starts) != len(texts):
        raise BadCell(f"{len(texts)} answers have {len(starts)} starts")
    starts = starts or [None] * len(texts)
    given = [GivenAnswer(text, _to_start(each)) for text, each in zip(texts, starts, strict=True)]
    return [answer for answer in given if answer.text.strip()]


def _to_text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadCell(f"an answer is {describe_type(value)}, not a text")
    return str(value)


def _to_start(value: object) -> int | None:
    """Return a start; None for a missing one."""
    if value is None or (isinstance(value, str) and not value.strip()) or value != value:
        return None
    try:
        if isinstance(value, bool) or not isinstance(value, str | int | float) or float(value) != int(float(value)):
            raise ValueError
        return int(float(value))
    except (ValueError, OverflowError):
        raise BadCell(f"the start of an answer is {str(value)[:20]!r}, not a whole number") from None


def _parse_written(cell: str) -> object:
    """Return a list or object that pandas or json wrote as text; the text itself if it is neither."""
    text = cell.strip()
    if len(text) > _MAX_PARSED_CHARS:
        return cell
    for parse in (json.loads, ast.literal_eval):
        try:
            value: object = parse(text if parse is json.loads else _ARRAY.sub(r"\1", text))
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        return _to_lists(value) if isinstance(value, list | dict) else cell
    return cell


def _to_lists(value: object) -> object:
    if isinstance(value, dict):
        return {str(key): _to_lists(each) for key, each in value.items()}
    return [_to_lists(each) for each in value] if isinstance(value, list | tuple) else value


def locate_answer(context: str, given: GivenAnswer, line: int, counts: AnswerCounts) -> Answer:
    """Find an answer in its context, without the white space around it; adds to `counts`."""
    text = given.text.strip()
    wanted = None if given.start is None else given.start + given.text.index(text[0])
    if wanted is not None and wanted >= 0 and context.startswith(text, wanted):
        return Answer(given.text, wanted, wanted + len(text))
    found = _find_nearest(context, text, wanted)
    shown = f"for example {text[:_MAX_SHOWN]!r}"
    if found is None:
        pattern = r"\s+".join(map(re.escape, text.split()))
        matches = list(re.finditer(pattern, context, re.IGNORECASE))
        if not matches:
            counts.add(ABSENT, line, shown)
            return Answer(given.text, NOT_FOUND, NOT_FOUND)
        match = min(matches, key=lambda each: abs(each.start() - (wanted or 0)))
        counts.add(INEXACT, line, f"for example {text[:_MAX_SHOWN]!r} is {match[0][:_MAX_SHOWN]!r} there")
        return Answer(given.text, match.start(), match.end())
    if wanted is not None:
        counts.add(WRONG_START, line, f"{shown}, {wanted} to {found}")
    elif context.find(text, found + 1) >= 0:
        counts.add(SEVERAL, line, shown)
    return Answer(given.text, found, found + len(text))


def _find_nearest(context: str, text: str, wanted: int | None) -> int | None:
    if wanted is None:
        return None if (first := context.find(text)) < 0 else first
    wanted = max(0, wanted)
    before, after = context.rfind(text, 0, wanted + len(text)), context.find(text, wanted)
    found = [start for start in (before, after) if start >= 0]
    return min(found, key=lambda start: abs(start - wanted), default=None)
