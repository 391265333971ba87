"""Regression metrics equal scikit-learn and SciPy."""

import json
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from llmkit.core.errors import ModelError
from llmkit.metrics.bootstrap import Bootstrap
from llmkit.metrics.regression import score_regression


def assert_plain(scores: dict[str, Any]) -> None:
    """As metrics.json has it: plain values, no NaN."""
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores


@pytest.mark.parametrize("ties", [False, True])
def test_regression_metrics_equal_scikit_learn_and_scipy(ties: bool) -> None:
    rng = np.random.default_rng(0)
    targets = rng.normal(size=90) * 3
    predictions = targets + rng.normal(size=90)
    targets, predictions = (np.round(a) if ties else a for a in (targets, predictions))
    scores = score_regression(targets, predictions, Bootstrap(n_resamples=20))
    expected = {
        "mse": metrics.mean_squared_error(targets, predictions),
        "rmse": metrics.root_mean_squared_error(targets, predictions),
        "mae": metrics.mean_absolute_error(targets, predictions),
        "r2": metrics.r2_score(targets, predictions),
        "pearson": stats.pearsonr(targets, predictions)[0],
        "spearman": stats.spearmanr(targets, predictions)[0],
        "baseline_mse": targets.var(),
    }
    assert {name: scores[name] for name in expected} == pytest.approx(expected)
    assert_plain(scores)


@pytest.mark.parametrize(
    ("targets", "predictions"),
    [
        ([2.0, 2, 2], [1.0, 2, 3]),
        ([0.1] * 3, [0.1] * 3),
        ([1.0, 2, 3], [0.1] * 3),
        ([1.0], [2.0]),
        ([1e200, 0], [0.0, 0]),
    ],
)
def test_undefined_correlations_are_none(targets: list[float], predictions: list[float]) -> None:
    scores = score_regression(np.array(targets), np.array(predictions), Bootstrap(n_resamples=50))
    assert scores["pearson"] is None and scores["spearman"] is None
    assert_plain(scores)
    if len(targets) > 1 and max(targets) < 1e100:
        assert scores["r2"] == pytest.approx(metrics.r2_score(targets, predictions))


@pytest.mark.parametrize("ties", [False, True])
def test_regression_intervals_equal_those_of_resampled_rows(ties: bool) -> None:
    rng = np.random.default_rng(0)
    targets = rng.normal(size=60)
    predictions = targets + rng.normal(size=60)
    targets, predictions = (np.round(a) if ties else a for a in (targets, predictions))
    scores = score_regression(targets, predictions, Bootstrap(n_resamples=3000))
    naive: dict[str, list[float]] = {"mse": [], "mae": [], "pearson": [], "spearman": []}
    for _ in range(1500):
        rows = rng.integers(60, size=60)
        t, g = targets[rows], predictions[rows]
        naive["mse"].append(np.square(t - g).mean())
        naive["mae"].append(np.abs(t - g).mean())
        naive["pearson"].append(np.corrcoef(t, g)[0, 1])
        naive["spearman"].append(stats.spearmanr(t, g)[0])
    for name, draws in naive.items():
        expected = np.quantile(draws, [0.025, 0.975])
        assert scores["intervals"][name] == pytest.approx(expected, abs=0.12 * (expected[1] - expected[0]))


def test_prediction_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ModelError, match="not finite for 1 of 2 rows"):
        score_regression(np.array([0.0, 1.0]), np.array([np.inf, 1.0]))
