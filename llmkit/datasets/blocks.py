"""Cut the token stream of a split into blocks or parallel streams; each sample is a pure function of (seed, index).

Nothing is stored or shuffled in memory: sample i of an endless run is computed from i alone. Resuming is exact at any
step with any number of workers and takes constant time.

The stream is a ring: the last token precedes the first. Every token is a label exactly once per epoch. Block k of an
epoch has the labels `shift + k*T ... shift + k*T + T - 1`; the inputs are the tokens one position earlier. The last
block is shorter if the block size does not divide the number of tokens. From the second epoch on, `shift` is random.

`Streams` is `batchify` of PyTorch's word_language_model without dropped tokens, for models that carry their state
between steps: row r of the batch reads one contiguous part of the ring, at most `block_size` tokens per optimizer step.

Independent of models or tensors; tasks/clm/objective.py makes the batches.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmkit.datasets.randomness import hash_integers, permute
from llmkit.tokens.store import Split

Block = tuple[np.ndarray, np.ndarray]
"""Inputs and labels, both int64 of the same length."""


@dataclass(frozen=True)
class Blocks:
    """The endless sequence of training samples of one split; `blocks[i]` is sample i."""

    split: Split
    block_size: int
    seed: int

    @property
    def samples_per_epoch(self) -> int:
        """Number of samples in one pass over all tokens."""
        return -(-len(self.split.stream) // self.block_size)

    def __getitem__(self, sample: int) -> Block:
        epoch, place = divmod(sample, self.samples_per_epoch)
        shift = hash_integers(self.seed, epoch) % self.block_size if epoch else 0
        number = permute(place, self.samples_per_epoch, hash_integers(self.seed, epoch, 1))
        return self.read(number, shift)

    def read(self, number: int, shift: int = 0) -> Block:
        """Return block `number` of an epoch, in text order."""
        stream = self.split.stream
        length = min(self.block_size, len(stream) - number * self.block_size)
        tokens = stream.read(shift + number * self.block_size - 1, length + 1)
        return tokens[:-1], tokens[1:]


class StreamBlock(NamedTuple):
    """The next block of one stream: inputs and labels, int64 arrays of equal length, possibly empty at the end."""

    inputs: NDArray[np.int64]
    labels: NDArray[np.int64]
    row: int
    fresh: bool
    """Whether the stream begins here, so the state starts from zero."""


@dataclass(frozen=True)
class Streams:
    """The endless sequence of training samples of one split: sample i is row `i % n_streams` of an optimizer step."""

    split: Split
    block_size: int
    n_streams: int
    seed: int

    @property
    def samples_per_epoch(self) -> int:
        """Number of samples in one pass over all tokens."""
        longest = -(-len(self.split.stream) // self.n_streams)
        return -(-longest // self.block_size) * self.n_streams

    def __getitem__(self, sample: int) -> StreamBlock:
        epoch, place = divmod(sample, self.samples_per_epoch)
        step, row = divmod(place, self.n_streams)
        n_tokens = len(self.split.stream)
        turn = hash_integers(self.seed, epoch) % n_tokens if epoch else 0
        begin, end = (number * n_tokens // self.n_streams for number in (row, row + 1))
        # Steps differ in length by at most one token: a short last step would train a few tokens at the full learning
        # rate. All rows of a step are equally long, as padding would change the carried state; only the last step
        # reads each row to its end.
        n_steps = self.samples_per_epoch // self.n_streams
        shortest = n_tokens // self.n_streams
        start, stop = (begin - (-number * shortest // n_steps) for number in (step, step + 1))
        stop = end if step + 1 == n_steps else stop
        tokens = self.split.stream.read(turn + start - 1, stop - start + 1)
        return StreamBlock(tokens[:-1], tokens[1:], row, step == 0)
