"""Saved counts give the same figures again, and two runs are tested on the same rows."""

from pathlib import Path

import numpy as np
import pytest

from llmkit.core.errors import ModelError
from llmkit.tasks.ner.saved_predictions import SavedCounts, compare_counts, load_counts, save_counts


def make(seed: int, n: int = 200, chance: float = 0.5) -> SavedCounts:
    rng = np.random.default_rng(seed)
    keys = np.arange(n, dtype=np.uint64)
    truth = np.stack([np.full(n, 2), np.full(n, 8)], 1)
    hits = rng.binomial(2, chance, n)
    return SavedCounts(keys, truth, np.stack([hits, np.full(n, 2), 6 + hits], 1))


def test_counts_come_back_sorted_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    saved = make(0, 5)
    assert load_counts(tmp_path, "test") is None
    save_counts(tmp_path, "test", SavedCounts(*(array[::-1] for array in saved)))
    found = load_counts(tmp_path, "test")
    assert found is not None and all(np.array_equal(a, b) for a, b in zip(found, saved, strict=True))
    save_counts(tmp_path, "test", saved._replace(counts=saved.counts + 9))
    with pytest.raises(ModelError, match="out of range"):
        load_counts(tmp_path, "test")


def test_difference_of_two_runs_is_that_of_their_figures() -> None:
    better, worse = make(0, chance=0.9), make(1, chance=0.5)
    test = compare_counts(better, worse, "entity_f1")
    assert test is not None and test.p_value < 0.01
    f1 = [2 * each.counts[:, 0].sum() / 800 for each in (better, worse)]
    assert test.difference == pytest.approx(f1[0] - f1[1])
    assert compare_counts(better, better, "entity_f1").p_value == 1  # type: ignore[union-attr]
    assert compare_counts(better, worse, "entity_f1_macro") is None
    assert compare_counts(better, make(1, 199), "entity_f1") is None, "other rows"
