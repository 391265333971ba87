"""Cut a split's token ring into equal contiguous streams, for models that carry what they read from block to block.

The classic `batchify`, without its loss of tokens: row r of the batch reads its own stretch of the ring, at most
`block_size` tokens an optimizer step, and every token is a label exactly once an epoch. Like blocks.py a pure function
of (seed, index). From the second epoch on the ring is turned by a random number of tokens, so streams begin elsewhere.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmkit.datasets.randomness import hash_integers
from llmkit.tokens.store import Split


class StreamBlock(NamedTuple):
    """The next block of one stream: inputs and labels, both int64 of the same length, maybe none at the very end."""

    inputs: NDArray[np.int64]
    labels: NDArray[np.int64]
    row: int
    fresh: bool
    """Whether the stream begins here, so that nothing is to be remembered."""


@dataclass(frozen=True)
class Streams:
    """The endless sequence of training samples of one split: sample i is row `i % n_streams` of an optimizer step."""

    split: Split
    block_size: int
    n_streams: int
    seed: int

    @property
    def samples_per_epoch(self) -> int:
        """How many samples make one pass over all tokens."""
        longest = -(-len(self.split.stream) // self.n_streams)
        return -(-longest // self.block_size) * self.n_streams

    def __getitem__(self, sample: int) -> StreamBlock:
        epoch, place = divmod(sample, self.samples_per_epoch)
        step, row = divmod(place, self.n_streams)
        n_tokens = len(self.split.stream)
        turn = hash_integers(self.seed, epoch) % n_tokens if epoch else 0
        begin, end = (number * n_tokens // self.n_streams for number in (row, row + 1))
        # Steps of one length or one less: a short last one would be a step of a few tokens at the full rate. In a step
        # all rows are equal, as padding would be read into what is carried on; only the last is as long as its row.
        n_steps = self.samples_per_epoch // self.n_streams
        shortest = n_tokens // self.n_streams
        start, stop = (begin - (-number * shortest // n_steps) for number in (step, step + 1))
        stop = end if step + 1 == n_steps else stop
        tokens = self.split.stream.read(turn + start - 1, stop - start + 1)
        return StreamBlock(tokens[:-1], tokens[1:], row, step == 0)
