"""Metrics computed from counts per label, for many sets of counts at once.

Leading dimensions are kept, so the bootstrap scores a thousand resamples in one call. Each metric equals the metric of
the same name in scikit-learn with its defaults and `zero_division=0`. With one label per row, macro averages include
the labels that are true or predicted at least once, and balanced accuracy those that are true at least once.

Independent of probabilities; see classification.py.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def scores_from_margins(hits: NDArray[Any], n_true: NDArray[Any], n_predicted: NDArray[Any]) -> dict[str, Floats]:
    """Return metrics (...) from the number of correct, true and predicted rows per label, each (..., C).

    There must be at least one row.
    """
    hits, n_true, n_predicted = (np.asarray(counts, np.float64) for counts in (hits, n_true, n_predicted))
    accuracy = hits.sum(-1) / n_true.sum(-1)
    scores = {"accuracy": accuracy, "balanced_accuracy": _mean_where(divide(hits, n_true), n_true > 0)}
    scores |= average_rates(hits, n_true, n_predicted, (n_true > 0) | (n_predicted > 0))
    return scores | {"mcc": _matthews(hits, n_true, n_predicted), "cohen_kappa": _kappa(hits, n_true, n_predicted)}


def rates_per_label(hits: NDArray[Any], n_true: NDArray[Any], n_predicted: NDArray[Any]) -> dict[str, Floats]:
    """Return precision, recall and F1 of each label; 0 if the denominator is 0."""
    return {
        "precision": divide(hits, n_predicted),
        "recall": divide(hits, n_true),
        "f1": divide(2 * hits, n_true + n_predicted),
    }


def average_rates(hits: Floats, n_true: Floats, n_predicted: Floats, in_macro: NDArray[np.bool_]) -> dict[str, Floats]:
    """Return macro, micro and weighted averages, such as `precision_macro`; `in_macro` (..., C): labels in macro."""
    micro = rates_per_label(hits.sum(-1), n_true.sum(-1), n_predicted.sum(-1))
    averages = {}
    for name, rate in rates_per_label(hits, n_true, n_predicted).items():
        averages[f"{name}_macro"] = _mean_where(rate, in_macro)
        averages[f"{name}_micro"] = micro[name]
        averages[f"{name}_weighted"] = divide((rate * n_true).sum(-1), n_true.sum(-1))
    return averages


def divide(numerator: NDArray[Any], denominator: NDArray[Any]) -> Floats:
    """Return the quotient; 0 where the denominator is not positive."""
    quotient = np.zeros(np.broadcast_shapes(np.shape(numerator), np.shape(denominator)))
    np.divide(numerator, denominator, out=quotient, where=np.asarray(denominator) > 0)
    return quotient


def tabulate_labels(
    names: list[str], hits: NDArray[Any], n_true: NDArray[Any], n_predicted: NDArray[Any]
) -> list[dict[str, Any]]:
    """Return precision, recall and F1 of each label, and the number of rows that have it.

    `support` counts the rows that truly have the label, `n_predicted` those that are predicted to have it.
    """
    columns = rates_per_label(hits, n_true, n_predicted) | {"support": n_true, "n_predicted": n_predicted}
    values = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [{"label": name} | dict(zip(columns, row, strict=True)) for name, row in zip(names, values, strict=True)]


def _mean_where(values: Floats, included: NDArray[np.bool_]) -> Floats:
    return divide(np.where(included, values, 0.0).sum(-1), included.sum(-1))


def _matthews(hits: Floats, n_true: Floats, n_predicted: Floats) -> Floats:
    """Return Matthews correlation for any number of labels (Gorodkin 2004, eq. 8).

    0 if all true labels or all predicted labels are the same.
    """
    n_rows = n_true.sum(-1)
    covariance = hits.sum(-1) * n_rows - (n_true * n_predicted).sum(-1)
    deviation = np.sqrt(n_rows**2 - (n_true**2).sum(-1)) * np.sqrt(n_rows**2 - (n_predicted**2).sum(-1))
    return np.clip(divide(covariance, deviation), -1.0, 1.0)  # rounded square roots may give more than 1


def _kappa(hits: Floats, n_true: Floats, n_predicted: Floats) -> Floats:
    """Return Cohen's kappa (Cohen 1960, eq. 1); 0 if all labels and predictions are the same label."""
    n_rows = n_true.sum(-1)
    by_chance = (n_true * n_predicted).sum(-1)
    return divide(hits.sum(-1) * n_rows - by_chance, n_rows**2 - by_chance)
