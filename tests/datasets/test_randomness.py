"""Random numbers that are functions of integers."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from llmkit.datasets.randomness import draw_uniforms, permute


@given(size=st.integers(1, 3000), key=st.integers(0, 2**64 - 1))
@settings(max_examples=40, deadline=None)
def test_permute_is_a_bijection(size: int, key: int) -> None:
    assert sorted(permute(index, size, key) for index in range(size)) == list(range(size))


def test_permute_moves_most_indices_and_depends_on_the_key() -> None:
    first = [permute(index, 1000, 1) for index in range(1000)]
    second = [permute(index, 1000, 2) for index in range(1000)]
    assert sum(a == b for a, b in zip(first, range(1000), strict=True)) < 20
    assert sum(a == b for a, b in zip(first, second, strict=True)) < 20


def test_uniforms_equal_the_published_splitmix64() -> None:
    # The first outputs of Vigna's splitmix64.c for the seed 1234567.
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert draw_uniforms(1234567, 4).tolist() == [(value >> 11) * 2.0**-53 for value in published]


def test_uniforms_fill_the_unit_interval_evenly() -> None:
    drawn = np.concatenate([draw_uniforms(key, 1000) for key in range(100)])
    counts, _ = np.histogram(drawn, bins=20, range=(0, 1))
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert abs(counts / len(drawn) - 0.05).max() < 0.003


def test_a_longer_draw_begins_with_the_shorter_one() -> None:
    assert draw_uniforms(2**64 - 1, 300)[:7].tolist() == draw_uniforms(2**64 - 1, 7).tolist()
