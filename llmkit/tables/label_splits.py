"""Split rows into train, validation and test, or into folds, stratified by label.

A hash of seed and text orders the rows of each label. Equal rows are always in the same split; the split does not
depend on the order of the rows or on the machine. The stratum of a row is its label, or its rarest label if it has
several.

Near duplicates, and pairs that share only one text, may be in different splits.
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
    """Return a 64-bit hash of a row's texts that ignores white space and case; the same on every machine."""
    folded = fold(text)
    digest = hashlib.blake2b(folded, digest_size=8)
    if pair is not None:
        digest.update(fold(pair) + b" %d" % len(folded))  # the length: ("ab", "c") is not ("a", "bc")
    return int.from_bytes(digest.digest(), "little")


def split_rows(
    keys: NDArray[np.uint64], strata: NDArray[np.int64], *, validation: float, test: float, seed: int
) -> NDArray[np.int8]:
    """Return the split of each row: TRAIN, VALIDATION or TEST.

    `keys` are the hashes of the rows (`hash_row`). `validation` and `test` are fractions of the different keys of each
    stratum, rounded to the nearest number. A stratum of three or more keys gives at least one to each split with a
    positive fraction and keeps at least one in train; smaller strata may give none.
    """
    rows = _Ranking(keys, strata, seed)
    spare = rows.sizes - 1
    reserved = (rows.sizes >= _MIN_TO_HOLD_OUT) & (validation > 0)
    n_test = np.minimum(_share(rows.sizes, test), spare - reserved)
    n_validation = np.minimum(_share(rows.sizes, validation), spare - n_test)
    splits = np.full(len(rows.ranks), TRAIN, np.int8)
    splits[rows.ranks < (n_test + n_validation)[rows.strata]] = VALIDATION
    splits[rows.ranks < n_test[rows.strata]] = TEST
    return splits[rows.inverse]


def assign_folds(keys: NDArray[np.uint64], strata: NDArray[np.int64], n_folds: int, seed: int) -> NDArray[np.int32]:
    """Return the fold of each row, starting at 0; the different keys of each stratum are assigned round robin.

    Raises:
        DataError: there are fewer different rows than folds.
    """
    rows = _Ranking(keys, strata, seed)
    n_keys = len(rows.ranks)
    if n_keys < n_folds:
        what = f"{n_keys:,} different rows cannot be split into {n_folds} folds"
        raise DataError(what, where="the training rows", hint="ask for fewer folds, or give more rows")
    # Round robin continues from stratum to stratum, or small strata would all be in the first folds.
    starts = np.cumsum(rows.sizes) - rows.sizes
    return ((starts[rows.strata] + rows.ranks) % n_folds).astype(np.int32)[rows.inverse]


def sample_rows(keys: NDArray[np.uint64], strata: NDArray[np.int64], n_rows: int, seed: int) -> NDArray[np.int64]:
    """Return the ascending indices of a stratified sample of `n_rows` rows, or of all rows if there are fewer.

    The sample has at least one row of each stratum, or one row of each of the largest strata if there are more strata
    than `n_rows`. With the same seed, a smaller sample is a subset of a larger one. The order of the rows matters only
    among copies of a text.
    """
    strata, sizes = np.unique(strata, return_inverse=True, return_counts=True)[1:]
    mixed = _mix(keys, seed)
    order = np.lexsort((np.arange(len(keys)), keys, mixed, strata))
    ranks = np.empty(len(keys), np.int64)
    ranks[order] = np.arange(len(keys)) - (np.cumsum(sizes) - sizes)[strata[order]]
    # The first row of each stratum, largest stratum first; then all strata in proportion to their sizes.
    priority = np.where(ranks == 0, -sizes[strata].astype(np.float64), (ranks + 0.5) / sizes[strata])
    kept: NDArray[np.int64] = np.lexsort((keys, mixed, priority))[:n_rows]
    return np.sort(kept)


def rarest_label_strata(label_sets: Iterable[tuple[str, ...]], counts: Mapping[str, int]) -> NDArray[np.int64]:
    """Return the stratum of each row: its rarest label, or 0 for a row without labels."""
    order = sorted(counts, key=lambda label: (counts[label], label))
    numbers = {label: number for number, label in enumerate(order, start=1)}
    return np.fromiter((min(map(numbers.__getitem__, labels), default=0) for labels in label_sets), np.int64)


class _Ranking:
    """The different keys, their strata, and their ranks in the stratum; a hash of seed and key defines the ranks.

    A key that occurs in several strata is in the one with the smallest number.
    """

    def __init__(self, keys: NDArray[np.uint64], strata: NDArray[np.int64], seed: int) -> None:
        unique, inverse = np.unique(keys, return_inverse=True)
        self.inverse: NDArray[np.int64] = inverse
        """The index of each row's key."""
        smallest = np.full(len(unique), np.iinfo(np.int64).max, np.int64)
        np.minimum.at(smallest, inverse, strata)
        _, self.strata, self.sizes = np.unique(smallest, return_inverse=True, return_counts=True)
        order = np.lexsort((unique, _mix(unique, seed), self.strata))
        starts = np.cumsum(self.sizes) - self.sizes
        self.ranks: NDArray[np.int64] = np.empty(len(unique), np.int64)
        self.ranks[order] = np.arange(len(unique)) - starts[self.strata[order]]


def _mix(keys: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """Hash seed and key: the finalizer of SplitMix64 (Steele et al. 2014) applied to the key XOR the hashed seed."""
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
