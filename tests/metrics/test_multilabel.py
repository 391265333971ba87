"""Multi-label metrics equal scikit-learn; tuned thresholds are the best ones."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from llmkit.metrics.bootstrap import Bootstrap
from llmkit.metrics.multilabel import score_multi_label, tune_thresholds


def make_marks(seed: int, n: int, n_labels: int, *, coarse: bool = False) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.random((n, n_labels)) < rng.random(n_labels)
    probabilities = 1 / (1 + np.exp(-(rng.normal(size=(n, n_labels)) + 2 * labels - 1)))
    return labels, (np.round(probabilities, 1) if coarse else probabilities).astype(np.float32)


def names_of(n: int) -> list[str]:
    return [f"label {i}" for i in range(n)]


def assert_plain(scores: dict[str, Any]) -> None:
    """As metrics.json has it: plain values, no NaN."""
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores


@pytest.mark.parametrize("coarse", [False, True])
def test_multi_label_metrics_equal_scikit_learn(coarse: bool) -> None:
    labels, p = make_marks(2, 150, 6, coarse=coarse)
    thresholds = np.array([0.5, 0.3, 0.9, 0.5, 0.2, 0.7])
    scores = score_multi_label(labels, p, thresholds, names_of(6), Bootstrap(n_resamples=20))
    predictions = p >= thresholds
    expected = {"accuracy": metrics.accuracy_score(labels, predictions)}
    expected["hamming_loss"] = metrics.hamming_loss(labels, predictions)
    for name in ("precision", "recall", "f1"):
        for average in ("macro", "micro", "weighted", "samples"):
            measure = getattr(metrics, f"{name}_score")
            expected[f"{name}_{average}"] = measure(labels, predictions, average=average, zero_division=0)
    for average in ("macro", "micro"):
        expected[f"roc_auc_{average}"] = metrics.roc_auc_score(labels, p, average=average)
        expected[f"average_precision_{average}"] = metrics.average_precision_score(labels, p, average=average)
    expected["log_loss"] = metrics.log_loss(labels.ravel(), p.ravel())
    assert {name: scores[name] for name in expected} == pytest.approx(expected, rel=2e-6)
    for c, row in enumerate(scores["per_class"]):
        assert row["roc_auc"] == pytest.approx(metrics.roc_auc_score(labels[:, c], p[:, c]))
        assert (row["support"], row["n_predicted"]) == (labels[:, c].sum(), predictions[:, c].sum())
        assert row["threshold"] == thresholds[c]
    assert_plain(scores)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 6), st.integers(1, 4), st.integers(0, 9999), st.booleans())
def test_multi_label_metrics_of_few_rows_are_numbers_or_none(n: int, n_labels: int, seed: int, coarse: bool) -> None:
    labels, p = make_marks(seed, n, n_labels, coarse=coarse)
    scores = score_multi_label(labels, p, np.full(n_labels, 0.5), names_of(n_labels), Bootstrap(n_resamples=20))
    assert_plain(scores)
    for average in ("macro", "micro", "weighted"):
        # A second, empty column in front keeps scikit-learn from taking one label for a binary task.
        marks, predictions = (np.hstack([a, np.zeros((n, 1), bool)]) for a in (labels, p >= 0.5))
        expected = metrics.f1_score(marks, predictions, average=average, zero_division=0, labels=range(n_labels))
        assert scores[f"f1_{average}"] == pytest.approx(expected)


def test_multi_label_intervals_equal_those_of_resampled_rows() -> None:
    labels, p = make_marks(5, 120, 4)
    scores = score_multi_label(labels, p, np.full(4, 0.5), names_of(4), Bootstrap(n_resamples=3000))
    predictions, rng = p >= 0.5, np.random.default_rng(1)
    naive: dict[str, list[float]] = {"accuracy": [], "f1_micro": [], "f1_macro": []}
    for _ in range(1500):
        rows = rng.integers(120, size=120)
        hits = (labels & predictions)[rows].sum(0)
        sizes = labels[rows].sum(0) + predictions[rows].sum(0)
        naive["accuracy"].append((labels == predictions)[rows].all(1).mean())
        naive["f1_micro"].append(2 * hits.sum() / sizes.sum())
        naive["f1_macro"].append((2 * hits / sizes).mean())
    for name, draws in naive.items():
        expected = np.quantile(draws, [0.025, 0.975])
        assert scores["intervals"][name] == pytest.approx(expected, abs=0.12 * (expected[1] - expected[0]))


def test_baselines_are_the_best_of_all_constant_predictions() -> None:
    labels = make_marks(8, 40, 4)[0]
    scores = score_multi_label(labels, labels.astype(float), np.full(4, 0.5), names_of(4), Bootstrap(n_resamples=5))
    constants = [np.tile([bool(i >> c & 1) for c in range(4)], (40, 1)) for i in range(16)]
    for name, measure in (
        ("accuracy", lambda predicted: metrics.accuracy_score(labels, predicted)),
        ("f1_micro", lambda predicted: metrics.f1_score(labels, predicted, average="micro", zero_division=0)),
        ("f1_macro", lambda predicted: metrics.f1_score(labels, predicted, average="macro", zero_division=0)),
    ):
        assert scores[f"baseline_{name}"] == pytest.approx(max(map(measure, constants)))


@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_tuned_threshold_has_the_highest_f1(seed: int, coarse: bool) -> None:
    labels, p = make_marks(seed, 30, 3, coarse=coarse)
    for c, threshold in enumerate(tune_thresholds(labels, p)):
        edges = np.unique(np.append(p[:, c].astype(float), 0.0))
        candidates = (edges[1:] + edges[:-1]) / 2 if len(edges) > 1 else edges

        def f1(at: float, c: int = c) -> float:
            return metrics.f1_score(labels[:, c], p[:, c] >= at, zero_division=0)

        best = max(map(f1, candidates))
        assert f1(threshold) == pytest.approx(best)
        equal = [at for at in candidates if f1(at) == pytest.approx(best, abs=1e-12)]
        assert abs(threshold - 0.5) == pytest.approx(min(abs(at - 0.5) for at in equal))


def test_threshold_nearest_to_one_half_wins_a_tie() -> None:
    # F1 is 2/3 from 0.97 (one prediction, right) and from 0.2 (four predictions, two right).
    labels, p = np.array([[True], [False], [False], [True]]), np.array([[0.99], [0.95], [0.5], [0.4]])
    assert tune_thresholds(labels, p).tolist() == [pytest.approx(0.2)]


def test_threshold_of_a_label_without_rows_is_one_half() -> None:
    assert tune_thresholds(np.zeros((3, 1), bool), np.array([[0.1], [0.2], [0.9]])).tolist() == [0.5]
