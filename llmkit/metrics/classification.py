"""Metrics of single-label classification, from true labels and predicted probabilities.

Accuracy comes with the baseline of a constant prediction, and the main metrics come with bootstrap intervals. Metrics
equal the metrics of the same name in scikit-learn; class_scores.py says which labels a macro average includes. See
multilabel.py for multi-label classification and regression.py for regression.
"""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmkit.metrics.bootstrap import DEFAULT_BOOTSTRAP, Bootstrap, chunk_sizes, sample_row_counts
from llmkit.metrics.class_scores import Floats, rates_per_label, scores_from_margins, tabulate_labels
from llmkit.metrics.probabilities import (
    average_rankings,
    check_outputs,
    clip_probabilities,
    curves_by_label,
    measure_calibration,
    measure_ranking,
)

INTERVALS = ("accuracy", "balanced_accuracy", "f1_macro", "mcc", "cohen_kappa")
MAX_CONFUSION_LABELS = 1000
"""Maximum number of labels for a confusion matrix; a larger one would take more space than the rest of metrics.json."""

_MAX_CONFUSED_PAIRS = 20
Ids = NDArray[np.int64]


def predict_single_label(probabilities: NDArray[Any], threshold: float = 0.5, positive: int = 1) -> Ids:
    """Return the labels with the highest probability; ties take the first label.

    If there are two labels and `threshold` is not 0.5, `positive` is predicted if its probability is at least
    `threshold`.
    """
    predictions: Ids = probabilities.argmax(1)
    if threshold == 0.5 or probabilities.shape[1] != 2:
        return predictions
    return np.where(probabilities[:, positive] >= threshold, positive, 1 - positive)


def score_single_label(
    labels: Ids,
    probabilities: NDArray[Any],
    names: list[str],
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    *,
    positive: int | None = None,
    threshold: float = 0.5,
) -> dict[str, Any]:
    """Return metrics, tables and intervals for true labels (n,) and probabilities (n, C); JSON-compatible, without NaN.

    Predictions come from `predict_single_label`. `positive` is the id of a label whose precision, recall and F1 are
    added as `f1_positive` and so on. With two labels, `roc_auc`, `average_precision` and `brier_score` refer to the
    positive label, or to the second label if there is no positive one. With more labels, `roc_auc` and
    `average_precision` are one-vs-rest means over the labels for which they are defined (None if there are none), and
    `brier_score` is the sum over labels.

    Raises:
        ModelError: a probability is not finite.
    """
    n_rows, n_labels = len(labels), len(names)
    check_outputs(probabilities, n_rows)
    predictions = predict_single_label(probabilities, threshold, 1 if positive is None else positive)
    hits = np.bincount(labels[labels == predictions], minlength=n_labels)
    n_true, n_predicted = (np.bincount(ids, minlength=n_labels) for ids in (labels, predictions))
    scores: dict[str, Any] = {
        name: float(value) for name, value in scores_from_margins(hits, n_true, n_predicted).items()
    }
    scores |= {name: float(value) for name, value in _rate_positive((hits, n_true, n_predicted), positive).items()}
    scores["baseline_accuracy"] = int(n_true.max()) / n_rows
    losses = -np.log(clip_probabilities(probabilities[np.arange(n_rows), labels]))
    squares = (
        float(np.square(probabilities[:, label].astype(np.float64) - (labels == label)).sum())
        for label in range(n_labels)
    )
    brier_score = sum(squares) / n_rows / (2 if n_labels == 2 else 1)
    scores |= {"log_loss": float(losses.mean()), "brier_score": brier_score}
    ranked_labels = [1 if positive is None else positive] if n_labels == 2 else range(n_labels)
    rankings = [measure_ranking(labels == label, probabilities[:, label]) for label in ranked_labels]
    scores["roc_auc"], scores["average_precision"] = average_rankings(rankings)
    columns = [(labels == label, probabilities[:, label]) for label in ranked_labels]
    scores |= curves_by_label([names[label] for label in ranked_labels], columns)
    scores |= measure_calibration(probabilities[np.arange(n_rows), predictions], predictions == labels)

    cells, counts = np.unique(labels * n_labels + predictions, return_counts=True)
    true, predicted = np.divmod(cells, n_labels)
    rng, bootstrap = np.random.default_rng(bootstrap.seed), bootstrap.bound(n_rows)
    resamples = _resample_confusion(true, predicted, counts, n_labels, bootstrap.n_resamples, rng)
    intervals = bootstrap.intervals(
        {name: margins[name] for name in INTERVALS} | _rate_positive(margins["margins"], positive)
        for margins in resamples
    )
    if (accuracy := scores["accuracy"]) in (0, 1):
        intervals["accuracy"] = bootstrap.interval_of_all(n_rows, right=accuracy == 1)
    weights = sample_row_counts(bootstrap.n_resamples, n_rows, rng)
    scores["n_rows"] = n_rows
    scores["intervals"] = intervals | bootstrap.intervals({"log_loss": each @ losses / n_rows} for each in weights)
    scores["per_class"] = tabulate_labels(names, hits, n_true, n_predicted)
    if n_labels <= MAX_CONFUSION_LABELS:
        table = np.zeros((n_labels, n_labels), np.int64)
        table[true, predicted] = counts
        scores["confusion"] = {"labels": list(names), "counts": table.tolist()}
    wrong = np.flatnonzero(true != predicted)
    wrong = wrong[np.argsort(-counts[wrong], kind="stable")][:_MAX_CONFUSED_PAIRS]
    scores["most_confused"] = [
        {"label": names[true[cell]], "predicted": names[predicted[cell]], "n": int(counts[cell])} for cell in wrong
    ]
    area = f"of the {'second' if positive is None else 'positive'} label"
    scores["method"] = {"roc_auc": area if n_labels == 2 else "each label against the rest, macro", **asdict(bootstrap)}
    if positive is not None:
        scores["method"] |= {"positive_label": names[positive]} | ({"threshold": threshold} if n_labels == 2 else {})
    return scores


