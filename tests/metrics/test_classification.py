"""Single-label metrics equal scikit-learn; intervals equal those of resampled rows."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metrics.test_class_scores import scores_from_confusion
from scipy.stats import binomtest
from sklearn import metrics
from sklearn.preprocessing import label_binarize

from llmkit.core.errors import ModelError
from llmkit.metrics import classification
from llmkit.metrics.bootstrap import Bootstrap
from llmkit.metrics.classification import score_single_label

APPROX: dict[str, float] = {"rel": 2e-6, "abs": 1e-9}


def make_rows(seed: int, n: int, n_labels: int, *, coarse: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """True labels and probabilities that know something of them; coarse ones have many ties."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(n_labels, size=n)
    logits = rng.normal(size=(n, n_labels)) + 1.5 * np.eye(n_labels)[labels]
    logits = np.round(logits) if coarse else logits
    odds = np.exp(logits)
    return labels, (odds / odds.sum(1, keepdims=True)).astype(np.float32)


def names_of(n: int) -> list[str]:
    return [f"label {i}" for i in range(n)]


def assert_plain(scores: dict[str, Any]) -> None:
    """As metrics.json has it: plain values, no NaN."""
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores


@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize("n_labels", [2, 3, 7])
def test_single_label_metrics_equal_scikit_learn(n_labels: int, coarse: bool) -> None:
    labels, p = make_rows(n_labels, 200, n_labels, coarse=coarse)
    scores = score_single_label(labels, p, names_of(n_labels), Bootstrap(n_resamples=20))
    predictions = p.argmax(1)
    every = range(n_labels)
    binary = n_labels == 2
    area = metrics.roc_auc_score(labels, p[:, 1]) if binary else metrics.roc_auc_score(labels, p, multi_class="ovr")
    marks = label_binarize(labels, classes=list(every))
    precision = metrics.average_precision_score(*((labels, p[:, 1]) if binary else (marks, p)))
    expected = {
        "accuracy": metrics.accuracy_score(labels, predictions),
        "balanced_accuracy": metrics.balanced_accuracy_score(labels, predictions),
        "f1_macro": metrics.f1_score(labels, predictions, average="macro"),
        "mcc": metrics.matthews_corrcoef(labels, predictions),
        "cohen_kappa": metrics.cohen_kappa_score(labels, predictions),
        "log_loss": metrics.log_loss(labels, p, labels=every),
        "brier_score": metrics.brier_score_loss(labels, p, labels=every),
        "roc_auc": area,
        "average_precision": precision,
        "baseline_accuracy": np.bincount(labels).max() / 200,
    }
    assert {name: scores[name] for name in expected} == pytest.approx(expected, **APPROX)
    assert scores["confusion"]["counts"] == metrics.confusion_matrix(labels, predictions).tolist()
    table = metrics.precision_recall_fscore_support(labels, predictions)
    for i, row in enumerate(scores["per_class"]):
        assert [row[key] for key in ("precision", "recall", "f1", "support")] == pytest.approx([c[i] for c in table])
        assert row["n_predicted"] == (predictions == i).sum() and row["label"] == f"label {i}"
    assert_plain(scores)


def test_log_loss_of_a_certain_error_is_finite_and_equals_scikit_learn() -> None:
    p = np.array([[0, 1], [0, 1]], np.float32)
    scores = score_single_label(np.array([0, 1]), p, ["a", "b"], Bootstrap(n_resamples=10))
    assert scores["log_loss"] == pytest.approx(metrics.log_loss([0, 1], p), rel=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.integers(0, 999), st.booleans())
def test_metrics_of_few_rows_are_numbers_or_none(truth: list[int], seed: int, coarse: bool) -> None:
    labels = np.array(truth)
    p = make_rows(seed, len(truth), 4, coarse=coarse)[1]
    scores = score_single_label(labels, p, names_of(4), Bootstrap(n_resamples=30))
    assert_plain(scores)
    both = [c for c in range(4) if 0 < (labels == c).sum() < len(labels)]
    areas = [metrics.roc_auc_score(labels == c, p[:, c]) for c in both]
    assert scores["roc_auc"] == (pytest.approx(np.mean(areas)) if areas else None)
    present = np.unique(labels)
    precisions = [metrics.average_precision_score(labels == c, p[:, c]) for c in present]
    assert scores["average_precision"] == pytest.approx(np.mean(precisions))
    for low, high in scores["intervals"].values():
        assert low <= high


def test_roc_auc_is_none_if_all_rows_have_the_same_label() -> None:
    p = np.array([[0.2, 0.8], [0.6, 0.4]])
    assert score_single_label(np.array([1, 1]), p, ["a", "b"], Bootstrap(n_resamples=5))["roc_auc"] is None
    never = score_single_label(np.array([0, 0]), p, ["a", "b"], Bootstrap(n_resamples=5))
    assert never["roc_auc"] is None and never["average_precision"] is None


