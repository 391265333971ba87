"""Counts of entities and words per held-out row, saved in the folder of a run, so that `compare` can test two runs.

For each row, the file has the hash of its text, the numbers of its correct, predicted and true entities, and the
numbers of its correctly tagged words and of all its words; see tasks/saved_arrays.py. Does not import torch.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmkit.metrics.paired import Measure, PairedTest, compare_paired
from llmkit.tasks.saved_arrays import Arrays, load_arrays, save_arrays, shrink

HITS, PREDICTED, RIGHT_WORDS = 0, 1, 2
TRUE, WORDS = 0, 1


class SavedCounts(NamedTuple):
    """Counts of one split; the arrays have one entry per row, in the order of `keys`."""

    keys: NDArray[np.uint64]
    """Hash of the row's text, see `hash_row`."""
    truth: NDArray[Any]
    """(rows, 2): true entities, words."""
    counts: NDArray[Any]
    """(rows, 3): correct entities, predicted entities, words with the correct tag."""


def save_counts(run: Path, split: str, saved: SavedCounts) -> None:
    """Write the counts of a split to a run folder, atomically."""
    arrays = {"keys": saved.keys, "truth": shrink(saved.truth), "counts": shrink(saved.counts)}
    save_arrays(run, split, arrays, {"content": "entities"})


def load_counts(run: Path, split: str) -> SavedCounts | None:
    """Return the counts of a split, rows sorted by key; None if the run has none.

    Raises:
        ModelError: the file is damaged.
    """
    return load_arrays(run, split, _parse)


def _parse(arrays: Arrays, facts: Mapping[str, str]) -> SavedCounts:
    found = SavedCounts(*(arrays[name] for name in SavedCounts._fields))
    n_rows = len(found.keys)
    if found.keys.dtype != np.uint64 or found.truth.shape != (n_rows, 2) or found.counts.shape != (n_rows, 3):
        raise ValueError("arrays of the wrong size")
    truth, counts = found.truth.astype(np.int64), found.counts.astype(np.int64)
    hits, right = counts[:, HITS], counts[:, RIGHT_WORDS]
    limits = np.minimum(truth[:, TRUE], counts[:, PREDICTED])
    if not n_rows or (counts < 0).any() or (hits > limits).any() or (right > truth[:, WORDS]).any():
        raise ValueError("counts out of range")
    order = np.lexsort((truth[:, WORDS], truth[:, TRUE], found.keys))
    return SavedCounts(found.keys[order], truth[order], counts[order])


def compare_counts(first: SavedCounts, second: SavedCounts, metric: str) -> PairedTest | None:
    """Test the difference of a metric between two runs; None if the rows are not the same, or if the metric cannot be
    computed from the counts.
    """
    if not np.array_equal(first.keys, second.keys) or not np.array_equal(first.truth, second.truth):
        return None
    measure = _MEASURES.get(metric)
    return None if measure is None else compare_paired(first.truth, first.counts, second.counts, measure)


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else 0.0


def _f1(truth: NDArray[Any], counts: NDArray[Any]) -> float:
    return _ratio(2 * counts[:, HITS].sum(), truth[:, TRUE].sum() + counts[:, PREDICTED].sum())


_MEASURES: dict[str, Measure] = {
    "entity_f1": _f1,
    "entity_precision": lambda truth, counts: _ratio(counts[:, HITS].sum(), counts[:, PREDICTED].sum()),
    "entity_recall": lambda truth, counts: _ratio(counts[:, HITS].sum(), truth[:, TRUE].sum()),
    "token_accuracy": lambda truth, counts: _ratio(counts[:, RIGHT_WORDS].sum(), truth[:, WORDS].sum()),
}
