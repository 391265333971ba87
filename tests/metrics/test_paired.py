"""Paired tests find differences that are there, and no others."""

import numpy as np
import pytest
from scipy.stats import binomtest

from llmkit.metrics.bootstrap import Bootstrap
from llmkit.metrics.paired import compare_correctness, compare_paired, correct_p_values, mcnemar_p_value


def _accuracy(labels: np.ndarray, predictions: np.ndarray) -> float:
    return float((labels == predictions).mean())


@pytest.mark.parametrize(("first", "second"), [(12, 3), (3, 12), (7, 7), (0, 0), (1, 0), (40, 61)])
def test_p_value_of_mcnemar_is_that_of_the_binomial_test(first: int, second: int) -> None:
    expected = binomtest(first, first + second, 0.5).pvalue if first + second else 1.0
    assert mcnemar_p_value(first, second) == pytest.approx(expected)


def test_interval_and_p_value_of_a_difference_agree_with_those_of_correct_rows() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 500)
    good = np.where(rng.random(500) < 0.9, labels, (labels + 1) % 3)
    bad = np.where(rng.random(500) < 0.8, labels, (labels + 1) % 3)
    exact = compare_correctness(good == labels, bad == labels)
    sampled = compare_paired(labels, good, bad, _accuracy)
    assert (
        exact.difference
        == pytest.approx(sampled.difference)
        == pytest.approx(_accuracy(labels, good) - _accuracy(labels, bad))
    )
    assert exact.interval is not None and sampled.interval is not None
    assert exact.interval == pytest.approx(sampled.interval, abs=0.01)
    assert exact.p_value < 0.01 and sampled.p_value < 0.01
    assert exact.interval[0] > 0


def test_equal_models_have_no_interval_and_p_1() -> None:
    labels = np.arange(50) % 2
    for found in (compare_paired(labels, labels, labels, _accuracy), compare_correctness(labels == 0, labels == 0)):
        assert (found.difference, found.interval, found.p_value, found.n_rows) == (0.0, None, 1.0, 50)


def test_models_of_equal_quality_are_rarely_called_different() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 100)
    small = Bootstrap(n_resamples=200)
    noisy = [[np.where(rng.random(100) < 0.7, labels, 1 - labels) for _ in range(2)] for _ in range(60)]
    p_values = [compare_paired(labels, one, other, _accuracy, small).p_value for one, other in noisy]
    assert np.mean(np.array(p_values) < 0.05) <= 0.12


def test_p_values_are_corrected_as_by_holm_and_keep_their_order() -> None:
    assert correct_p_values([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert correct_p_values([0.5]) == [0.5] and correct_p_values([]) == []
    assert correct_p_values([0.6, 0.9]) == pytest.approx([1.0, 1.0])
