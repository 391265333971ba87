"""Hold out rows of each label by a hash of their text, or cut them into folds.

Copies of a row never part, and neither the order of the rows nor the machine changes a side. A stratum is what
should be held out in equal shares: a label, or the rarest label of a row that has several.

Does not see near copies, nor rows that share one of two texts.
"""

import hashlib
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from llmkit.core.errors import DataError
from llmkit.text.dedup import fold

TRAIN, VALIDATION, TEST = 0, 1, 2
_MIN_TO_HOLD_OUT = 3


def hash_row(text: str, pair: str | None = None) -> int:
    """64 bits of a row's texts, the same on each machine; white space and case make no difference."""
    folded = fold(text)
    digest = hashlib.blake2b(folded, digest_size=8)
    if pair is not None:
        digest.update(fold(pair) + b" %d" % len(folded))  # the length: ("ab", "c") is not ("a", "bc")
    return int.from_bytes(digest.digest(), "little")


def split_rows(
    keys: NDArray[np.uint64], strata: NDArray[np.int64], *, validation: float, test: float, seed: int
) -> NDArray[np.int8]:
    """The side of each row: TRAIN, VALIDATION or TEST.

    Of each stratum's different keys the shares are held out, rounded to the nearest; of three and more at least
    one for each share above 0; one stays in train. Strata of one or two keys may give none.
    """
    rows = _Ranked(keys, strata, seed)
    spare = rows.sizes - 1
    reserved = (rows.sizes >= _MIN_TO_HOLD_OUT) & (validation > 0)
    n_test = np.minimum(_share(rows.sizes, test), spare - reserved)
    n_validation = np.minimum(_share(rows.sizes, validation), spare - n_test)
    sides = np.full(len(rows.ranks), TRAIN, np.int8)
    sides[rows.ranks < (n_test + n_validation)[rows.strata]] = VALIDATION
    sides[rows.ranks < n_test[rows.strata]] = TEST
    return sides[rows.inverse]


def assign_folds(keys: NDArray[np.uint64], strata: NDArray[np.int64], n_folds: int, seed: int) -> NDArray[np.int32]:
    """A fold from 0 for each row; each stratum's different keys are dealt out one by one, so folds differ by one.

    Raises:
        DataError: there are fewer different rows than folds.
    """
    rows = _Ranked(keys, strata, seed)
    n_keys = len(rows.ranks)
    if n_keys < n_folds:
        what = f"{n_keys:,} different rows cannot be cut into {n_folds} folds"
        raise DataError(what, where="the training rows", hint="ask for fewer folds, or give more rows")
    # The dealing goes on from stratum to stratum: else small strata would all land in the first folds.
    starts = np.cumsum(rows.sizes) - rows.sizes
    return ((starts[rows.strata] + rows.ranks) % n_folds).astype(np.int32)[rows.inverse]


def rarest_label_strata(label_sets: Iterable[tuple[str, ...]], counts: Mapping[str, int]) -> NDArray[np.int64]:
    """A stratum for each row: that of its label with the lowest count, 0 for a row without labels."""
    order = sorted(counts, key=lambda label: (counts[label], label))
    numbers = {label: number for number, label in enumerate(order, start=1)}
    return np.fromiter((min(map(numbers.__getitem__, labels), default=0) for labels in label_sets), np.int64)


class _Ranked:
    """The different keys, each with its stratum and its rank in there by a hash of seed and key."""

    def __init__(self, keys: NDArray[np.uint64], strata: NDArray[np.int64], seed: int) -> None:
        unique, inverse = np.unique(keys, return_inverse=True)
        self.inverse: NDArray[np.int64] = inverse
        """Which of the different keys each row has."""
        smallest = np.full(len(unique), np.iinfo(np.int64).max, np.int64)
        np.minimum.at(smallest, inverse, strata)
        _, self.strata, self.sizes = np.unique(smallest, return_inverse=True, return_counts=True)
        order = np.lexsort((unique, _mix(unique, seed), self.strata))
        starts = np.cumsum(self.sizes) - self.sizes
        self.ranks: NDArray[np.int64] = np.empty(len(unique), np.int64)
        self.ranks[order] = np.arange(len(unique)) - starts[self.strata[order]]


def _mix(keys: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """Hash of seed and key: the finalizer of SplitMix64 (Steele et al. 2014), over the key and a hashed seed."""
    digest = hashlib.blake2b(str(seed).encode(), digest_size=8).digest()
    mixed = keys ^ np.uint64(int.from_bytes(digest, "little"))
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    result: NDArray[np.uint64] = mixed ^ (mixed >> np.uint64(31))
    return result


def _share(sizes: NDArray[np.int64], share: float) -> NDArray[np.int64]:
    nearest = np.floor(sizes * share + 0.5).astype(np.int64)
    shares: NDArray[np.int64] = np.maximum(nearest, (sizes >= _MIN_TO_HOLD_OUT) & (share > 0))
    return shares