def _rate_positive(margins: tuple[NDArray[Any], ...], positive: int | None) -> dict[str, Floats]:
    """Return precision, recall and F1 of one label, (...) each, from the margins (..., C) of `scores_from_margins`."""
    if positive is None:
        return {}
    hits, n_true, n_predicted = (margin[..., positive] for margin in margins)
    return {f"{name}_positive": rate for name, rate in rates_per_label(hits, n_true, n_predicted).items()}


def _resample_confusion(
    true: Ids, predicted: Ids, counts: Ids, n_labels: int, n_resamples: int, rng: np.random.Generator
) -> Iterator[dict[str, Any]]:
    """Yield metrics and `margins` of each chunk of resamples.

    Arguments are the non-empty cells of the confusion matrix in row-major order: true label, predicted label, count.

    Cell counts of n rows drawn with replacement follow a multinomial distribution, so sampling counts equals sampling
    rows. Only the margins are kept: the C x C tables of many resamples would not fit into memory.
    """
    n_rows = int(counts.sum())
    is_right = true == predicted
    by_predicted = np.argsort(predicted, kind="stable")
    true_labels, true_starts = np.unique(true, return_index=True)
    predicted_labels, predicted_starts = np.unique(predicted[by_predicted], return_index=True)
    for size in chunk_sizes(n_resamples, max(n_labels, len(counts))):
        drawn = rng.multinomial(n_rows, counts / n_rows, size=size)
        hits, n_true, n_predicted = (np.zeros((size, n_labels), np.int64) for _ in range(3))
        hits[:, true[is_right]] = drawn[:, is_right]
        n_true[:, true_labels] = np.add.reduceat(drawn, true_starts, axis=1)
        n_predicted[:, predicted_labels] = np.add.reduceat(drawn[:, by_predicted], predicted_starts, axis=1)
        yield scores_from_margins(hits, n_true, n_predicted) | {"margins": (hits, n_true, n_predicted)}
