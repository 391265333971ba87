"""Texts and pairs as the inputs of a classifier, with the template of their own tokenizer around them.

A text that is longer than the block is cut off, or read in windows that overlap; how many were is counted. Where
words are to be changed at random, each token also knows which word it belongs to.

Knows nothing of labels and models.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerBase

from llmkit.errors import UsageError
from llmkit.tokens.rows import find_joints
from llmkit.tokens.store import Ids
from llmkit.tokens.tokenizer import backend_of, id_dtype, plain_encoding

NO_WORD = -1
"""The word of a token that the template put there."""


@dataclass(frozen=True, slots=True)
class Windows:
    """How a long text is read: `overlap` tokens are shared by neighbours, at most `most` windows are read."""

    overlap: int
    most: int


@dataclass(frozen=True, slots=True)
class Input:
    """One sequence that the model reads. `words` numbers the words, for each token, where that was asked for."""

    ids: Ids
    n_first: int
    """Tokens of type 0; what follows is the second text."""
    words: NDArray[np.int32] | None = None


@dataclass(slots=True)
class Inputs:
    """The inputs of many rows in flat arrays; those of one row, its windows, stand side by side."""

    ids: Ids
    ends: NDArray[np.int64]
    """Where each input ends in `ids`."""
    n_first: NDArray[np.int32]
    row_ends: NDArray[np.int64]
    """How many inputs there are up to the end of each row."""
    words: NDArray[np.int32] | None
    n_cut: int
    """Rows of which something was left out."""

    def __len__(self) -> int:
        return len(self.row_ends)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row, over all of its inputs."""
        starts: NDArray[np.int64] = np.append(0, self.ends)[np.append(0, self.row_ends)]
        return np.diff(starts)

    def read(self, row: int) -> list[Input]:
        """The inputs of one row."""
        inputs = []
        for number in range(int(self.row_ends[row - 1]) if row else 0, int(self.row_ends[row])):
            begin, end = int(self.ends[number - 1]) if number else 0, int(self.ends[number])
            words = None if self.words is None else self.words[begin:end]
            inputs.append(Input(self.ids[begin:end], int(self.n_first[number]), words))
        return inputs


def set_template(tokenizer: PreTrainedTokenizerBase) -> None:
    """Let a tokenizer that adds nothing to a text, as GPT-2's, end each text with its end-of-text token.

    So a classifier reads from a token that always says the same, an empty text has one token, and a pair is told
    apart. It is saved with the tokenizer, so whoever loads it makes the same inputs.
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
    word_cutter: str | None = None,
) -> Inputs:
    """Inputs of at most `block_size` tokens, the template's included. Of a pair the longer text is cut first.

    `word_cutter` is one of text/chinese_words.py, where `words` are wanted.

    Raises:
        UsageError: the block has no room for a text, or the windows overlap too much.
    """
    n_added = backend_of(tokenizer).num_special_tokens_to_add(pairs is not None)
    room = block_size - n_added
    if room < (2 if pairs is not None else 1):
        what = f"block_size {block_size} leaves no room beside {n_added} special tokens"
        raise UsageError(what, where="train.block_size", hint="raise it")
    if windows is not None and windows.overlap >= room:
        what = f"windows of {room} tokens cannot overlap by {windows.overlap}"
        raise UsageError(what, where="cls.window_overlap", hint=f"set it below {room}")
    ids: list[Ids] = []
    words: list[NDArray[np.int32]] = []
    n_first: list[int] = []
    n_inputs: list[int] = []
    n_cut = 0
    for row, encoding in enumerate(_encode(tokenizer, texts, pairs, block_size, windows, word_cutter is not None)):
        taken = [encoding, *encoding.overflowing][: windows.most if windows else 1]
        n_cut += len(taken) < 1 + len(encoding.overflowing)
        n_inputs.append(len(taken))
        for each in taken:
            ids.append(np.array(each.ids, id_dtype(tokenizer)))
            n_first.append(each.type_ids.count(0))
            if word_cutter is not None:
                words.append(_number_words(each, texts[row], pairs[row] if pairs else "", word_cutter))
    return Inputs(
        np.concatenate([np.zeros(0, id_dtype(tokenizer)), *ids]),
        np.cumsum([len(each) for each in ids], dtype=np.int64),
        np.array(n_first, np.int32),
        np.cumsum(n_inputs, dtype=np.int64),
        np.concatenate([np.zeros(0, np.int32), *words]) if word_cutter is not None else None,
        n_cut,
    )


def join_inputs(parts: Sequence[Inputs]) -> Inputs:
    """The rows of several batches as one."""
    ends, row_ends, n_tokens, n_inputs = [], [], 0, 0
    for part in parts:
        ends.append(part.ends + n_tokens)
        row_ends.append(part.row_ends + n_inputs)
        n_tokens += len(part.ids)
        n_inputs += len(part.ends)
    has_words = all(part.words is not None for part in parts)
    return Inputs(
        np.concatenate([part.ids for part in parts]),
        np.concatenate(ends),
        np.concatenate([part.n_first for part in parts]),
        np.concatenate(row_ends),
        np.concatenate([part.words for part in parts if part.words is not None]) if has_words else None,
        sum(part.n_cut for part in parts),
    )


def take_rows(inputs: Inputs, rows: NDArray[np.int64]) -> Inputs:
    """Some of the rows, in the order given; `n_cut` is not known of them and stays that of all."""
    taken = [inputs.read(int(row)) for row in rows]
    flat = [each for row in taken for each in row]
    return Inputs(
        np.concatenate([inputs.ids[:0], *(each.ids for each in flat)]),
        np.cumsum([len(each.ids) for each in flat], dtype=np.int64),
        np.array([each.n_first for each in flat], np.int32),
        np.cumsum([len(row) for row in taken], dtype=np.int64),
        None if inputs.words is None else np.concatenate([inputs.words[:0], *(each.words for each in flat)]),
        inputs.n_cut,
    )


def _encode(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], pairs: Sequence[str] | None, block_size: int,
    windows: Windows | None, with_words: bool,
) -> list[Encoding]:  # fmt: skip
    batch: Any = list(texts) if pairs is None else list(zip(texts, pairs, strict=True))
    with plain_encoding(backend_of(tokenizer)) as backend:
        backend.enable_truncation(block_size, stride=windows.overlap if windows else 0, strategy="longest_first")
        # The fast one leaves out offsets, which only words need.
        return (backend.encode_batch if with_words else backend.encode_batch_fast)(batch)


def _number_words(encoding: Encoding, text: str, pair: str, cutter: str) -> NDArray[np.int32]:
    """The number of each token's word, counted through both texts; NO_WORD for the template's."""
    sequences = np.array([NO_WORD if each is None else each for each in encoding.sequence_ids])
    words = np.full(len(sequences), NO_WORD, np.int32)
    n_words = 0
    for number, source in enumerate((text, pair)):
        places = np.flatnonzero(sequences == number)
        if len(places):
            starts = np.array([encoding.offsets[place][0] for place in places], np.int64)
            numbers = np.array([encoding.word_ids[place] for place in places], np.int64)
            joints = find_joints(source, starts, numbers, cutter)
            joints[0] = False  # a window may begin in the middle of a word
            words[places] = n_words + np.cumsum(~joints) - 1
            n_words = int(words[places[-1]]) + 1
    return words
