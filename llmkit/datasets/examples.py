"""Order labelled inputs for training, and augment them.

The order is random, but the rows of an optimizer step have similar lengths. The rows of a step are a pure function of
(seed, step): they do not depend on micro-batches, and resuming takes constant time. Augmentation deletes, swaps and
masks words (Wei and Zou, "EDA", 2019, section 2, without synonyms). Special tokens never move, and a text keeps at
least one word.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from llmkit.config.cls import Augment
from llmkit.datasets.labelled import NO_WORD, Input
from llmkit.datasets.randomness import draw_uniforms, hash_integers

MAX_STEPS_PER_CHUNK = 50
"""Maximum number of steps whose rows are sorted by length together, as with `group_by_length` in transformers."""
MIN_CHUNKS_PER_EPOCH = 4
"""Minimum number of chunks, so that a small data set is not sorted by length as a whole."""
_ORDER, _CHUNK = 1, 2


class Indexed(Protocol):
    """Labels by row: an array, or an object that makes them."""

    def __getitem__(self, row: int, /) -> Any: ...


Augmenter = Callable[[Input, int], Input]
"""Changes some words of an input; the second argument seeds the changes."""


@dataclass(frozen=True, slots=True)
class Example:
    """One row for the objective: its label and its inputs (several if a long text is split into windows)."""

    inputs: list[Input]
    label: Any
    """An id; for multi-label a row of zeros and ones; for regression a number; for tags the ids of the tokens."""


class TrainingInputs(Protocol):
    """Encoded inputs by row."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Number of tokens of each row."""

    def __len__(self) -> int: ...
    def read(self, row: int, /) -> list[Input]:
        """Return the inputs of a row."""


class Examples:
    """The endless sequence of training samples. `block_size` is the maximum length of an input."""

    def __init__(
        self,
        inputs: TrainingInputs,
        labels: Indexed,
        *,
        seed: int,
        global_batch_size: int,
        block_size: int,
        change: Augmenter | None = None,
    ) -> None:
        self.inputs, self.labels, self.seed, self.block_size = inputs, labels, seed, block_size
        self.change = change
        self._lengths = inputs.lengths
        self._step = global_batch_size
        n_steps = len(inputs) // (MIN_CHUNKS_PER_EPOCH * global_batch_size)
        self._chunk = global_batch_size * max(1, min(MAX_STEPS_PER_CHUNK, n_steps))
        self._epochs: OrderedDict[int, NDArray[np.int64]] = OrderedDict()
        self._chunks: OrderedDict[int, NDArray[np.int64]] = OrderedDict()

    @property
    def samples_per_epoch(self) -> int:
        return len(self.inputs)

    def __getitem__(self, sample: int) -> Example:
        """Return training sample number `sample`."""
        row = self.row(sample)
        inputs = self.inputs.read(row)
        if self.change is not None:
            key = hash_integers(self.seed, sample)
            inputs = [self.change(each, hash_integers(key, number)) for number, each in enumerate(inputs)]
        return Example(inputs, self.labels[row])

    def row(self, sample: int) -> int:
        """Return the row number of a training sample."""
        chunk, place = divmod(sample, self._chunk)
        rows = _cached(self._chunks, chunk, self._order_chunk)
        return int(rows[place])

    def _order_chunk(self, chunk: int) -> NDArray[np.int64]:
        """Return the rows of a chunk of steps: sorted by length within an epoch, split into steps, steps shuffled."""
        n_rows, first = len(self.inputs), chunk * self._chunk
        last, pieces = first + self._chunk, []
        for epoch in range(first // n_rows, -(-last // n_rows)):
            begin, end = max(first, epoch * n_rows), min(last, (epoch + 1) * n_rows)
            rows = _cached(self._epochs, epoch, self._order_epoch)[begin - epoch * n_rows : end - epoch * n_rows]
            rows = rows[np.argsort(self._lengths[rows], kind="stable")]
            sizes = np.diff([begin, *range((begin // self._step + 1) * self._step, end, self._step), end])
            uniforms = draw_uniforms(hash_integers(self.seed, _CHUNK, chunk, epoch), len(sizes))
            order = np.argsort(uniforms, kind="stable")  # order[i]: the new position of the i-th shortest step
            cut = np.split(rows, np.cumsum(sizes[order])[:-1])
            pieces += [cut[number] for number in np.argsort(order)]
        return np.concatenate(pieces)

    def _order_epoch(self, epoch: int) -> NDArray[np.int64]:
        uniforms = draw_uniforms(hash_integers(self.seed, _ORDER, epoch), len(self.inputs))
        return np.argsort(uniforms, kind="stable")


def _cached(
    cache: OrderedDict[int, NDArray[np.int64]], key: int, make: Callable[[int], NDArray[np.int64]]
) -> NDArray[np.int64]:
    """Return the value for `key` from a cache of two entries; a step may span two chunks or epochs."""
    if key not in cache:
        cache[key] = make(key)
        if len(cache) > 2:
            cache.popitem(last=False)
    return cache[key]


def make_augmenter(section: Augment, mask_id: int | None) -> Augmenter | None:
    """Return the augmentation that the recipe sets; None if all of its probabilities are 0."""
    if not (section.delete or section.swap or section.mask):
        return None
    return partial(augment_words, section, mask_id)


def augment_words(section: Augment, mask_id: int | None, source: Input, key: int) -> Input:
    """Return a copy of the input with randomly changed words; `key` seeds the changes."""
    assert source.words is not None
    ids = source.ids.copy()
    # A word is a run of equal numbers; each special token is a unit of its own.
    begins = np.flatnonzero((np.diff(source.words, prepend=NO_WORD - 1) != 0) | (source.words == NO_WORD))
    ends = np.append(begins[1:], len(ids))
    is_word = source.words[begins] != NO_WORD
    is_second = begins >= source.n_first
    # Texts are separated by special tokens, or by a change of the token type; RoBERTa has one type for both texts.
    texts = np.cumsum(~is_word | np.diff(is_second, prepend=is_second[:1]))
    chances = draw_uniforms(key, 3 * len(begins)).reshape(3, -1)
    if mask_id is not None:
        for number in np.flatnonzero(is_word & (chances[0] < section.mask)):
            ids[begins[number] : ends[number]] = mask_id
    order = list(range(len(begins)))
    for place in range(len(order) - 1):
        here, there = order[place], order[place + 1]
        # A word moves at most one place; it neither leaves its text nor passes a special token.
        together = is_word[here] and is_word[there] and texts[here] == texts[there]
        if together and here == place and chances[1][place] < section.swap:
            order[place], order[place + 1] = there, here
    left_out = is_word & (chances[2] < section.delete)
    for text in np.unique(texts[is_word]):
        own = is_word & (texts == text)
        if left_out[own].all():
            left_out[np.flatnonzero(own)[int(np.argmax(chances[2][own]))]] = False
    kept = [number for number in order if not left_out[number]]
    pieces = [slice(begins[number], ends[number]) for number in kept]
    n_first = sum(piece.stop - piece.start for piece, number in zip(pieces, kept, strict=True) if not is_second[number])
    return Input(
        np.concatenate([ids[piece] for piece in pieces]),
        int(n_first),
        np.concatenate([source.words[piece] for piece in pieces]),
    )
