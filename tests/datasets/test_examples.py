"""The order of labelled rows: each once an epoch, alike in length within a step, and decided by the seed alone."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from llmkit.datasets.examples import MAX_STEPS_PER_CHUNK, MIN_CHUNKS_PER_EPOCH, Examples
from llmkit.datasets.labelled import Input, Inputs


def make_inputs(lengths: NDArray[np.int64]) -> Inputs:
    """One input for each row; its tokens are all the row's own number."""
    rows = np.arange(len(lengths))
    ids = np.repeat(rows, lengths).astype(np.uint32)
    return Inputs(ids, np.cumsum(lengths), lengths.astype(np.int32), rows + 1, None, 0)


def make_examples(n_rows: int, global_batch_size: int, seed: int = 0, **more: object) -> Examples:
    lengths = np.random.default_rng(n_rows).integers(1, 200, n_rows)
    return Examples(
        make_inputs(lengths), np.arange(n_rows) * 10, seed=seed, global_batch_size=global_batch_size, block_size=200,
        **more,
    )  # fmt: skip


@settings(deadline=None, max_examples=80)
@given(n_rows=st.integers(1, 400), global_batch_size=st.integers(1, 64), seed=st.integers(0, 2**32 - 1))
def test_every_row_comes_once_an_epoch_whatever_the_batch(n_rows: int, global_batch_size: int, seed: int) -> None:
    examples = make_examples(n_rows, global_batch_size, seed)
    for epoch in range(3):
        rows = [examples.row(sample) for sample in range(epoch * n_rows, (epoch + 1) * n_rows)]
        assert sorted(rows) == list(range(n_rows))


@pytest.mark.parametrize(("n_rows", "global_batch_size"), [(1000, 32), (20_000, 32), (300, 7), (64, 16)])
def test_no_row_comes_twice_in_a_step_that_lies_in_one_epoch(n_rows: int, global_batch_size: int) -> None:
    examples = make_examples(n_rows, global_batch_size)
    for step in range(2 * n_rows // global_batch_size):
        first = step * global_batch_size
        if first // n_rows == (first + global_batch_size - 1) // n_rows:
            assert len({examples.row(first + place) for place in range(global_batch_size)}) == global_batch_size


@pytest.mark.parametrize(("n_rows", "global_batch_size", "most"), [(20_000, 32, 0.1), (1000, 32, 0.4), (300, 7, 0.4)])
def test_steps_are_alike_in_length(n_rows: int, global_batch_size: int, most: float) -> None:
    """The share of padding, against that in a random order."""
    examples = make_examples(n_rows, global_batch_size)
    lengths = examples.inputs.lengths

    def padding_share(rows: NDArray[np.int64]) -> float:
        steps = lengths[rows[: len(rows) // global_batch_size * global_batch_size]].reshape(-1, global_batch_size)
        return 1 - steps.sum() / (steps.max(1) * global_batch_size).sum()

    rows = np.array([examples.row(sample) for sample in range(n_rows)])
    assert padding_share(rows) < most * padding_share(np.random.default_rng(0).permutation(n_rows))


@pytest.mark.parametrize(("n_rows", "global_batch_size"), [(1000, 32), (300, 7), (97, 5)])
def test_steps_of_one_chunk_and_epoch_share_no_lengths(n_rows: int, global_batch_size: int) -> None:
    examples = make_examples(n_rows, global_batch_size)
    chunk = global_batch_size * min(MAX_STEPS_PER_CHUNK, n_rows // (MIN_CHUNKS_PER_EPOCH * global_batch_size))
    spans: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for first in range(0, 3 * n_rows, global_batch_size):
        last = first + global_batch_size - 1
        lengths = [int(examples.inputs.lengths[examples.row(sample)]) for sample in range(first, last + 1)]
        if first // n_rows == last // n_rows:
            spans.setdefault((first // chunk, first // n_rows), []).append((min(lengths), max(lengths)))
    assert max(map(len, spans.values())) == chunk // global_batch_size
    for here in map(sorted, spans.values()):
        assert all(before[1] <= after[0] for before, after in pairwise(here))


def test_steps_do_not_get_longer_over_an_epoch() -> None:
    examples = make_examples(4000, 16)
    means = [examples.inputs.lengths[[examples.row(16 * step + k) for k in range(16)]].mean() for step in range(250)]
    assert abs(np.corrcoef(means, np.arange(250))[0, 1]) < 0.2
    assert np.std(means) > 30  # steps differ as rows do


def test_order_depends_on_the_seed_and_the_place_alone() -> None:
    samples = list(range(700))
    straight = make_examples(200, 16)
    expected = [straight.row(sample) for sample in samples]
    jumping = make_examples(200, 16)
    shuffled = np.random.default_rng(0).permutation(samples).tolist()
    found = {sample: jumping.row(sample) for sample in shuffled}
    assert [found[sample] for sample in samples] == expected
    other = make_examples(200, 16, seed=1)
    assert [other.row(sample) for sample in samples] != expected
    assert expected[:200] != expected[200:400]


def test_example_has_the_inputs_and_the_label_of_its_row() -> None:
    examples = make_examples(50, 8)
    assert examples.samples_per_epoch == 50
    for sample in range(70):
        row, example = examples.row(sample), examples[sample]
        assert example.label == 10 * row
        assert example.inputs[0].ids.tolist() == [row] * examples.inputs.lengths[row]


def test_change_is_drawn_anew_each_epoch_and_for_each_window() -> None:
    keys: list[int] = []

    def remember(source: Input, key: int) -> Input:
        keys.append(key)
        return source

    windows = Inputs(np.zeros(8, np.uint8), np.arange(2, 9, 2), np.full(4, 2, np.int32), np.array([2, 4]), None, 0)
    examples = Examples(windows, np.zeros(2), seed=3, global_batch_size=2, block_size=2, change=remember)
    for sample in range(6):
        examples[sample]
    assert len(keys) == len(set(keys)) == 12
    examples[5]
    assert keys[-2:] == keys[-4:-2]
