"""Metrics of rows with any number of labels, and the choice of the thresholds from which a label is predicted.

Figures equal scikit-learn's for an indicator matrix with `zero_division=0`: macro averages are over all labels of the
model, and one that is neither true nor predicted counts 0. Accuracy is subset accuracy: exactly the labels of a row.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmkit.metrics.bootstrap import bound_resamples, draw_rows, intervals_of
from llmkit.metrics.class_scores import Floats, average_rates, divide, rates_of_labels, tabulate_labels
from llmkit.metrics.probabilities import (
    check_outputs,
    clip_probabilities,
    mean_of_defined,
    measure_calibration,
    measure_ranking,
)

Marks = NDArray[np.bool_]


def score_multi_label(
    labels: Marks,
    probabilities: NDArray[Any],
    thresholds: NDArray[np.float64],
    names: list[str],
    *,
    n_resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> dict[str, Any]:
    """Figures, tables and intervals of (n, C) truths and probabilities; JSON-able, without NaN.

    A label is predicted where its probability reaches its threshold. `log_loss` is the mean binary cross-entropy, in
    nats, and calibration counts every pair of row and label. `roc_auc_macro` and `average_precision_macro` are over
    the labels for which they are defined. The baselines are those of the best prediction that is the same for all rows.

    Raises:
        ModelError: a probability is not finite.
    """
    check_outputs(probabilities, len(labels))
    predictions = probabilities >= thresholds
    hits, n_true, n_predicted = (marks.sum(0) for marks in (labels & predictions, labels, predictions))
    rates = average_rates(hits, n_true, n_predicted, np.ones(len(names), bool))
    scores: dict[str, Any] = {
        "accuracy": float((labels == predictions).all(1).mean()),
        "hamming_loss": float((labels != predictions).mean()),
    }
    scores |= {name: float(value) for name, value in rates.items()} | _average_over_rows(labels, predictions)
    scores |= _score_constant_predictions(labels)
    clipped = clip_probabilities(probabilities)
    scores["log_loss"] = float(-np.log(np.where(labels, clipped, 1 - clipped)).mean())
    ranked = [measure_ranking(labels[:, c], probabilities[:, c]) for c in range(len(names))]
    scores |= _average_rankings(ranked, labels, probabilities)
    scores |= measure_calibration(probabilities, labels)
    scores["n_rows"] = len(labels)

    n_resamples = bound_resamples(n_resamples, len(labels), len(names))
    draws = _resample(labels, predictions, n_resamples, np.random.default_rng(seed))
    scores["intervals"] = intervals_of(draws, confidence)
    per_class = tabulate_labels(names, hits, n_true, n_predicted)
    for row, threshold, (area, precision) in zip(per_class, thresholds.tolist(), ranked, strict=True):
        row |= {"threshold": threshold, "roc_auc": area, "average_precision": precision}
    scores["per_class"] = per_class
    scores["method"] = {"accuracy": "all labels of a row", "confidence": confidence}
    scores["method"] |= {"n_resamples": n_resamples, "seed": seed}
    return scores


def tune_thresholds(labels: Marks, probabilities: NDArray[Any]) -> NDArray[np.float64]:
    """For each label the threshold with the highest F1 on these rows (n, C); 0.5 for a label that no row has.

    Candidates lie midway between neighbouring probabilities, and below the lowest one; of equally good ones the
    nearest to 0.5 is taken. Tune on validation rows: on the rows that are scored it would flatter.
    """
    return np.array([_tune(labels[:, c], probabilities[:, c]) for c in range(labels.shape[1])])


def _tune(is_true: Marks, scores: NDArray[Any]) -> float:
    if not is_true.any():
        return 0.5
    order = np.argsort(scores, kind="stable")[::-1]
    sorted_scores = scores[order].astype(np.float64)
    ends = np.append(np.flatnonzero(np.diff(sorted_scores)), len(order) - 1)
    hits = np.cumsum(is_true[order])[ends]
    f1 = 2 * hits / (is_true.sum() + ends + 1)
    lowest_taken = sorted_scores[ends]
    thresholds = (lowest_taken + np.append(lowest_taken[1:], 0.0)) / 2
    best = thresholds[f1 == f1.max()]
    return float(best[np.abs(best - 0.5).argmin()])


def _average_over_rows(labels: Marks, predictions: Marks) -> dict[str, float]:
    sums: list[Floats] = [marks.sum(1, dtype=np.float64) for marks in (labels & predictions, labels, predictions)]
    rates = zip(("precision", "recall", "f1"), rates_of_labels(*sums), strict=True)
    return {f"{name}_samples": float(rate.mean()) for name, rate in rates}


def _score_constant_predictions(labels: Marks) -> dict[str, float]:
    """The best of the predictions that are the same for all rows: each figure has its own best one."""
    n = len(labels)
    packed = np.packbits(labels, axis=1)
    _, counts = np.unique(packed, axis=0, return_counts=True)
    n_true = labels.sum(0)
    # The k most frequent labels are the best constant prediction of k labels.
    sizes = np.arange(1, labels.shape[1] + 1)
    pooled = divide(2 * np.cumsum(np.sort(n_true)[::-1]), n_true.sum() + n * sizes)
    return {
        "baseline_accuracy": int(counts.max()) / n,
        "baseline_f1_micro": float(pooled.max()),
        "baseline_f1_macro": float(divide(2 * n_true, n_true + n).mean()),
    }


def _average_rankings(
    ranked: list[tuple[float | None, float | None]], labels: Marks, probabilities: NDArray[Any]
) -> dict[str, float | None]:
    area, precision = measure_ranking(labels.ravel(), probabilities.ravel())
    return {
        "roc_auc_macro": mean_of_defined([of_label for of_label, _ in ranked]),
        "roc_auc_micro": area,
        "average_precision_macro": mean_of_defined([of_label for _, of_label in ranked]),
        "average_precision_micro": precision,
    }


def _resample(labels: Marks, predictions: Marks, n_resamples: int, rng: np.random.Generator) -> dict[str, Floats]:
    n, n_labels = labels.shape
    # Sums of whole numbers below 2 ** 24, so single precision is exact, and twice as fast.
    counted = np.hstack([labels & predictions, labels, predictions]).astype(np.float32)
    right = (labels == predictions).all(1).astype(np.float64)
    parts: list[dict[str, Floats]] = []
    for weights in draw_rows(n_resamples, n, rng):
        sums = (weights.astype(np.float32) @ counted).astype(np.float64)
        hits, n_true, n_predicted = (sums[:, i * n_labels : (i + 1) * n_labels] for i in range(3))
        rates = average_rates(hits, n_true, n_predicted, np.ones(n_labels, bool))
        parts.append({"accuracy": weights @ right / n, "f1_micro": rates["f1_micro"], "f1_macro": rates["f1_macro"]})
    return {name: np.concatenate([part[name] for part in parts]) for name in ("accuracy", "f1_micro", "f1_macro")}
