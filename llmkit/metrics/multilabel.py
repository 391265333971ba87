"""Metrics of multi-label classification, and the choice of a threshold per label.

Metrics equal scikit-learn's for an indicator matrix with `zero_division=0`: macro averages include all labels of the
model, and a label that is neither true nor predicted counts as 0. Accuracy is subset accuracy: a row is correct if all
its labels are correct.
"""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmkit.metrics.bootstrap import DEFAULT_BOOTSTRAP, Bootstrap, sample_row_counts
from llmkit.metrics.class_scores import Floats, average_rates, divide, rates_per_label, tabulate_labels
from llmkit.metrics.probabilities import (
    average_rankings,
    check_outputs,
    clip_probabilities,
    curves_by_label,
    measure_calibration,
    measure_ranking,
)

Indicators = NDArray[np.bool_]


def score_multi_label(
    labels: Indicators,
    probabilities: NDArray[Any],
    thresholds: NDArray[np.float64],
    names: list[str],
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
) -> dict[str, Any]:
    """Return metrics, tables and intervals for true labels and probabilities, both (n, C); for JSON, without NaN.

    A label is predicted if its probability is at least its threshold. `log_loss` is the mean binary cross-entropy in
    nats. Calibration counts every pair of row and label. `roc_auc_macro` and `average_precision_macro` are means
    over the labels for which they are defined. A baseline is the best value that one prediction for all rows can reach.

    Raises:
        ModelError: a probability is not finite.
    """
    check_outputs(probabilities, len(labels))
    predictions = probabilities >= thresholds
    hits, n_true, n_predicted = (each.sum(0) for each in (labels & predictions, labels, predictions))
    rates = average_rates(hits, n_true, n_predicted, np.ones(len(names), bool))
    scores: dict[str, Any] = {
        "accuracy": float((labels == predictions).all(1).mean()),
        "hamming_loss": float((labels != predictions).mean()),
    }
    scores |= {name: float(value) for name, value in rates.items()}
    by_row = rates_per_label(*(each.sum(1, dtype=np.float64) for each in (labels & predictions, labels, predictions)))
    scores |= {f"{name}_samples": float(rate.mean()) for name, rate in by_row.items()}
    scores |= _score_constant_predictions(labels)
    clipped = clip_probabilities(probabilities)
    scores["log_loss"] = float(-np.log(np.where(labels, clipped, 1 - clipped)).mean())
    rankings = [measure_ranking(labels[:, c], probabilities[:, c]) for c in range(len(names))]
    scores["roc_auc_macro"], scores["average_precision_macro"] = average_rankings(rankings)
    scores["roc_auc_micro"], scores["average_precision_micro"] = measure_ranking(labels.ravel(), probabilities.ravel())
    scores |= measure_calibration(probabilities, labels)
    scores["n_rows"] = len(labels)

    bootstrap = bootstrap.bound(len(labels), len(names))
    scores["intervals"] = bootstrap.intervals(_resample(labels, predictions, bootstrap))
    scores["per_class"] = [
        row | {"threshold": threshold, "roc_auc": area, "average_precision": precision}
        for row, threshold, (area, precision) in zip(
            tabulate_labels(names, hits, n_true, n_predicted), thresholds.tolist(), rankings, strict=True
        )
    ]
    scores |= curves_by_label(names, [(labels[:, c], probabilities[:, c]) for c in range(len(names))])
    scores["method"] = {"accuracy": "all labels of a row", **asdict(bootstrap)}
    return scores


def tune_thresholds(labels: Indicators, probabilities: NDArray[Any]) -> NDArray[np.float64]:
    """Return the threshold per label that maximizes F1 on these rows (n, C); 0.5 for a label that no row has.

    Candidates lie midway between neighbouring probabilities, and below the lowest one; the candidate nearest to 0.5
    wins a tie. Tune on validation rows: metrics of the rows used for tuning would be too high.
    """
    return np.array([tune_threshold(labels[:, c], probabilities[:, c]) for c in range(labels.shape[1])])


def tune_threshold(is_true: Indicators, scores: NDArray[Any]) -> float:
    """Return the threshold of one label; see `tune_thresholds`."""
    if not is_true.any():
        return 0.5
    order = np.argsort(scores, kind="stable")[::-1]
    sorted_scores = scores[order].astype(np.float64)
    ends = np.append(np.flatnonzero(np.diff(sorted_scores)), len(order) - 1)
    hits = np.cumsum(is_true[order])[ends]
    f1 = 2 * hits / (is_true.sum() + ends + 1)
    lowest_predicted = sorted_scores[ends]
    thresholds = (lowest_predicted + np.append(lowest_predicted[1:], 0.0)) / 2
    best = thresholds[f1 == f1.max()]
    return float(best[np.abs(best - 0.5).argmin()])


def _score_constant_predictions(labels: Indicators) -> dict[str, float]:
    """Return the best value of each metric that one prediction for all rows can reach."""
    n_rows = len(labels)
    _, counts = np.unique(np.packbits(labels, axis=1), axis=0, return_counts=True)
    n_true = labels.sum(0)
    # The k most frequent labels are the best constant prediction of k labels.
    sizes = np.arange(1, labels.shape[1] + 1)
    micro = divide(2 * np.cumsum(np.sort(n_true)[::-1]), n_true.sum() + n_rows * sizes)
    return {
        "baseline_accuracy": int(counts.max()) / n_rows,
        "baseline_f1_micro": float(micro.max()),
        "baseline_f1_macro": float(divide(2 * n_true, n_true + n_rows).mean()),
    }


def _resample(labels: Indicators, predictions: Indicators, bootstrap: Bootstrap) -> Iterator[dict[str, Floats]]:
    """Yield the metrics of each chunk of resamples."""
    n_rows, n_labels = labels.shape
    # Sums are integers below 2 ** 24, so single precision is exact, and twice as fast.
    columns = np.hstack([labels & predictions, labels, predictions]).astype(np.float32)
    is_right = (labels == predictions).all(1).astype(np.float64)
    for weights in sample_row_counts(bootstrap.n_resamples, n_rows, np.random.default_rng(bootstrap.seed)):
        sums = (weights.astype(np.float32) @ columns).astype(np.float64)
        hits, n_true, n_predicted = np.split(sums, 3, axis=1)
        rates = average_rates(hits, n_true, n_predicted, np.ones(n_labels, bool))
        accuracy = weights @ is_right / n_rows
        yield {"accuracy": accuracy, "f1_micro": rates["f1_micro"], "f1_macro": rates["f1_macro"]}
