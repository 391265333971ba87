"""Cut a split's token ring into equal blocks, in an order that is a pure function of (seed, index).

Nothing is stored and nothing is shuffled in memory: sample number i of an endless run is computed from
i alone. That makes resume exact at any point with any number of workers, and costs the same for a
thousand blocks as for a thousand million.

Every token is a label exactly once an epoch. Block k of an epoch has the labels
`shift + k*T ... shift + k*T + T - 1` on the ring and as inputs the tokens one before each; the last
block is shorter where the block size does not divide the tokens. From the second epoch on the cuts
move by a random `shift`, so a model does not see the same beginnings again.

Knows nothing of models or tensors; batches are made in objectives/causal_lm.py.
"""

from dataclasses import dataclass

import numpy as np

from llmkit.tokens.store import Split

Block = tuple[np.ndarray, np.ndarray]
"""Inputs and labels, both int64 of the same length."""

_MASK64 = (1 << 64) - 1


@dataclass(frozen=True)
class Blocks:
    """The endless sequence of training samples of one split; `blocks[i]` is sample i."""

    split: Split
    block_size: int
    seed: int

    @property
    def blocks_per_epoch(self) -> int:
        """How many samples make one pass over all tokens."""
        return -(-len(self.split.stream) // self.block_size)

    def __getitem__(self, sample: int) -> Block:
        epoch, place = divmod(sample, self.blocks_per_epoch)
        shift = hash_integers(self.seed, epoch) % self.block_size if epoch else 0
        number = permute(place, self.blocks_per_epoch, hash_integers(self.seed, epoch, 1))
        return self.read(number, shift)

    def read(self, number: int, shift: int = 0) -> Block:
        """Block `number` of an epoch, in the order of the text."""
        stream = self.split.stream
        length = min(self.block_size, len(stream) - number * self.block_size)
        tokens = stream.read(shift + number * self.block_size - 1, length + 1)
        return tokens[:-1], tokens[1:]


def permute(index: int, size: int, key: int) -> int:
    """Where `index` goes in a random order of 0 ... size-1 that is fixed by `key`.

    A four-round Feistel network over the next even number of bits, walked until it lands inside
    (Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002): a bijection without any table.
    """
    if size == 1:
        return 0
    half = -(-(size - 1).bit_length() // 2)
    mask = (1 << half) - 1
    while True:
        left, right = index >> half, index & mask
        for round_ in range(4):
            left, right = right, left ^ (hash_integers(key, round_, right) & mask)
        index = left << half | right
        if index < size:
            return index


def hash_integers(*values: int) -> int:
    """64 well-mixed bits of some integers: splitmix64's finalizer (Steele et al., 2014), chained."""
    state = 0
    for value in values:
        state = (state + value + 0x9E3779B97F4A7C15) & _MASK64
        state = ((state ^ state >> 30) * 0xBF58476D1CE4E5B9) & _MASK64
        state = ((state ^ state >> 27) * 0x94D049BB133111EB) & _MASK64
        state ^= state >> 31
    return state
