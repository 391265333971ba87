"""Encode texts and pairs of texts as classifier inputs, with the tokenizer's special tokens.

A text longer than `block_size` is truncated, or split into overlapping windows; truncated rows are counted. For
augmentation, each input also stores the word number of every token.

Independent of labels or models.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, repeat

import numpy as np
from numpy.typing import NDArray
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerBase

from llmkit.core.errors import DataError, UsageError
from llmkit.datasets.rows import word_continuation_mask
from llmkit.tokens.store import Ids
from llmkit.tokens.tokenizer import backend_of, encode_texts, encode_with_offsets, id_dtype, plain_encoding

NO_WORD = -1
"""The word number of a special token of the template."""


@dataclass(frozen=True, slots=True)
class Windows:
    """Settings for splitting a long text: adjacent windows share `stride` tokens; a text has at most `max_windows`."""

    stride: int
    max_windows: int


@dataclass(frozen=True, slots=True)
class Input:
    """One token sequence for the model. `words` has the word number of each token if a segmenter was given."""

    ids: Ids
    n_first: int
    """Number of tokens of type 0; the rest is the second text."""
    words: NDArray[np.int32] | None = None
    outer_types: "OuterTypes" = (None, None)


OuterTypes = tuple[int | None, int | None]
"""The token types of the first and the last token if they are neither 0 nor 1, such as that of XLNet's <cls>."""


