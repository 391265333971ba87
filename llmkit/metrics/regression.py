"""Metrics of regression: errors and correlations of true and predicted numbers.

A correlation is None if the targets or the predictions are constant.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmkit.metrics.bootstrap import DEFAULT_BOOTSTRAP, Bootstrap, sample_row_counts
from llmkit.metrics.probabilities import check_outputs

Numbers = NDArray[np.float64]


def score_regression(
    targets: NDArray[Any],
    predictions: NDArray[Any],
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
) -> dict[str, Any]:
    """Return metrics of numbers (n,) with bootstrap intervals; JSON-compatible, without NaN.

    `baseline_mse` is the error of the best constant prediction, the mean of the targets. If the targets are constant,
    `r2` is 1 for exact predictions, else 0, as in scikit-learn. `r2` of a single row is None. `spearman` gives tied
    values their mean rank.

    Raises:
        ModelError: a prediction is not finite.
    """
    check_outputs(predictions, len(targets))
    t, p = targets.astype(np.float64), predictions.astype(np.float64)
    errors = p - t
    bootstrap = bootstrap.bound(len(t), 64)
    # Squares of huge numbers overflow; a metric that is not finite is None.
    with np.errstate(over="ignore", invalid="ignore"):
        mse, baseline = float(np.square(errors).mean()), float(np.square(t - t.mean()).mean())
        pearson, spearman = (float(values[0]) for values in _correlate(np.ones((1, len(t))), _Side(t), _Side(p)))
        scores = {"mse": mse, "rmse": math.sqrt(mse), "mae": float(np.abs(errors).mean())}
        scores |= {"r2": _explain(t, mse, baseline), "pearson": pearson, "spearman": spearman}
        intervals = bootstrap.intervals(_resample(t, p, bootstrap))
    shown: dict[str, Any] = {name: value if math.isfinite(value) else None for name, value in scores.items()}
    shown["baseline_mse"] = baseline if math.isfinite(baseline) else None
    shown["n_rows"] = len(t)
    shown["intervals"] = {name: bounds for name, bounds in intervals.items() if shown[name] is not None}
    shown["method"] = asdict(bootstrap)
    return shown


def _explain(targets: Numbers, mse: float, baseline: float) -> float:
    if len(targets) < 2:
        return math.nan
    # Not `baseline == 0`: the mean of equal numbers may differ from the numbers by a rounding error.
    if targets.min() == targets.max():
        return 1.0 if mse == 0 else 0.0
    return 1 - mse / baseline if baseline else math.nan


class _Side:
    """Targets or predictions: centred values, and the order and ties needed for weighted ranks."""

    def __init__(self, values: Numbers) -> None:
        self.values = values - values.mean() if values.min() < values.max() else np.zeros_like(values)
        self.order = np.argsort(values, kind="stable")
        _, self.starts, group = np.unique(values[self.order], return_index=True, return_inverse=True)
        self.group = np.empty(len(values), np.int64)
        self.group[self.order] = group

    def rank(self, weights: Numbers) -> Numbers:
        """Return the mean rank (b, n) of each row, starting at 0, with each row repeated `weights` (b, n) times."""
        sizes = np.add.reduceat(weights[:, self.order], self.starts, axis=1)
        ranks: Numbers = np.cumsum(sizes, axis=1) - (sizes + 1) / 2
        return ranks[:, self.group]


def _correlate(weights: Numbers, a: _Side, b: _Side) -> tuple[Numbers, Numbers]:
    """Return Pearson's and Spearman's correlation (b,) of rows with weights (b, n); NaN if undefined."""
    return _pearson(weights, a.values, b.values), _pearson(weights, a.rank(weights), b.rank(weights))


def _pearson(weights: Numbers, a: Numbers, b: Numbers) -> Numbers:
    n = weights.sum(1, keepdims=True)
    a = a - (weights * a).sum(1, keepdims=True) / n
    b = b - (weights * b).sum(1, keepdims=True) / n
    sizes = np.sqrt((weights * a * a).sum(1)) * np.sqrt((weights * b * b).sum(1))
    # The deviation of constant values is a rounding error instead of 0; such errors are about 1e-16 of `scale`.
    scale = np.sqrt(n[:, 0]) * np.abs(a).max(1, initial=0) * np.sqrt(n[:, 0]) * np.abs(b).max(1, initial=0)
    shared = (weights * a * b).sum(1)
    correlation = np.full(sizes.shape, np.nan)
    np.divide(shared, sizes, out=correlation, where=sizes > 1e-13 * scale)
    return np.clip(correlation, -1.0, 1.0)


def _resample(targets: Numbers, predictions: Numbers, bootstrap: Bootstrap) -> Iterator[dict[str, Numbers]]:
    """Yield the metrics of each chunk of resamples."""
    errors, sides = predictions - targets, (_Side(targets), _Side(predictions))
    squared, distance, n_rows = np.square(errors), np.abs(errors), len(errors)
    for weights in sample_row_counts(bootstrap.n_resamples, n_rows, np.random.default_rng(bootstrap.seed)):
        pearson, spearman = _correlate(weights, *sides)
        mse, mae = weights @ squared / n_rows, weights @ distance / n_rows
        yield {"mse": mse, "mae": mae, "pearson": pearson, "spearman": spearman}
