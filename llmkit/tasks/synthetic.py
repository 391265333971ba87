"""Random tokens in place of data, to estimate and measure the cost of a model without data.

The cost depends on the length of sequences, not on the tokens.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

N_TOKENS = 1 << 20


@dataclass(frozen=True)
class Vocabulary:
    """The attributes of a tokenizer that a new model needs."""

    n_tokens: int
    bos_token_id: int = 0
    eos_token_id: int = 0
    pad_token_id: int = 0
    cls_token_id: int = 0
    sep_token_id: int = 0

    def __len__(self) -> int:
        return self.n_tokens


@dataclass(frozen=True)
class RandomStream:
    """A stream of random ids without 0, the padding; reads that start at the same position return the same ids."""

    n_ids: int

    def __len__(self) -> int:
        return N_TOKENS

    def read(self, start: int, length: int) -> NDArray[np.int64]:
        return np.random.default_rng(start % N_TOKENS).integers(1, self.n_ids, length)


@dataclass(frozen=True)
class RandomSplit:
    stream: RandomStream


@dataclass(frozen=True)
class RandomPrepared:
    """The attributes of a prepared folder that training uses, with random ids."""

    n_ids: int

    def split(self, name: str) -> RandomSplit:
        return RandomSplit(RandomStream(self.n_ids))