@dataclass(slots=True)
class Inputs:
    """The inputs of many rows in flat arrays; the windows of one row are adjacent."""

    ids: Ids
    ends: NDArray[np.int64]
    """End of each input in `ids`."""
    n_first: NDArray[np.int32]
    row_ends: NDArray[np.int64]
    """Cumulative number of inputs, by row."""
    words: NDArray[np.int32] | None
    is_cut: NDArray[np.bool_]
    """(rows,): whether each row was truncated."""
    outer_types: OuterTypes = (None, None)
    n_without_tokens: int = 0
    """Rows without a token, for which the model reads one special token."""

    @property
    def n_cut(self) -> int:
        return int(self.is_cut.sum())

    def __len__(self) -> int:
        return len(self.row_ends)

    @property
    def _row_starts(self) -> NDArray[np.int64]:
        """Start of each row in `ids`, and the end of the last row."""
        starts: NDArray[np.int64] = np.append(0, self.ends)[np.append(0, self.row_ends)]
        return starts

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Number of tokens of each row, summed over the windows."""
        return np.diff(self._row_starts)

    def rows_with(self, token_id: int | None) -> NDArray[np.int64]:
        """Return the rows that contain the token, in ascending order."""
        places = np.flatnonzero(self.ids == token_id) if token_id is not None else np.zeros(0, np.int64)
        return np.unique(np.searchsorted(self._row_starts, places, side="right") - 1)

    def read(self, row: int) -> list[Input]:
        """Return the inputs of one row."""
        begin = int(self.row_ends[row - 1]) if row else 0
        return [self.read_input(number) for number in range(begin, int(self.row_ends[row]))]

    def read_input(self, number: int) -> Input:
        """Return one input, by its number over all rows."""
        begin, end = int(self.ends[number - 1]) if number else 0, int(self.ends[number])
        words = None if self.words is None else self.words[begin:end]
        return Input(self.ids[begin:end], int(self.n_first[number]), words, self.outer_types)


def set_template(tokenizer: PreTrainedTokenizerBase) -> None:
    """Append the end-of-text token to each text if the tokenizer adds no special tokens (GPT-2).

    A classifier then reads the logits at the end-of-text token of every text, an empty text has one token, and the
    token separates the two texts of a pair. The tokenizer saves the template, so training and prediction encode texts
    in the same way.
    """
    backend = backend_of(tokenizer)
    if backend.num_special_tokens_to_add(False) or tokenizer.eos_token is None:
        return
    end = str(tokenizer.eos_token)
    backend.post_processor = TemplateProcessing(
        single=f"$A {end}", pair=f"$A {end} $B:1 {end}:1", special_tokens=[(end, tokenizer.eos_token_id)]
    )


def encode_inputs(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    pairs: Sequence[str] | None,
    *,
    block_size: int,
    windows: Windows | None = None,
    segmenter: str | None = None,
) -> Inputs:
    """Encode rows as inputs of at most `block_size` tokens, including special tokens.

    The longer text of a pair is truncated first. `segmenter` (see text/language/words.py) defines the words to number.

    Raises:
        UsageError: `block_size` leaves no room for text, or the stride is too large for the windows.
    """
    n_added = backend_of(tokenizer).num_special_tokens_to_add(pairs is not None)
    room = block_size - n_added
    if room < (2 if pairs is not None else 1):
        what = f"block_size {block_size} is too small for text and {n_added} special tokens"
        raise UsageError(what, where="train.block_size", hint="raise train.block_size")
    min_width = room if pairs is None else room // 2  # two long texts get half of the room each
    if windows is not None and windows.stride >= min_width:
        what = f"windows of {min_width} tokens cannot overlap by {windows.stride}"
        raise UsageError(what, where="cls.stride", hint=f"set cls.stride below {min_width}")
    template = find_template(tokenizer, pairs is not None)
    n_used = room * (windows.max_windows if windows else 1)
    firsts = _encode_starts(tokenizer, texts, n_used, segmenter)
    seconds = repeat(_NOTHING) if pairs is None else _encode_starts(tokenizer, pairs, n_used, segmenter)
    rows: list[list[Input]] = []
    is_cut: list[bool] = []
    n_without_tokens = 0
    for row in zip(firsts, seconds, strict=False):
        spans, cut = _choose_spans((len(row[0][0]), len(row[1][0])), room, windows)
        rows.append([template.build_input(row, span, segmenter is not None) for span in spans])
        is_cut.append(cut)
        if not len(rows[-1][0].ids):
            fill_empty(rows[-1], tokenizer)
            n_without_tokens += 1
    packed = pack_inputs(rows, np.array(is_cut, bool), np.zeros(0, id_dtype(tokenizer)), segmenter is not None)
    packed.n_without_tokens = n_without_tokens
    return packed


def fill_empty(row: list[Input], tokenizer: PreTrainedTokenizerBase) -> None:
    """Give a row without tokens one token: the one that starts a text (bos), or else the one that ends it (eos).

    Raises:
        DataError: the tokenizer has neither bos nor eos.
    """
    token = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    if token is None:
        hint = "remove rows without a text"
        raise DataError("a text has no tokens, and the model needs at least one", where="the text column", hint=hint)
    words = None if row[0].words is None else np.array([NO_WORD], np.int32)
    row[0] = Input(np.array([token], row[0].ids.dtype), 1, words, row[0].outer_types)


def pack_inputs(rows: Sequence[Sequence[Input]], is_cut: NDArray[np.bool_], no_ids: Ids, has_words: bool) -> Inputs:
    """Store the inputs of rows in flat arrays; `no_ids` is an empty array that sets the dtype of the ids."""
    flat = [each for row in rows for each in row]
    words = [each.words for each in flat if each.words is not None]
    return Inputs(
        np.concatenate([no_ids, *(each.ids for each in flat)]),
        np.cumsum([len(each.ids) for each in flat], dtype=np.int64),
        np.array([each.n_first for each in flat], np.int32),
        np.cumsum([len(row) for row in rows], dtype=np.int64),
        np.concatenate([np.zeros(0, np.int32), *words]) if has_words else None,
        is_cut,
        flat[0].outer_types if flat else (None, None),
    )


def join_inputs(parts: Sequence[Inputs]) -> Inputs:
    """Concatenate the rows of several batches."""
    words = [part.words for part in parts if part.words is not None]
    return Inputs(
        np.concatenate([part.ids for part in parts]),
        np.cumsum(np.concatenate([np.diff(part.ends, prepend=0) for part in parts])),
        np.concatenate([part.n_first for part in parts]),
        np.cumsum(np.concatenate([np.diff(part.row_ends, prepend=0) for part in parts])),
        np.concatenate(words) if len(words) == len(parts) else None,
        np.concatenate([part.is_cut for part in parts]),
        parts[0].outer_types,
        sum(part.n_without_tokens for part in parts),
    )


def take_rows(inputs: Inputs, rows: NDArray[np.int64]) -> Inputs:
    """Return the rows at these indices, in this order."""
    taken = [inputs.read(int(row)) for row in rows]
    return pack_inputs(taken, inputs.is_cut[rows], inputs.ids[:0], inputs.words is not None)


Text = tuple[Ids, NDArray[np.bool_] | None]
"""The ids of one text, and for each id whether it continues the previous word."""
Spans = tuple[slice, slice]
"""The parts of the first and of the second text that are in one input."""
_NOTHING: Text = (np.zeros(0, np.uint16), None)


LONG_CHARACTERS = 1_000_000
"""Length above which only the start of a text is encoded; a tokenizer takes 240 bytes of memory per character."""
_MARGIN_TOKENS = 1_000
"""Additional tokens to encode, because the cut at the end of a part may change the tokens before it."""


def _encode_starts(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], n_used: int, segmenter: str | None
) -> Iterator[Text]:
    """Encode texts. Texts longer than LONG_CHARACTERS are cut, but keep at least their first `n_used` tokens."""
    starts = [text[:LONG_CHARACTERS] for text in texts]
    for text, start, found in zip(texts, starts, _encode(tokenizer, starts, segmenter), strict=True):
        encoded, n_characters = found, len(start)
        while n_characters < len(text) and len(encoded[0]) < n_used + _MARGIN_TOKENS:
            n_characters *= 4
            (encoded,) = _encode(tokenizer, [text[:n_characters]], segmenter)
        yield encoded


def _encode(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], segmenter: str | None) -> Iterator[Text]:
    if segmenter is None:
        ids, lengths = encode_texts(tokenizer, texts)
        for end, length in zip(np.cumsum(lengths), lengths, strict=True):
            yield ids[end - length : end], None
        return
    for text, (ids, starts, words) in zip(texts, encode_with_offsets(tokenizer, texts), strict=True):
        yield ids, word_continuation_mask(text, starts, words, segmenter)


def _choose_spans(lengths: tuple[int, int], room: int, windows: Windows | None) -> tuple[list[Spans], bool]:
    """Return the spans of a row's texts for each input, and whether the row is truncated.

    If both texts are long, each gets half of the room, as with `longest_first` of tokenizers. Windows move over the
    longer text.
    """
    first, second = lengths
    if first + second <= room:
        return [(slice(0, first), slice(0, second))], False
    longer = 0 if first > second else 1
    kept = min(lengths[1 - longer], room // 2)  # of the shorter text
    size = room - kept
    step = size - windows.stride if windows else size
    n_windows = -(-(lengths[longer] - size) // step) + 1
    n_read = min(n_windows, windows.max_windows if windows else 1)
    starts = range(0, n_read * step, step)
    spans = [(slice(start, start + size), slice(0, kept)) for start in starts]
    is_cut = n_read < n_windows or kept < lengths[1 - longer]
    return ([(b, a) for a, b in spans] if longer else spans), is_cut


@dataclass(frozen=True)
class Template:
    """The special tokens that a tokenizer adds before, between and after one or two texts, and the token types."""

    parts: tuple[Ids, Ids, Ids]
    types: tuple[int, int, int, int, int]
    """Token types of the tokens before, the first text, the tokens between, the second text, and the tokens after."""
    outer_types: OuterTypes = (None, None)

    def build_input(self, texts: tuple[Text, Text], spans: Spans, with_words: bool) -> Input:
        """Build one input."""
        (first, continues), (second, other_continues) = texts
        pieces = [self.parts[0], first[spans[0]], self.parts[1], second[spans[1]], self.parts[2]]
        ids = np.concatenate(pieces).astype(first.dtype)
        n_first = sum(len(piece) for piece, kind in zip(pieces, self.types, strict=True) if kind == 0)
        if not with_words:
            return Input(ids, n_first, None, self.outer_types)
        numbers = [_number_words(continues, spans[0], 0)]
        n_words = int(numbers[0][-1]) + 1 if len(numbers[0]) else 0
        numbers.append(_number_words(other_continues, spans[1], n_words))
        outside = [np.full(len(part), NO_WORD, np.int32) for part in self.parts]
        words = np.concatenate([outside[0], numbers[0], outside[1], numbers[1], outside[2]])
        return Input(ids, n_first, words, self.outer_types)


def find_template(tokenizer: PreTrainedTokenizerBase, pair: bool) -> Template:
    """Find the template by encoding one or two texts of one letter."""
    with plain_encoding(backend_of(tokenizer)) as backend:
        encoding = backend.encode("a", "a") if pair else backend.encode("a")
    sides = [encoding.sequence_ids.index(number) for number in range(1 + pair)]
    ends = [begin + encoding.sequence_ids.count(number) for number, begin in enumerate(sides)]
    cuts = [0, sides[0], ends[0], *((sides[1], ends[1]) if pair else (len(encoding.ids),) * 2), len(encoding.ids)]
    ids, types = np.array(encoding.ids, id_dtype(tokenizer)), encoding.type_ids
    kinds = [types[begin] if begin < end else 0 for begin, end in pairwise(cuts)]
    kinds[0] = 0  # count these tokens with the first text; `outer_types` has another type of the first token
    outer_types = tuple(kind if kind > 1 else None for kind in (types[0], types[-1]))
    parts = (ids[: cuts[1]], ids[cuts[2] : cuts[3]], ids[cuts[4] :])
    return Template(parts, (kinds[0], kinds[1], kinds[2], kinds[3], kinds[4]), (outer_types[0], outer_types[1]))


def _number_words(continues: NDArray[np.bool_] | None, span: slice, first: int) -> NDArray[np.int32]:
    if continues is None:
        return np.zeros(0, np.int32)
    begins = ~continues[span]
    begins[:1] = True  # a window may begin in the middle of a word
    return (first + np.cumsum(begins) - 1).astype(np.int32)
