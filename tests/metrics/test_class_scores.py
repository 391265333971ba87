"""Metrics of confusion counts equal scikit-learn, alone and in batches."""

import numpy as np
import pytest
from sklearn import metrics

from llmkit.metrics.class_scores import Floats, scores_from_margins

DEGENERATE = {
    "one row, right": ([1], [1], 3),
    "one row, wrong": ([0], [2], 3),
    "label never predicted": ([0, 1, 2, 2], [0, 1, 1, 0], 3),
    "label never true": ([0, 1, 0, 1], [0, 2, 0, 1], 3),
    "label neither true nor predicted": ([0, 1, 1, 0], [0, 1, 0, 0], 4),
    "all rows the same label, all right": ([1, 1, 1], [1, 1, 1], 2),
    "all rows the same label, all wrong": ([1, 1, 1], [0, 0, 0], 2),
    "constant prediction": ([0, 1, 2, 1], [1, 1, 1, 1], 3),
    "all wrong": ([0, 1, 0, 1], [1, 0, 1, 0], 2),
}


def scores_from_confusion(confusion: np.ndarray) -> dict[str, Floats]:
    """Metrics of counts (..., C, C), one row per true label."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    return scores_from_margins(hits, confusion.sum(-1), confusion.sum(-2))


def count(truth: np.ndarray, predictions: np.ndarray, n_labels: int) -> np.ndarray:
    confusion = np.zeros((n_labels, n_labels), np.int64)
    np.add.at(confusion, (truth, predictions), 1)
    return confusion


def score_with_sklearn(truth: np.ndarray, predictions: np.ndarray) -> dict[str, float]:
    scores = {
        "accuracy": metrics.accuracy_score(truth, predictions),
        "mcc": metrics.matthews_corrcoef(truth, predictions),
        "cohen_kappa": np.nan_to_num(metrics.cohen_kappa_score(truth, predictions)),
    }
    true_labels = np.unique(truth)
    scores["balanced_accuracy"] = metrics.recall_score(
        truth, predictions, average="macro", labels=true_labels, zero_division=0
    )
    for name in ("precision", "recall", "f1"):
        for average in ("macro", "micro", "weighted"):
            measure = getattr(metrics, f"{name}_score")
            scores[f"{name}_{average}"] = measure(truth, predictions, average=average, zero_division=0)
    return scores


def assert_same(truth: np.ndarray, predictions: np.ndarray, n_labels: int) -> None:
    scores = scores_from_confusion(count(truth, predictions, n_labels))
    assert {name: float(value) for name, value in scores.items()} == pytest.approx(
        score_with_sklearn(truth, predictions), abs=1e-12
    )


@pytest.mark.filterwarnings("ignore:A single label was found:UserWarning")  # scikit-learn's, on one label only
@pytest.mark.filterwarnings("ignore:`y1`, `y2` and `labels` have only one label in common")
@pytest.mark.parametrize("case", DEGENERATE)
def test_metrics_of_degenerate_rows_equal_scikit_learn(case: str) -> None:
    truth, predictions, n_labels = DEGENERATE[case]
    assert_same(np.array(truth), np.array(predictions), n_labels)


@pytest.mark.parametrize("seed", range(60))
def test_metrics_of_random_rows_equal_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n_labels, n = int(rng.integers(2, 9)), int(rng.integers(2, 60))
    truth, noise = rng.integers(n_labels, size=n), rng.integers(n_labels, size=n)
    assert_same(truth, np.where(rng.random(n) < 0.6, truth, noise), n_labels)


def test_balanced_accuracy_equals_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    truth, predictions = rng.integers(4, size=(2, 200))
    ours = scores_from_confusion(count(truth, predictions, 4))["balanced_accuracy"]
    assert float(ours) == pytest.approx(metrics.balanced_accuracy_score(truth, predictions))


def test_batched_confusions_give_the_same_metrics_as_single_ones() -> None:
    confusions = np.random.default_rng(0).integers(0, 5, size=(2, 3, 4, 4))
    together = scores_from_confusion(confusions)
    for place in np.ndindex(2, 3):
        alone = scores_from_confusion(confusions[place])
        assert {name: values[place] for name, values in together.items()} == pytest.approx(
            {name: float(value) for name, value in alone.items()}
        )


def test_matthews_correlation_of_a_million_correct_rows_is_one() -> None:
    assert float(scores_from_confusion(np.diag([333_333, 333_334, 333_337]))["mcc"]) == pytest.approx(1, abs=1e-12)
