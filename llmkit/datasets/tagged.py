"""Encode rows of words for tagging: each word is scored at its first token.

Words are aligned by the tokenizer's character offsets, so the text is encoded as plain transformers encodes it. A text
longer than `block_size` is split into overlapping windows, and a word belongs to the window in which its first token is
farthest from both edges. A word without a token of its own, such as one that the tokenizer joins to the word before, is
not scored.

Independent of tags and models.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from llmkit.core.errors import UsageError
from llmkit.datasets.labelled import Input, Inputs, fill_empty, find_template, join_inputs, pack_inputs, take_rows
from llmkit.tokens.store import Ids
from llmkit.tokens.tokenizer import backend_of, encode_with_offsets, id_dtype
from llmkit.tokens.unknown import has_exact_offsets

NO_TOKEN = -1
_CHARACTERS_AT_ONCE = 200_000
"""Longer texts are encoded in parts, which end before a word: an encoding takes 240 bytes of memory per character."""


@dataclass(frozen=True, slots=True)
class WordRow:
    """The words of a text as the model reads them."""

    words: Sequence[str]
    spaces: Sequence[bool]
    """Whether white space precedes each word."""


@dataclass(frozen=True, slots=True)
class TaggedInputs:
    """The inputs of many rows, and the place of each word's first token."""

    inputs: Inputs
    places: NDArray[np.int64]
    """(words,) index in the tokens of its row, counted over the row's windows; NO_TOKEN if the word is not scored."""
    word_ends: NDArray[np.int64]
    """Cumulative number of words, by row."""

    def __len__(self) -> int:
        return len(self.word_ends)

    def words_of(self, row: int) -> slice:
        """Return the words of a row, as a slice of `places`."""
        return slice(int(self.word_ends[row - 1]) if row else 0, int(self.word_ends[row]))

    def take(self, rows: NDArray[np.int64]) -> "TaggedInputs":
        """Return the rows at these indices, in this order."""
        parts = [self.places[self.words_of(int(row))] for row in rows]
        ends = np.cumsum([len(part) for part in parts], dtype=np.int64)
        return TaggedInputs(take_rows(self.inputs, rows), np.concatenate([self.places[:0], *parts]), ends)

    @property
    def tokens(self) -> NDArray[np.int64]:
        """Return the index of each word's first token in the ids of all rows; NO_TOKEN for words that have none."""
        starts = np.append(0, np.cumsum(self.inputs.lengths))[:-1]
        rows = np.repeat(np.arange(len(self)), np.diff(self.word_ends, prepend=0))
        return np.where(self.places == NO_TOKEN, NO_TOKEN, self.places + starts[rows])

    @property
    def windows(self) -> Inputs:
        """Return the inputs with each window as a row, as training reads them."""
        is_cut = np.zeros(len(self.inputs.ends), bool)
        return replace(self.inputs, row_ends=np.arange(1, len(self.inputs.ends) + 1), is_cut=is_cut)


class TokenLabels:
    """The labels of the tokens of each window: the label of a word at its first token, `ignored` elsewhere."""

    def __init__(self, tagged: TaggedInputs, labels: NDArray[np.int64], ignored: int) -> None:
        tokens = tagged.tokens
        self._labels = np.full(len(tagged.inputs.ids), ignored, np.int64)
        self._labels[tokens[tokens != NO_TOKEN]] = labels[tokens != NO_TOKEN]
        self._ends = tagged.inputs.ends

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, window: int) -> NDArray[np.int64]:
        return self._labels[self._ends[window - 1] if window else 0 : self._ends[window]]


def encode_words(
    tokenizer: PreTrainedTokenizerBase, rows: Sequence[WordRow], *, block_size: int, stride: int
) -> TaggedInputs:
    """Encode rows in windows of at most `block_size` tokens, including special tokens, that share `stride` tokens.

    Raises:
        UsageError: `block_size` leaves no room for text, or the stride is too large for it.
    """
    n_added = backend_of(tokenizer).num_special_tokens_to_add(False)
    room = block_size - n_added
    if room < 1:
        what = f"block_size {block_size} is too small for text and {n_added} special tokens"
        raise UsageError(what, where="train.block_size", hint="raise train.block_size")
    template = find_template(tokenizer, False)
    nothing = np.zeros(0, id_dtype(tokenizer))
    inputs: list[list[Input]] = []
    places: list[NDArray[np.int64]] = []
    n_without_tokens = 0
    for row, (ids, firsts) in zip(rows, _encode(tokenizer, rows), strict=True):
        spans = cut_windows(len(ids), room, stride)
        texts = ((ids, None), (nothing, None))
        inputs.append([template.build_input(texts, (span, slice(0, 0)), False) for span in spans])
        if not len(inputs[-1][0].ids):
            fill_empty(inputs[-1], tokenizer)
            n_without_tokens += 1
        places.append(_place_words(firsts, len(row.words), spans, len(template.parts[0]), n_added))
    packed = pack_inputs(inputs, np.zeros(len(rows), bool), nothing, False)
    packed.n_without_tokens = n_without_tokens
    ends = np.cumsum([len(part) for part in places], dtype=np.int64)
    return TaggedInputs(packed, np.concatenate([np.zeros(0, np.int64), *places]), ends)


