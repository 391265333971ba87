"""Score predicted numbers against true ones.

Correlations are None where one side is constant or has a single row: there is nothing to correlate.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmkit.metrics.bootstrap import bound_resamples, draw_rows, intervals_of
from llmkit.metrics.probabilities import check_outputs

Numbers = NDArray[np.float64]
_INTERVALS = ("mse", "mae", "pearson", "spearman")


def score_regression(
    targets: NDArray[Any],
    predictions: NDArray[Any],
    *,
    n_resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> dict[str, Any]:
    """Errors and correlations of (n,) numbers, with bootstrap intervals; JSON-able, without NaN.

    `baseline_mse` is that of predicting the mean of these targets, the best constant. `r2` of constant targets is
    1 if all are met, else 0, as scikit-learn has it; of one row it is None. Ties have their mean rank in `spearman`.

    Raises:
        ModelError: a prediction is not finite.
    """
    check_outputs(predictions, len(targets))
    t, p = targets.astype(np.float64), predictions.astype(np.float64)
    errors = p - t
    rng = np.random.default_rng(seed)
    n_resamples = bound_resamples(n_resamples, len(t), 64)
    # Squares of huge numbers overflow; what then is not finite is given as None.
    with np.errstate(over="ignore", invalid="ignore"):
        mse, baseline = float(np.square(errors).mean()), float(np.square(t - t.mean()).mean())
        pearson, spearman = (float(values[0]) for values in _correlate(np.ones((1, len(t))), _prepare(t, p)))
        scores = {"mse": mse, "rmse": math.sqrt(mse), "mae": float(np.abs(errors).mean())}
        scores |= {"r2": _explain(t, mse, baseline), "pearson": pearson, "spearman": spearman}
        intervals = intervals_of(_resample(t, p, n_resamples, rng), confidence)
    shown: dict[str, Any] = {name: value if math.isfinite(value) else None for name, value in scores.items()}
    shown["baseline_mse"] = baseline if math.isfinite(baseline) else None
    shown["n_rows"] = len(t)
    shown["intervals"] = {name: bounds for name, bounds in intervals.items() if shown[name] is not None}
    shown["method"] = {"confidence": confidence, "n_resamples": n_resamples, "seed": seed}
    return shown


def _explain(targets: Numbers, mse: float, baseline: float) -> float:
    if len(targets) < 2:
        return math.nan
    # Not `baseline == 0`: the mean of equal numbers may differ from them by a rounding.
    if targets.min() == targets.max():
        return 1.0 if mse == 0 else 0.0
    return 1 - mse / baseline if baseline else math.nan


class _Side:
    """One side of the pairs: centred values, and what weighted ranks need."""

    def __init__(self, values: Numbers) -> None:
        self.values = values - values.mean() if values.min() < values.max() else np.zeros_like(values)
        self.order = np.argsort(values, kind="stable")
        _, self.starts, group = np.unique(values[self.order], return_index=True, return_inverse=True)
        self.group = np.empty(len(values), np.int64)
        self.group[self.order] = group

    def rank(self, weights: Numbers) -> Numbers:
        """Each row's mean rank (b, n), counted from 0, among the rows that the weights repeat."""
        sizes = np.add.reduceat(weights[:, self.order], self.starts, axis=1)
        ranks: Numbers = np.cumsum(sizes, axis=1) - (sizes + 1) / 2
        return ranks[:, self.group]


def _prepare(targets: Numbers, predictions: Numbers) -> tuple[_Side, _Side]:
    return _Side(targets), _Side(predictions)


def _correlate(weights: Numbers, sides: tuple[_Side, _Side]) -> tuple[Numbers, Numbers]:
    """Pearson's and Spearman's correlation (b,) of the rows as often as (b, n) weights say; NaN if undefined."""
    a, b = sides
    ranks = a.rank(weights), b.rank(weights)
    return _weigh(weights, a.values, b.values), _weigh(weights, *ranks)


def _weigh(weights: Numbers, a: Numbers, b: Numbers) -> Numbers:
    n = weights.sum(1, keepdims=True)
    a = a - (weights * a).sum(1, keepdims=True) / n
    b = b - (weights * b).sum(1, keepdims=True) / n
    sizes = np.sqrt((weights * a * a).sum(1)) * np.sqrt((weights * b * b).sum(1))
    # A constant side leaves rounding only.
    scale = np.sqrt(n[:, 0]) * np.abs(a).max(1, initial=0) * np.sqrt(n[:, 0]) * np.abs(b).max(1, initial=0)
    shared = (weights * a * b).sum(1)
    correlation = np.full(sizes.shape, np.nan)
    np.divide(shared, sizes, out=correlation, where=sizes > 1e-13 * scale)
    np.clip(correlation, -1.0, 1.0, out=correlation)
    return correlation


def _resample(targets: Numbers, predictions: Numbers, n_resamples: int, rng: np.random.Generator) -> dict[str, Numbers]:
    errors = predictions - targets
    squared, distance, sides = np.square(errors), np.abs(errors), _prepare(targets, predictions)
    parts: dict[str, list[Numbers]] = {name: [] for name in _INTERVALS}
    for weights in draw_rows(n_resamples, len(targets), rng):
        figures = (weights @ squared / len(errors), weights @ distance / len(errors), *_correlate(weights, sides))
        for values, figure in zip(parts.values(), figures, strict=True):
            values.append(figure)
    return {name: np.concatenate(values) for name, values in parts.items()}
