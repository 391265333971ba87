"""Metrics of confusion counts (true label, predicted label), for many sets of counts at once.

Leading dimensions are kept, so the bootstrap scores a thousand resamples in one call. Each figure equals the one of
the same name in scikit-learn with its defaults and `zero_division=0`. In particular, a macro average is over the
labels that are true or predicted at least once. Balanced accuracy is over the labels that are true at least once.

Knows nothing of probabilities; see classification.py.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def scores_from_confusion(confusion: NDArray[Any]) -> dict[str, Floats]:
    """Figures of counts (..., C, C), true label down, predicted label across; each comes back as (...).

    Every set of counts must hold at least one row.
    """
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    return scores_from_margins(hits, confusion.sum(-1), confusion.sum(-2))


def scores_from_margins(hits: NDArray[Any], n_true: NDArray[Any], n_predicted: NDArray[Any]) -> dict[str, Floats]:
    """The same from, for each label (..., C), its rows predicted right, its true rows and its predicted rows."""
    hits, n_true, n_predicted = (np.asarray(counts, np.float64) for counts in (hits, n_true, n_predicted))
    accuracy = hits.sum(-1) / n_true.sum(-1)
    scores = {"accuracy": accuracy, "balanced_accuracy": _mean_where(divide(hits, n_true), n_true > 0)}
    scores |= average_rates(hits, n_true, n_predicted, (n_true > 0) | (n_predicted > 0))
    return scores | {"mcc": _matthews(hits, n_true, n_predicted)}


def rates_of_labels(
    hits: NDArray[Any], n_true: NDArray[Any], n_predicted: NDArray[Any]
) -> tuple[Floats, Floats, Floats]:
    """Precision, recall and F1 of each label; 0 where a rate has nothing to divide by."""
    return divide(hits, n_predicted), divide(hits, n_true), divide(2 * hits, n_true + n_predicted)


def average_rates(hits: Floats, n_true: Floats, n_predicted: Floats, counted: NDArray[np.bool_]) -> dict[str, Floats]:
    """`precision_macro` and its like. `counted` (..., C) are the labels of a macro average."""
    rates = rates_of_labels(hits, n_true, n_predicted)
    pooled = rates_of_labels(hits.sum(-1), n_true.sum(-1), n_predicted.sum(-1))
    averages = {}
    for name, rate, micro in zip(("precision", "recall", "f1"), rates, pooled, strict=True):
        averages[f"{name}_macro"] = _mean_where(rate, counted)
        averages[f"{name}_micro"] = micro
        averages[f"{name}_weighted"] = divide((rate * n_true).sum(-1), n_true.sum(-1))
    return averages


def divide(numerator: NDArray[Any], denominator: NDArray[Any]) -> Floats:
    """The quotient, 0 where there is nothing to divide by."""
    quotient = np.zeros(np.broadcast_shapes(np.shape(numerator), np.shape(denominator)))
    np.divide(numerator, denominator, out=quotient, where=np.asarray(denominator) > 0)
    return quotient


def tabulate_labels(
    names: list[str], hits: NDArray[Any], n_true: NDArray[Any], n_predicted: NDArray[Any]
) -> list[dict[str, Any]]:
    """For each label its precision, recall, F1, true rows (`support`) and predicted rows (`n_predicted`)."""
    precision, recall, f1 = rates_of_labels(hits, n_true, n_predicted)
    columns = {"precision": precision, "recall": recall, "f1": f1, "support": n_true, "n_predicted": n_predicted}
    values = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [{"label": name} | dict(zip(columns, row, strict=True)) for name, row in zip(names, values, strict=True)]


def _mean_where(values: Floats, counted: NDArray[np.bool_]) -> Floats:
    return divide(np.where(counted, values, 0.0).sum(-1), counted.sum(-1))


def _matthews(hits: Floats, n_true: Floats, n_predicted: Floats) -> Floats:
    """Matthews' correlation for any number of labels (Gorodkin 2004, eq. 8); 0 where either side is constant."""
    n = n_true.sum(-1)
    covariance = hits.sum(-1) * n - (n_true * n_predicted).sum(-1)
    deviation = np.sqrt(n**2 - (n_true**2).sum(-1)) * np.sqrt(n**2 - (n_predicted**2).sum(-1))
    quotient = np.zeros(np.shape(deviation))
    np.divide(covariance, deviation, out=quotient, where=deviation > 0)
    # Rounding of the square roots may lead a hair beyond one.
    np.clip(quotient, -1.0, 1.0, out=quotient)
    return quotient