def join_tagged(parts: Sequence[TaggedInputs]) -> TaggedInputs:
    """Concatenate the rows of several batches."""
    lengths = np.concatenate([np.diff(part.word_ends, prepend=0) for part in parts])
    places = np.concatenate([part.places for part in parts])
    return TaggedInputs(join_inputs([part.inputs for part in parts]), places, np.cumsum(lengths))


def cut_windows(n_tokens: int, room: int, stride: int) -> list[slice]:
    """Return the windows of a text: of `room` tokens each, and only as many as are needed.

    Raises:
        UsageError: windows of this size cannot share `stride` tokens.
    """
    if n_tokens <= room:
        return [slice(0, n_tokens)]
    if stride >= room:
        what = f"windows of {room} tokens cannot overlap by {stride}"
        raise UsageError(what, where="ner.stride", hint=f"set ner.stride below {room}")
    n_windows = -(-(n_tokens - room) // (room - stride)) + 1
    return [slice(start, min(start + room, n_tokens)) for start in range(0, n_windows * (room - stride), room - stride)]


def _place_words(
    firsts: NDArray[np.int64], n_words: int, spans: Sequence[slice], n_before: int, n_added: int
) -> NDArray[np.int64]:
    """Return the place of each word, from the index of its first token in the text (-1: none)."""
    places = np.full(n_words, NO_TOKEN, np.int64)
    best = np.full(n_words, -1, np.int64)
    offset = 0
    for number, span in enumerate(spans):
        # The first and the last window cut off no context at the ends of the text.
        left = firsts - span.start if number else np.full(n_words, np.iinfo(np.int64).max)
        right = span.stop - 1 - firsts if number < len(spans) - 1 else np.full(n_words, np.iinfo(np.int64).max)
        context = np.minimum(left, right)
        is_better = (firsts >= span.start) & (firsts < span.stop) & (context > best)
        places[is_better] = offset + n_before + firsts[is_better] - span.start
        best[is_better] = context[is_better]
        offset += span.stop - span.start + n_added
    return places


def _encode(tokenizer: PreTrainedTokenizerBase, rows: Sequence[WordRow]) -> Iterator[tuple[Ids, NDArray[np.int64]]]:
    """Yield the ids of each row without special tokens, and the index of each word's first token.

    If the tokenizer's offsets are not exact, each word is encoded alone.
    """
    parts = [list(_split_words(row, 1 if not has_exact_offsets(tokenizer) else _CHARACTERS_AT_ONCE)) for row in rows]
    encoded = encode_with_offsets(tokenizer, [_to_text(part) for row in parts for part in row])
    nothing = np.zeros(0, id_dtype(tokenizer))
    for row in parts:
        ids: list[Ids] = [nothing]
        firsts = [np.zeros(0, np.int64)]
        n_ids = 0
        for part in row:
            found, starts, _ = next(encoded)
            own = _find_first_tokens(part, starts)
            firsts.append(np.where(own == NO_TOKEN, NO_TOKEN, own + n_ids))
            ids.append(found)
            n_ids += len(found)
        yield np.concatenate(ids), np.concatenate(firsts)


def _split_words(row: WordRow, n_characters: int) -> Iterator[WordRow]:
    """Yield parts of at least `n_characters`, the last of which may be shorter."""
    begin = length = 0
    for number, word in enumerate(row.words):
        length += len(word) + 1
        if length >= n_characters:
            yield WordRow(row.words[begin : number + 1], row.spaces[begin : number + 1])
            begin, length = number + 1, 0
    if begin < len(row.words):
        yield WordRow(row.words[begin:], row.spaces[begin:])


def _to_text(part: WordRow) -> str:
    return "".join(" " * space + word for word, space in zip(part.words, part.spaces, strict=True))


def _find_first_tokens(part: WordRow, starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the index of each word's first token, from the starts of the tokens in characters."""
    if len(part.words) == 1:
        return np.array([0 if len(starts) else NO_TOKEN], np.int64)
    ends = np.cumsum([len(word) + space for word, space in zip(part.words, part.spaces, strict=True)])
    words = np.searchsorted(ends, starts, side="right")  # a token may begin with the space before its word
    known = np.flatnonzero(words < len(ends))
    found, tokens = np.unique(words[known], return_index=True)
    firsts = np.full(len(ends), NO_TOKEN, np.int64)
    firsts[found] = known[tokens]
    return firsts
