"""A hash table from 128-bit keys to numbers, for chunk_encoding.py."""

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]

_MIX_LOW, _MIX_HIGH = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)


class KeyTable:
    """A hash table from 128-bit keys to numbers, vectorized with numpy, with open addressing and linear probing.

    Keys are pairs (low, high) of 64 bits with low > 0; numbers are between 1 and `n_numbers` - 1. Keys are compared
    in full, so results are exact. The table does not grow. Keys are stored by number, not in the hash slots, so
    frequent keys, which are added first, are close together; this doubles the speed.
    """

    def __init__(self, n_bits: int, n_numbers: int) -> None:
        self._shift = np.uint64(64 - n_bits)
        self._last = (1 << n_bits) - 1
        self._slots = np.zeros(1 << n_bits, np.int32)
        self._lows = np.zeros(n_numbers, np.uint64)
        self._highs = np.zeros(n_numbers, np.uint64)

    def find(self, lows: Keys, highs: Keys) -> NDArray[np.int64]:
        """Return the number of each key; 0 if it is not in the table."""
        slots = self._first_slots(lows, highs)
        numbers = self._slots.take(slots).astype(np.int64)
        rest = np.flatnonzero((self._lows.take(numbers) != lows) | (self._highs.take(numbers) != highs))
        rest = rest[numbers[rest] > 0]  # an empty slot ends the search
        while len(rest):
            slots[rest] = (slots[rest] + 1) & self._last
            numbers[rest] = found = self._slots[slots[rest]]
            rest = rest[((self._lows[found] != lows[rest]) | (self._highs[found] != highs[rest])) & (found > 0)]
        return numbers

    def add(self, lows: Keys, highs: Keys, numbers: NDArray[np.int64]) -> None:
        """Add distinct keys that are not in the table."""
        self._lows[numbers], self._highs[numbers] = lows, highs
        slots = self._first_slots(lows, highs)
        rest = np.arange(len(lows))
        while len(rest):
            free = rest[self._slots[slots[rest]] == 0]
            self._slots[slots[free]] = numbers[free]  # if several keys have one slot, one of them is stored
            rest = rest[self._slots[slots[rest]] != numbers[rest]]
            slots[rest] = (slots[rest] + 1) & self._last

    def _first_slots(self, lows: Keys, highs: Keys) -> NDArray[np.int64]:
        return (((highs * _MIX_HIGH) ^ lows) * _MIX_LOW >> self._shift).astype(np.int64)
