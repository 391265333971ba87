"""A hash table from keys of 16 bytes to numbers, all of whose look-ups are numpy's.

Open addressing with linear probing. Keys are compared in full, so what is found is exact. It does not grow: the caller
makes a new one before this one is full.
"""

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]

_MIX_LOW, _MIX_HIGH = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)


class KeyTable:
    """Keys are pairs (low, high) of 64 bits, of which low is never 0; numbers lie between 0 and `n_numbers`.

    Keys stand in the order of their numbers, apart from the slots that are hashed to: frequent keys, which come first,
    then lie close together, which is twice as fast as keys in the slots.
    """

    def __init__(self, n_bits: int, n_numbers: int) -> None:
        self._shift = np.uint64(64 - n_bits)
        self._last = (1 << n_bits) - 1
        self._slots = np.zeros(1 << n_bits, np.int32)
        self._lows = np.zeros(n_numbers, np.uint64)
        self._highs = np.zeros(n_numbers, np.uint64)

    def find(self, lows: Keys, highs: Keys) -> NDArray[np.int64]:
        """The number of each key; 0 where it is not in the table."""
        slots = self._first_slots(lows, highs)
        numbers = self._slots.take(slots).astype(np.int64)
        rest = np.flatnonzero((self._lows.take(numbers) != lows) | (self._highs.take(numbers) != highs))
        rest = rest[numbers[rest] > 0]  # the key would stand in the first empty slot
        while len(rest):
            slots[rest] = (slots[rest] + 1) & self._last
            numbers[rest] = found = self._slots[slots[rest]]
            rest = rest[((self._lows[found] != lows[rest]) | (self._highs[found] != highs[rest])) & (found > 0)]
        return numbers

    def add(self, lows: Keys, highs: Keys, numbers: NDArray[np.int64]) -> None:
        """Put different keys in, none of which is in the table."""
        self._lows[numbers], self._highs[numbers] = lows, highs
        slots = self._first_slots(lows, highs)
        rest = np.arange(len(lows))
        while len(rest):
            free = rest[self._slots[slots[rest]] == 0]
            self._slots[slots[free]] = numbers[free]  # of several that want one slot, one gets it
            rest = rest[self._slots[slots[rest]] != numbers[rest]]
            slots[rest] = (slots[rest] + 1) & self._last

    def _first_slots(self, lows: Keys, highs: Keys) -> NDArray[np.int64]:
        return (((highs * _MIX_HIGH) ^ lows) * _MIX_LOW >> self._shift).astype(np.int64)
