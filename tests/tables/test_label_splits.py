"""Held-out rows: copies stay together, shares hold in each label, and the order of rows means nothing."""

import time

import numpy as np
import pytest
from numpy.typing import NDArray

from llmkit.core.errors import DataError
from llmkit.tables.label_splits import (
    TEST,
    TRAIN,
    VALIDATION,
    assign_folds,
    hash_row,
    rarest_label_strata,
    sample_rows,
    split_rows,
)


def make_rows(n_rows: int, n_strata: int = 3) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    keys = np.array([hash_row(f"text {n}") for n in range(n_rows)], np.uint64)
    return keys, np.arange(n_rows, dtype=np.int64) % n_strata


def test_a_hash_is_the_same_on_each_machine_and_folds_white_space_and_case() -> None:
    assert hash_row("Some text") == hash_row("some\n  TEXT ") == 10179883545313147054
    assert (
        len({hash_row("ab", "c"), hash_row("a", "bc"), hash_row("abc"), hash_row("abc", ""), hash_row("c", "ab")}) == 5
    )
    assert hash_row("lone \ud800 surrogate") != hash_row("lone surrogate")


def test_each_stratum_gives_its_shares() -> None:
    keys, strata = make_rows(300)
    sides = split_rows(keys, strata, validation=0.1, test=0.2, seed=0)
    for stratum in range(3):
        assert np.bincount(sides[strata == stratum]).tolist() == [70, 10, 20]


@pytest.mark.parametrize(
    ("n_keys", "validation", "test", "expected"),
    [
        (1, 0.6, 0.0, (1, 0, 0)),
        (2, 0.1, 0.1, (2, 0, 0)),
        (2, 0.0, 0.9, (1, 0, 1)),
        (3, 0.01, 0.01, (1, 1, 1)),
        (3, 0.05, 0.9, (1, 1, 1)),
        (5, 0.1, 0.0, (4, 1, 0)),
        (25, 0.1, 0.0, (22, 3, 0)),
        (40, 0.0, 0.0, (40, 0, 0)),
    ],
)
def test_small_strata_hold_out_one_and_keep_one(
    n_keys: int, validation: float, test: float, expected: tuple[int, int, int]
) -> None:
    keys, strata = make_rows(n_keys, n_strata=1)
    sides = split_rows(keys, strata, validation=validation, test=test, seed=0)
    assert tuple(int((sides == side).sum()) for side in (TRAIN, VALIDATION, TEST)) == expected


def test_the_order_of_rows_changes_no_side_and_no_fold_and_the_seed_does() -> None:
    keys, strata = make_rows(200)
    order = np.random.default_rng(1).permutation(200)
    sides = split_rows(keys, strata, validation=0.2, test=0.2, seed=0)
    assert (split_rows(keys[order], strata[order], validation=0.2, test=0.2, seed=0) == sides[order]).all()
    assert (split_rows(keys, strata, validation=0.2, test=0.2, seed=1) != sides).any()
    folds = assign_folds(keys, strata, 5, 0)
    assert (assign_folds(keys[order], strata[order], 5, 0) == folds[order]).all()
    assert (assign_folds(keys, strata, 5, 1) != folds).any()


def test_copies_never_part_even_where_their_labels_differ() -> None:
    keys, strata = make_rows(100)
    keys, strata = np.concatenate([keys, keys]), np.concatenate([strata, (strata + 1) % 3])
    sides = split_rows(keys, strata, validation=0.3, test=0.2, seed=0)
    assert (sides[:100] == sides[100:]).all()
    folds = assign_folds(keys, strata, 4, 0)
    assert (folds[:100] == folds[100:]).all()


def test_a_key_of_two_strata_counts_in_the_smaller_one() -> None:
    keys = np.array([1, 2, 3, 1, 4, 5], np.uint64)
    strata = np.array([0, 0, 0, 1, 1, 1])
    sides = split_rows(keys, strata, validation=0.4, test=0.0, seed=0)
    assert (sides[:3] == VALIDATION).sum() == 1
    assert (sides[4:] == VALIDATION).sum() == 1  # two keys of its own: round(0.8), with one in train


def test_folds_are_of_one_size_in_each_stratum_and_as_a_whole() -> None:
    keys, strata = make_rows(103, n_strata=20)
    folds = assign_folds(keys, strata, 5, 0)
    assert np.ptp(np.bincount(folds, minlength=5)) <= 1
    assert all(np.ptp(np.bincount(folds[strata == stratum], minlength=5)) <= 1 for stratum in range(20))
    with pytest.raises(DataError, match="2 different rows cannot be split into 3 folds"):
        assign_folds(np.array([1, 1, 2], np.uint64), np.zeros(3, np.int64), 3, 0)


def test_a_row_of_several_labels_belongs_to_the_rarest() -> None:
    counts = {"common": 9, "rare": 1, "middle": 4}
    sets = [("common", "rare"), ("common", "middle"), ("common",), ()]
    assert rarest_label_strata(sets, counts).tolist() == [1, 2, 3, 0]


def test_a_million_rows_are_split_in_seconds() -> None:
    generator = np.random.default_rng(0)
    keys = generator.integers(0, 2**63, 1_000_000).astype(np.uint64)
    strata = generator.integers(0, 100, 1_000_000)
    started = time.process_time()
    sides = split_rows(keys, strata, validation=0.1, test=0.1, seed=0)
    assert time.process_time() - started < 10, "far beyond the second it takes"
    assert abs((sides == TEST).mean() - 0.1) < 0.001


def test_a_sample_is_stratified_and_a_smaller_one_is_part_of_it() -> None:
    keys = np.array([hash_row(f"text {n}") for n in range(1000)], np.uint64)
    strata = np.repeat([5, 2, 9], [700, 290, 10])
    samples = {n_rows: sample_rows(keys, strata, n_rows, seed=1) for n_rows in (1, 2, 3, 10, 100, 500, 1000, 2000)}
    assert {n_rows: len(rows) for n_rows, rows in samples.items()} == {n: min(n, 1000) for n in samples}
    for smaller, larger in zip(samples.values(), list(samples.values())[1:], strict=False):
        assert (np.diff(larger) > 0).all() and set(smaller) <= set(larger)
    assert [np.bincount(strata[samples[n]], minlength=10)[[5, 2, 9]].tolist() for n in (1, 2, 3, 10, 100)] == [
        [1, 0, 0], [1, 1, 0], [1, 1, 1], [6, 3, 1], [70, 29, 1]
    ]  # fmt: skip


def test_a_sample_depends_on_the_seed_and_not_on_the_order_of_rows() -> None:
    keys, strata = make_rows(200)
    rows = sample_rows(keys, strata, 50, seed=0)
    order = np.random.default_rng(1).permutation(200)
    assert set(order[sample_rows(keys[order], strata[order], 50, seed=0)]) == set(rows)
    assert set(sample_rows(keys, strata, 50, seed=1)) != set(rows)
