"""Encode questions and contexts as windows for the model: question, separator, a part of the context.

Adjacent windows of a context share `stride` tokens, as with `return_overflowing_tokens` of transformers. A context is
encoded once, whatever the number of its questions. Each context token has a character range in the original context, so
answers are cut from the original text.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from llmkit.core.errors import UsageError
from llmkit.datasets.labelled import LONG_CHARACTERS, Input, Template, find_template
from llmkit.tables.answers import NOT_FOUND, Answer
from llmkit.tables.questions import Question
from llmkit.tables.rows import without_surrogates
from llmkit.text.alignment import align_characters
from llmkit.tokens.normalization import normalize_texts
from llmkit.tokens.store import Ids
from llmkit.tokens.tokenizer import encode_texts, encode_with_spans, id_dtype

_SPACE = re.compile(r"\s")
MIN_CONTEXT_TOKENS = 8
"""Minimum number of context tokens by which a window advances."""


@dataclass(frozen=True)
class WindowSettings:
    """How questions and contexts are cut."""

    block_size: int
    stride: int
    max_question_length: int

    def check(self, n_special: int) -> None:
        """Raise UsageError if a window would not advance in the context."""
        room = self.block_size - n_special - self.max_question_length
        if room < self.stride + MIN_CONTEXT_TOKENS:
            what = (
                f"a block of {self.block_size} tokens has no room for a question of {self.max_question_length} tokens, "
                f"{n_special} special tokens and {self.stride} tokens that windows share"
            )
            n_missing = self.stride + MIN_CONTEXT_TOKENS - room
            hint = f"raise train.block_size, or lower the sum of qa.stride and qa.max_question_length, by {n_missing}"
            raise UsageError(what, where="train.block_size, qa.stride", hint=hint)


@dataclass(frozen=True)
class Ragged:
    """Arrays of different lengths, one after the other."""

    values: NDArray[Any]
    ends: NDArray[np.int64]

    def __getitem__(self, number: int) -> NDArray[Any]:
        return self.values[self.begin(number) : self.ends[number]]

    def __len__(self) -> int:
        return len(self.ends)

    def begin(self, number: int) -> int:
        """Return where array `number` begins."""
        return int(self.ends[number - 1]) if number else 0


def _to_ragged(parts: Sequence[NDArray[Any]], dtype: Any) -> Ragged:
    values = np.concatenate([np.zeros(0, dtype), *parts])
    return Ragged(values, np.cumsum([len(part) for part in parts], dtype=np.int64))


@dataclass(frozen=True)
class Windows:
    """The windows of many questions; the windows of one question are adjacent."""

    template: Template
    questions: Ragged
    """Token ids of each question."""
    contexts: Ragged
    """Token ids of each distinct context."""
    starts: Ragged
    """Where each context token begins, in characters of the original context."""
    ends: Ragged
    """Where each context token ends, exclusive."""
    context_of: NDArray[np.int64]
    """(questions,): number of the question's context."""
    rows: NDArray[np.int64]
    """(windows,): number of the window's question."""
    begins: NDArray[np.int64]
    """(windows,): number of the window's first context token."""
    stops: NDArray[np.int64]
    """(windows,): number of the context token after the window's last one."""
    null_index: int
    """Position of the token that stands for no answer; negative: from the end."""
    n_cut_questions: int = 0
    n_normalized: int = 0
    """Number of questions whose texts the normalization of the model's training text changed."""
    texts: list[str] = field(default_factory=list, repr=False)
    """The distinct contexts, not normalized."""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def n_questions(self) -> int:
        return len(self.context_of)

    @cached_property
    def context_index(self) -> NDArray[np.int64]:
        """Position of the first context token in each window."""
        lengths = np.diff(self.questions.ends, prepend=0)
        return (lengths + len(self.template.parts[0]) + len(self.template.parts[1]))[self.rows]

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Number of tokens of each window."""
        return self.context_index + self.stops - self.begins + len(self.template.parts[2])

    @cached_property
    def row_ends(self) -> NDArray[np.int64]:
        """Number of windows up to and including each question."""
        return np.cumsum(np.bincount(self.rows, minlength=self.n_questions))

    def read(self, window: int) -> list[Input]:
        """Return one window as the only input of a sample."""
        row = int(self.rows[window])
        context = int(self.context_of[row])
        texts = ((self.questions[row], None), (self.contexts[context], None))
        whole = slice(0, len(texts[0][0]))
        part = slice(int(self.begins[window]), int(self.stops[window]))
        return [self.template.build_input(texts, (whole, part), with_words=False)]

    def windows_of(self, row: int) -> range:
        """Return the numbers of the windows of a question."""
        return range(int(self.row_ends[row - 1]) if row else 0, int(self.row_ends[row]))

    def null_position(self, window: int) -> int:
        """Return the position of the token that stands for no answer."""
        return self.null_index if self.null_index >= 0 else int(self.lengths[window]) + self.null_index

    def take(self, rows: NDArray[np.int64]) -> "Windows":
        """Return the windows of the questions at these indices, in this order."""
        chosen = np.concatenate([np.zeros(0, np.int64), *(np.array(self.windows_of(int(row))) for row in rows)])
        chosen = chosen.astype(np.int64)
        n_windows = np.array([len(self.windows_of(int(row))) for row in rows], np.int64)
        questions = _to_ragged([self.questions[int(row)] for row in rows], self.questions.values.dtype)
        return replace(
            self, questions=questions, context_of=self.context_of[rows],
            rows=np.repeat(np.arange(len(rows)), n_windows), begins=self.begins[chosen], stops=self.stops[chosen],
        )  # fmt: skip

    def hash(self) -> str:
        """Return the SHA-256, in hex, of all windows."""
        digest = hashlib.sha256()
        for array in (self.questions.values, self.contexts.values, self.context_of, self.rows, self.begins, self.stops):
            digest.update(np.ascontiguousarray(array).tobytes() + b"|")
        return digest.hexdigest()

    def find_tokens(self, row: int, answer: Answer) -> tuple[int, int] | None:
        """Return the first and last context token of an answer; None if the tokens do not cover it."""
        if answer.start == NOT_FOUND:
            return None
        context = int(self.context_of[row])
        first = int(np.searchsorted(self.ends[context], answer.start, side="right"))
        last = int(np.searchsorted(self.starts[context], answer.end, side="left")) - 1
        return (first, last) if first <= last else None

    def find_characters(self, row: int, first: int, last: int) -> tuple[int, int]:
        """Return the characters of a span of context tokens, without white space at its ends."""
        context = int(self.context_of[row])
        text = self.texts[context]
        start, end = int(self.starts[context][first]), int(self.ends[context][last])
        inside = text[start:end]
        return start + len(inside) - len(inside.lstrip()), end - len(inside) + len(inside.rstrip())

    @cached_property
    def visible(self) -> Ragged:
        """Whether each context token covers a character that is not white space."""
        parts = []
        for number, text in enumerate(self.texts):
            before = np.append(0, np.cumsum([not char.isspace() for char in text]))
            parts.append(before[self.ends[number]] > before[self.starts[number]])
        return _to_ragged(parts, np.dtype(bool))


def encode_windows(
    tokenizer: PreTrainedTokenizerBase, questions: Sequence[Question], settings: WindowSettings
) -> Windows:
    """Encode questions with their contexts, normalized like the training text of the tokenizer's model.

    Raises:
        UsageError: the settings leave no room for the context.
    """
    template = find_template(tokenizer, pair=True)
    n_special = sum(map(len, template.parts))
    settings.check(n_special)
    given = [without_surrogates(each.question).strip() for each in questions]
    asked = normalize_texts(tokenizer, given)
    ids, n_ids = encode_texts(tokenizer, asked)
    parts = [ids[end - length : end] for end, length in zip(np.cumsum(n_ids), n_ids, strict=True)]
    numbers: dict[str, int] = {}
    context_of = np.array([numbers.setdefault(each.context, len(numbers)) for each in questions], np.int64)
    texts = list(numbers)
    contexts, is_normalized = _encode_contexts(tokenizer, texts)
    begins, stops, rows = [], [], []
    for row, (part, number) in enumerate(zip(parts, context_of, strict=True)):
        room = settings.block_size - n_special - min(len(part), settings.max_question_length)
        for begin, stop in _cut(len(contexts[int(number)][0]), room, settings.stride):
            begins.append(begin)
            stops.append(stop)
            rows.append(row)
    changed = np.array([one != other for one, other in zip(given, asked, strict=True)], bool)
    return Windows(
        template,
        _to_ragged([part[: settings.max_question_length] for part in parts], id_dtype(tokenizer)),
        _to_ragged([each[0] for each in contexts], id_dtype(tokenizer)),
        _to_ragged([each[1] for each in contexts], np.dtype(np.int32)),
        _to_ragged([each[2] for each in contexts], np.dtype(np.int32)),
        context_of,
        np.array(rows, np.int64),
        np.array(begins, np.int64),
        np.array(stops, np.int64),
        null_index=_find_null(tokenizer, template),
        n_cut_questions=sum(len(part) > settings.max_question_length for part in parts),
        n_normalized=int((changed | np.array(is_normalized, bool)[context_of]).sum()),
        texts=texts,
    )


def _cut(n_tokens: int, room: int, stride: int) -> Iterator[tuple[int, int]]:
    """Yield the windows of a context; an empty context has one."""
    begin = 0
    while True:
        yield begin, min(begin + room, n_tokens)
        if begin + room >= n_tokens:
            return
        begin += room - stride


def _find_null(tokenizer: PreTrainedTokenizerBase, template: Template) -> int:
    """Return the position of the token that stands for no answer: the class token, else the token at the end.

    A decoder's last token is the only one that has read question and context.
    """
    for part, first in ((template.parts[0], 0), (template.parts[2], -len(template.parts[2]))):
        if tokenizer.cls_token_id in part:
            return first + part.tolist().index(tokenizer.cls_token_id)
    return -1


def _encode_contexts(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]
) -> tuple[list[tuple[Ids, NDArray[np.int32], NDArray[np.int32]]], list[bool]]:
    """Return (id, first character, character after the last) of each token, and which texts normalization changed."""
    found, is_normalized = [], []
    pieces = [list(_split_long(text)) for text in texts]
    flat = [
        without_surrogates(text[begin:end]) for text, cuts in zip(texts, pieces, strict=True) for begin, end in cuts
    ]
    normalized = normalize_texts(tokenizer, flat)
    encoded = zip(flat, normalized, encode_with_spans(tokenizer, normalized), strict=True)
    for cuts in pieces:
        parts, changed = [], False
        for begin, _ in cuts:
            given, text, (ids, starts, ends) = next(encoded)
            changed |= given != text
            if (alignment := align_characters(given, text)) is not None and len(text):
                is_empty = ends <= starts
                starts = alignment.starts[np.minimum(starts, len(text) - 1)]
                ends = np.where(is_empty, starts, alignment.ends[np.maximum(ends, 1) - 1])
            parts.append((ids, starts + begin, ends + begin))
        ids, starts, ends = (np.concatenate(each) for each in zip(*parts, strict=True))
        found.append((ids, starts.astype(np.int32), ends.astype(np.int32)))
        is_normalized.append(changed)
    return found, is_normalized


def _split_long(text: str) -> Iterator[tuple[int, int]]:
    """Yield the pieces of a text that are tokenized on their own; only a very long text has several."""
    begin = 0
    while len(text) - begin > LONG_CHARACTERS:
        spaces = [
            match.end() for match in _SPACE.finditer(text, begin + LONG_CHARACTERS - 1000, begin + LONG_CHARACTERS)
        ]
        end = spaces[-1] if spaces else begin + LONG_CHARACTERS
        yield begin, end
        begin = end
    yield begin, len(text)


def align_labels(
    windows: Windows, questions: Sequence[Question]
) -> tuple[NDArray[np.int64], list[int], NDArray[np.int64]]:
    """Return labels (windows, 2), indices of questions without an answer in the context, and token counts of answers.

    A label is the position of the answer's first and last token in the window, or twice the token that stands for no
    answer if the window does not hold the whole answer. Of several reference answers, the most frequent is used.
    """
    labels = np.array([[windows.null_position(number)] * 2 for number in range(len(windows))], np.int64).reshape(-1, 2)
    lost, n_tokens = [], []
    for row, question in enumerate(questions):
        if not question.answers:
            continue
        spans = [span for answer in question.answers if (span := windows.find_tokens(row, answer)) is not None]
        if not spans:
            lost.append(row)
            continue
        first, last = max(spans, key=spans.count)
        n_tokens.append(last - first + 1)
        for number in windows.windows_of(row):
            if windows.begins[number] <= first and last < windows.stops[number]:
                labels[number] = np.array([first, last]) - windows.begins[number] + windows.context_index[number]
    return labels, lost, np.array(n_tokens, np.int64)
