"""Metrics of rows with one label each, from the true labels and the predicted probabilities.

Accuracy has a baseline, that of a constant prediction, and the main metrics have bootstrap intervals. Metrics equal
those of scikit-learn of the same name; see class_scores.py for what a macro average is over. Rows with several labels
are in multilabel.py, numbers in regression.py.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmkit.metrics.bootstrap import bound_resamples, chunk_sizes, draw_rows, intervals_of
from llmkit.metrics.class_scores import scores_from_margins, tabulate_labels
from llmkit.metrics.probabilities import (
    check_outputs,
    clip_probabilities,
    mean_of_defined,
    measure_calibration,
    measure_ranking,
)

INTERVALS = ("accuracy", "balanced_accuracy", "f1_macro", "mcc")
MAX_LABELS_OF_CONFUSION = 1000
"""Beyond, a table of all pairs would be larger than all else in metrics.json."""

_MAX_CONFUSED = 20


def score_single_label(
    labels: NDArray[np.int64],
    probabilities: NDArray[Any],
    names: list[str],
    *,
    n_resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> dict[str, Any]:
    """Figures, tables and intervals of (n,) true labels and (n, C) probabilities; JSON-able, without NaN.

    The prediction is the label of the highest probability, the first of ties. With two labels, `roc_auc`,
    `average_precision` and `brier_score` are those of the second; with more, the mean over the labels for which they
    are defined, one against the rest, and Brier's sum over labels. What no label defines is None.

    Raises:
        ModelError: a probability is not finite.
    """
    check_outputs(probabilities, len(labels))
    predictions = probabilities.argmax(1)
    hits, n_true, n_predicted = _count_margins(labels, predictions, len(names))
    scores: dict[str, Any] = {
        name: float(value) for name, value in scores_from_margins(hits, n_true, n_predicted).items()
    }
    scores["baseline_accuracy"] = int(n_true.max()) / len(labels)
    losses = -np.log(clip_probabilities(probabilities[np.arange(len(labels)), labels]))
    scores |= {"log_loss": float(losses.mean()), "brier_score": _score_brier(labels, probabilities)}
    scores |= _rank_labels(labels, probabilities)
    scores |= measure_calibration(probabilities.max(1), predictions == labels)

    cells, counts = np.unique(labels * len(names) + predictions, return_counts=True)
    true, predicted = np.divmod(cells, len(names))
    rng = np.random.default_rng(seed)
    n_resamples = bound_resamples(n_resamples, len(labels))
    draws = _resample_confusion(true, predicted, counts, len(names), n_resamples, rng)
    draws["log_loss"] = np.concatenate([w @ losses for w in draw_rows(n_resamples, len(losses), rng)]) / len(losses)
    scores["n_rows"] = len(labels)
    scores["intervals"] = intervals_of(draws, confidence)
    scores["per_class"] = tabulate_labels(names, hits, n_true, n_predicted)
    if len(names) <= MAX_LABELS_OF_CONFUSION:
        table = np.zeros((len(names), len(names)), np.int64)
        table[true, predicted] = counts
        scores["confusion"] = {"labels": list(names), "counts": table.tolist()}
    scores["most_confused"] = _list_most_confused(true, predicted, counts, names)
    area = "of the second label" if len(names) == 2 else "each label against the rest, macro"
    scores["method"] = {"roc_auc": area, "confidence": confidence, "n_resamples": n_resamples, "seed": seed}
    return scores


def _count_margins(
    labels: NDArray[np.int64], predictions: NDArray[np.int64], n_labels: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """For each label its rows predicted right, its true rows, its predicted rows."""
    hits = np.bincount(labels[labels == predictions], minlength=n_labels)
    return hits, np.bincount(labels, minlength=n_labels), np.bincount(predictions, minlength=n_labels)


def _score_brier(labels: NDArray[np.int64], probabilities: NDArray[Any]) -> float:
    """Mean squared distance to the truth; the sum over labels, of which two say the same and one is enough."""
    total = 0.0
    for label in range(probabilities.shape[1]):
        total += float(np.square(probabilities[:, label].astype(np.float64) - (labels == label)).sum())
    return total / len(labels) / (2 if probabilities.shape[1] == 2 else 1)


def _rank_labels(labels: NDArray[np.int64], probabilities: NDArray[Any]) -> dict[str, float | None]:
    n_labels = probabilities.shape[1]
    columns = [1] if n_labels == 2 else range(n_labels)
    ranked = [measure_ranking(labels == column, probabilities[:, column]) for column in columns]
    return {
        "roc_auc": mean_of_defined([area for area, _ in ranked]),
        "average_precision": mean_of_defined([precision for _, precision in ranked]),
    }


def _resample_confusion(
    true: NDArray[np.int64],
    predicted: NDArray[np.int64],
    counts: NDArray[np.int64],
    n_labels: int,
    n_resamples: int,
    rng: np.random.Generator,
) -> dict[str, NDArray[np.float64]]:
    """Figures of resamples, from the filled cells of the confusion, in ascending order.

    Drawing n rows with replacement and counting their cells is drawing the cells from a multinomial, so this is
    exactly the bootstrap of rows, without the rows. Only the margins are kept: C x C tables of many resamples would
    not fit.
    """
    parts: list[dict[str, NDArray[np.float64]]] = []
    n = int(counts.sum())
    right = true == predicted
    by_predicted = np.argsort(predicted, kind="stable")
    true_labels, true_starts = np.unique(true, return_index=True)
    predicted_labels, predicted_starts = np.unique(predicted[by_predicted], return_index=True)
    for size in chunk_sizes(n_resamples, max(n_labels, len(counts))):
        drawn = rng.multinomial(n, counts / n, size=size)
        hits, n_true, n_predicted = (np.zeros((size, n_labels), np.int64) for _ in range(3))
        hits[:, true[right]] = drawn[:, right]
        n_true[:, true_labels] = np.add.reduceat(drawn, true_starts, axis=1)
        n_predicted[:, predicted_labels] = np.add.reduceat(drawn[:, by_predicted], predicted_starts, axis=1)
        parts.append(scores_from_margins(hits, n_true, n_predicted))
    return {name: np.concatenate([part[name] for part in parts]) for name in INTERVALS}


def _list_most_confused(
    true: NDArray[np.int64], predicted: NDArray[np.int64], counts: NDArray[np.int64], names: list[str]
) -> list[dict[str, Any]]:
    """The pairs of labels that are taken for each other most often, at most 20."""
    wrong = np.flatnonzero(true != predicted)
    wrong = wrong[np.argsort(-counts[wrong], kind="stable")][:_MAX_CONFUSED]
    return [{"label": names[true[i]], "predicted": names[predicted[i]], "n": int(counts[i])} for i in wrong]