@pytest.mark.parametrize("n_labels", [2, 5])
def test_single_label_intervals_equal_those_of_resampled_rows(n_labels: int) -> None:
    labels, p = make_rows(3, 150, n_labels)
    p[:, 0] *= 3  # predicted far more often than true, so that the two margins differ
    p /= p.sum(1, keepdims=True)
    scores = score_single_label(labels, p, names_of(n_labels), Bootstrap(n_resamples=4000))
    predictions, rng = p.argmax(1), np.random.default_rng(7)
    losses = -np.log(p[np.arange(150), labels])
    draws = rng.integers(150, size=(4000, 150))
    confusions = np.zeros((4000, n_labels, n_labels), np.int64)
    np.add.at(confusions, (np.arange(4000)[:, None], labels[draws], predictions[draws]), 1)
    naive = scores_from_confusion(confusions) | {"log_loss": losses[draws].mean(1)}
    assert set(scores["intervals"]) == {"accuracy", "balanced_accuracy", "f1_macro", "mcc", "cohen_kappa", "log_loss"}
    for name, interval in scores["intervals"].items():
        expected = np.quantile(naive[name], [0.025, 0.975])
        assert interval == pytest.approx(expected, abs=0.12 * (expected[1] - expected[0]))
        assert interval[0] < scores[name] < interval[1]


def test_intervals_depend_on_the_seed_alone() -> None:
    labels, p = make_rows(1, 80, 3)
    first, again, other = (
        score_single_label(labels, p, names_of(3), Bootstrap(n_resamples=50, seed=s)) for s in (4, 4, 5)
    )
    assert first == again
    assert first["intervals"] != other["intervals"]


def test_chunk_size_does_not_change_the_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, p = make_rows(1, 80, 3)
    whole = score_single_label(labels, p, names_of(3), Bootstrap(n_resamples=50))
    monkeypatch.setattr("llmkit.metrics.bootstrap._CHUNK", 7 * 80)
    assert score_single_label(labels, p, names_of(3), Bootstrap(n_resamples=50)) == whole


def test_most_confused_pairs_are_listed_without_a_confusion_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classification, "MAX_CONFUSION_LABELS", 2)
    labels, predictions = np.array([0, 0, 0, 2, 1]), np.array([1, 1, 2, 0, 1])
    scores = score_single_label(labels, np.eye(3)[predictions], ["a", "b", "c"], Bootstrap(n_resamples=5))
    assert "confusion" not in scores
    assert scores["most_confused"][0] == {"label": "a", "predicted": "b", "n": 2}
    assert sum(pair["n"] for pair in scores["most_confused"]) == 4


def test_output_that_is_not_finite_is_refused() -> None:
    p = np.array([[0.5, 0.5], [np.nan, np.nan]])
    with pytest.raises(ModelError, match="not finite for 1 of 2 rows"):
        score_single_label(np.array([0, 1]), p, ["a", "b"])


def test_a_million_rows_get_200_resamples() -> None:
    labels, p = make_rows(0, 1_000_000, 3)
    assert score_single_label(labels, p, names_of(3))["method"]["n_resamples"] == 200


@pytest.mark.parametrize("right", [True, False])
def test_accuracy_of_all_rows_has_the_exact_interval_and_other_metrics_have_none(right: bool) -> None:
    labels = np.array([0, 1] * 10)
    probabilities = np.eye(2)[labels if right else 1 - labels] * 0.8 + 0.1
    intervals = score_single_label(labels, probabilities, ["a", "b"])["intervals"]
    exact = binomtest(20 if right else 0, 20).proportion_ci(0.95, method="exact")
    assert intervals["accuracy"] == pytest.approx([exact.low, exact.high])
    assert not {"f1_macro", "mcc", "log_loss"} & set(intervals)


def test_positive_label_has_its_own_rates_with_intervals_as_in_scikit_learn() -> None:
    from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score

    rng = np.random.default_rng(0)
    labels = (rng.random(400) < 0.2).astype(np.int64)
    second = np.clip(0.35 + 0.25 * (labels - 0.3) + rng.normal(scale=0.15, size=400), 0.01, 0.99)
    probabilities = np.stack([1 - second, second], axis=1)
    for positive, threshold in ((1, 0.5), (1, 0.4), (0, 0.7)):
        scores = score_single_label(labels, probabilities, ["no", "yes"], positive=positive, threshold=threshold)
        predicted = np.where(probabilities[:, positive] >= threshold, positive, 1 - positive)
        for name, measure in (("f1", f1_score), ("precision", precision_score), ("recall", recall_score)):
            assert scores[f"{name}_positive"] == pytest.approx(measure(labels, predicted, pos_label=positive))
        low, high = scores["intervals"]["f1_positive"]
        assert low < scores["f1_positive"] < high
        assert scores["average_precision"] == pytest.approx(
            average_precision_score(labels == positive, probabilities[:, positive])
        )
        assert scores["method"]["threshold"] == threshold
    plain = score_single_label(labels, probabilities, ["no", "yes"])
    assert "f1_positive" not in plain and "threshold" not in plain["method"]
