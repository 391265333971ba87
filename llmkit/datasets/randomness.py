"""Compute random numbers for data from integers, without a generator state.

A run therefore resumes exactly at any step, with any number of workers and ranks. The numbers are the same on every
machine and with every version of numpy.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_MASK64 = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_SHIFTS = tuple(map(np.uint64, (30, 27, 31, 11)))
_FACTORS = tuple(map(np.uint64, (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)))


def hash_integers(*values: int) -> int:
    """Return 64 well-mixed bits of some integers: splitmix64's finalizer (Steele et al., 2014), chained."""
    state = 0
    for value in values:
        state = _mix(state, value)
    return state


def _mix(state: int, value: int) -> int:
    state = (state + value + _GOLDEN) & _MASK64
    state = ((state ^ state >> 30) * 0xBF58476D1CE4E5B9) & _MASK64
    state = ((state ^ state >> 27) * 0x94D049BB133111EB) & _MASK64
    return state ^ state >> 31


def draw_uniforms(key: int, size: int) -> NDArray[np.float64]:
    """Return `size` numbers in [0, 1) with 53 random bits each: splitmix64 with the state `key`, vectorized."""
    state = _steps(size) + np.uint64(key)
    state ^= state >> _SHIFTS[0]
    state *= _FACTORS[0]
    state ^= state >> _SHIFTS[1]
    state *= _FACTORS[1]
    state ^= state >> _SHIFTS[2]
    uniforms: NDArray[np.float64] = (state >> _SHIFTS[3]) * np.float64(2.0**-53)
    return uniforms


@lru_cache(maxsize=8)
def _steps(size: int) -> NDArray[np.uint64]:
    return np.arange(1, size + 1, dtype=np.uint64) * np.uint64(_GOLDEN)


def permute(index: int, size: int, key: int) -> int:
    """Return the position of `index` in the random permutation of 0 ... size-1 that `key` selects.

    A bijection without a table: a four-round Feistel network over the next even number of bits, repeated until the
    result is below `size` (cycle walking; Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002).
    """
    if size == 1:
        return 0
    half = -(-(size - 1).bit_length() // 2)
    mask = (1 << half) - 1
    while True:
        left, right = index >> half, index & mask
        for state in _rounds(key):
            left, right = right, left ^ (_mix(state, right) & mask)
        index = left << half | right
        if index < size:
            return index


@lru_cache(maxsize=8)
def _rounds(key: int) -> tuple[int, ...]:
    """Return, for each round, the state of `hash_integers(key, round, right)` before it reads `right`."""
    return tuple(hash_integers(key, number) for number in range(4))
