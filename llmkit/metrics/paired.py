"""Paired tests of the difference in a metric between two models on the same rows.

The interval of the difference is a paired bootstrap: each resample contains the same rows for both models. For accuracy
the p-value comes from McNemar's exact test (1947), which uses only the rows that exactly one model predicts correctly.
For other metrics it comes from an approximate randomization test (Noreen 1989; Yeh 2000): the predictions of the two
models are swapped in each row with probability 0.5, many times, and the differences are compared with the observed one.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmkit.metrics.bootstrap import DEFAULT_BOOTSTRAP, Bootstrap

Measure = Callable[[NDArray[Any], NDArray[Any]], float]
"""Computes a metric from labels and predictions, both with one entry per row."""


class PairedTest(NamedTuple):
    """The difference of a metric between two models on the same rows."""

    difference: float
    """First model minus second model."""
    interval: list[float] | None
    """95 % interval of the difference; None if all resamples have the same difference."""
    p_value: float
    """Two-sided; not corrected for multiple tests."""
    method: str
    n_rows: int


def compare_paired(
    labels: NDArray[Any], first: NDArray[Any], second: NDArray[Any], measure: Measure,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
) -> PairedTest:  # fmt: skip
    """Test the difference in `measure` between two models; all arrays have one entry per row.

    Large data gets fewer resamples (at least 200), so that a test takes seconds.
    """
    n_rows, bootstrap = len(labels), bootstrap.bound(len(labels))
    difference = measure(labels, first) - measure(labels, second)
    rng = np.random.default_rng(bootstrap.seed)
    samples = (rng.integers(n_rows, size=n_rows) for _ in range(bootstrap.n_resamples))
    drawn = np.array([measure(labels[rows], first[rows]) - measure(labels[rows], second[rows]) for rows in samples])
    interval = bootstrap.intervals([{"difference": drawn}]).get("difference")
    swapped = list(_swap(labels, first, second, measure, bootstrap.n_resamples, rng))
    tolerance = 1e-12 * max(1.0, abs(difference))
    n_extreme = int((np.abs(swapped) >= abs(difference) - tolerance).sum())
    p_value = (1 + n_extreme) / (1 + len(swapped))
    return PairedTest(difference, interval, p_value, "randomization test", n_rows)


def compare_correctness(
    first: NDArray[np.bool_], second: NDArray[np.bool_], bootstrap: Bootstrap = DEFAULT_BOOTSTRAP
) -> PairedTest:
    """Test the difference between two accuracies; the arrays (rows,) are true where a model's prediction is correct."""
    rng, bootstrap = np.random.default_rng(bootstrap.seed), bootstrap.bound(len(first))
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    n_rows, n_same = len(first), len(first) - only_first - only_second
    counts = rng.multinomial(n_rows, np.array([only_first, only_second, n_same]) / n_rows, bootstrap.n_resamples)
    interval = bootstrap.intervals([{"difference": (counts[:, 0] - counts[:, 1]) / n_rows}]).get("difference")
    p_value = mcnemar_p_value(only_first, only_second)
    return PairedTest((only_first - only_second) / n_rows, interval, p_value, "McNemar's exact test", n_rows)


def mcnemar_p_value(only_first: int, only_second: int) -> float:
    """Return the two-sided p-value of McNemar's exact test, given how many rows only the first or only the second model
    predicts correctly.
    """
    from scipy.special import bdtr  # the cumulative binomial distribution

    n_rows = only_first + only_second
    return 1.0 if n_rows == 0 else min(1.0, 2 * float(bdtr(min(only_first, only_second), n_rows, 0.5)))


def correct_p_values(p_values: list[float]) -> list[float]:
    """Return the p-values after Holm's correction for multiple tests (1979)."""
    order = sorted(range(len(p_values)), key=lambda number: p_values[number])
    corrected, largest = list(p_values), 0.0
    for rank, number in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[number]))
        corrected[number] = largest
    return corrected


def _swap(
    labels: NDArray[Any], first: NDArray[Any], second: NDArray[Any], measure: Measure, n_resamples: int,
    rng: np.random.Generator,
) -> Iterator[float]:  # fmt: skip
    """Yield `n_resamples` differences, each after swapping the models' predictions in random rows."""
    for _ in range(n_resamples):
        mask = rng.random(len(labels)) < 0.5
        is_swapped = mask if first.ndim == 1 else mask[:, None]
        one, other = np.where(is_swapped, second, first), np.where(is_swapped, first, second)
        yield measure(labels, one) - measure(labels, other)
