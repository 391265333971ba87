"""Cut a split's token ring into equal blocks, in an order that is a pure function of (seed, index).

Nothing is stored and nothing is shuffled in memory: sample number i of an endless run is computed from
i alone. That makes resume exact at any point with any number of workers, and costs the same for a
thousand blocks as for a thousand million.

Every token is a label exactly once an epoch. Block k of an epoch has the labels
`shift + k*T ... shift + k*T + T - 1` on the ring and as inputs the tokens one before each; the last
block is shorter where the block size does not divide the tokens. From the second epoch on the cuts
move by a random `shift`, so a model does not see the same beginnings again.

Knows nothing of models or tensors; batches are made in tasks/clm/objective.py.
"""

from dataclasses import dataclass

import numpy as np

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
        """How many samples make one pass over all tokens."""
        return -(-len(self.split.stream) // self.block_size)

    def __getitem__(self, sample: int) -> Block:
        epoch, place = divmod(sample, self.samples_per_epoch)
        shift = hash_integers(self.seed, epoch) % self.block_size if epoch else 0
        number = permute(place, self.samples_per_epoch, hash_integers(self.seed, epoch, 1))
        return self.read(number, shift)

    def read(self, number: int, shift: int = 0) -> Block:
        """Block `number` of an epoch, in the order of the text."""
        stream = self.split.stream
        length = min(self.block_size, len(stream) - number * self.block_size)
        tokens = stream.read(shift + number * self.block_size - 1, length + 1)
        return tokens[:-1], tokens[1:]
