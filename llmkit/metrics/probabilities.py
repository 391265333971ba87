"""Quality of predicted probabilities: calibration, ROC and precision-recall curves with their areas.

Rows with equal scores share one rank, so results do not depend on the order of the rows.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmkit.core.errors import ModelError
from llmkit.metrics.class_scores import divide

N_BINS = 15
MAX_CURVE_LABELS = 10
"""Maximum number of labels for which curves are stored."""
MAX_CURVE_POINTS = 100
"""Maximum number of points of a stored curve; the areas are computed from all points."""


def measure_calibration(probabilities: NDArray[Any], is_right: NDArray[np.bool_]) -> dict[str, Any]:
    """Return `calibration_error` and, for a plot, `calibration`: 15 bins of equal width, which may be empty.

    The error is the expected calibration error of Guo et al. 2017, eq. 3: the difference between mean probability
    (`confidence`) and accuracy of each bin, averaged with the bin sizes as weights. A bin includes its upper bound and
    excludes its lower bound, except that the first bin includes 0.
    """
    probabilities, is_right = probabilities.ravel(), is_right.ravel()
    places = np.clip(np.ceil(probabilities.astype(np.float64) * N_BINS).astype(np.int64) - 1, 0, N_BINS - 1)
    counts = np.bincount(places, minlength=N_BINS)
    confidence = divide(np.bincount(places, probabilities, N_BINS), counts)
    accuracy = divide(np.bincount(places, is_right, N_BINS), counts)
    bins = [
        {"lower": i / N_BINS, "upper": (i + 1) / N_BINS, "n": n}
        | {"confidence": float(confidence[i]) if n else None, "accuracy": float(accuracy[i]) if n else None}
        for i, n in enumerate(counts.tolist())
    ]
    error = float((np.abs(confidence - accuracy) * counts).sum() / counts.sum())
    return {"calibration_error": error, "calibration": bins}


def clip_probabilities(probabilities: NDArray[Any]) -> NDArray[np.float64]:
    """Clip to [eps, 1 - eps] to avoid the logarithm of 0; eps depends on the input dtype, as in scikit-learn."""
    eps = np.finfo(probabilities.dtype).eps
    return probabilities.clip(eps, 1 - eps).astype(np.float64)


def check_outputs(outputs: NDArray[Any], n_rows: int) -> None:
    """Check that there are `n_rows` finite outputs; sorting would hide a NaN.

    Raises:
        ModelError: an output is not finite.
        ValueError: `n_rows` is 0 or differs from the number of outputs.
    """
    if not n_rows or len(outputs) != n_rows:
        raise ValueError(f"{n_rows} labels and {len(outputs)} outputs of the model")
    n_bad = n_rows - int(np.isfinite(outputs.reshape(n_rows, -1)).all(1).sum())
    if n_bad:
        what = f"the model's output is not finite for {n_bad:,} of {n_rows:,} rows"
        hint = "the weights are not usable: use an earlier checkpoint, or train with a lower learning rate"
        raise ModelError(what, where="the scored rows", hint=hint)


def measure_ranking(is_true: NDArray[np.bool_], scores: NDArray[Any]) -> tuple[float | None, float | None]:
    """Return the area under the ROC curve and the average precision of scores (n,); None if undefined.

    The area is undefined if all rows have the same label; average precision is undefined if no row is true. Average
    precision is the sum of precisions weighted by the increase in recall, without interpolation, as in scikit-learn.
    """
    hits, misses = _count_above(is_true, scores)
    n_true, n_false = hits[-1], misses[-1]
    if not n_true:
        return None, None
    gains = np.diff(hits, prepend=0.0)
    precision = float((gains * hits / (hits + misses)).sum() / n_true)
    if not n_false:
        return None, precision
    area = (np.diff(misses, prepend=0.0) * (hits - gains / 2)).sum() / (n_true * n_false)
    return float(area), precision


def _count_above(is_true: NDArray[np.bool_], scores: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the numbers of true and false rows at or above each distinct score, in descending order of the scores."""
    order = np.argsort(scores, kind="stable")[::-1]
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    hits = np.cumsum(is_true[order], dtype=np.float64)[ends]
    return hits, ends + 1 - hits


def trace_curves(is_true: NDArray[np.bool_], scores: NDArray[Any]) -> dict[str, list[list[float]]]:
    """Return the ROC curve `roc` as points (false positive rate, true positive rate) and the precision-recall curve
    `pr` as points (recall, precision), both by ascending x. Undefined curves are omitted.

    The points equal those of scikit-learn's `roc_curve` and `precision_recall_curve`: one per distinct score, and the
    end points. Points on straight lines are dropped. Longer curves are reduced to MAX_CURVE_POINTS points, evenly
    spaced along the curve.
    """
    hits, misses = (np.append(0.0, counts) for counts in _count_above(is_true, scores))
    curves = {}
    if hits[-1] and misses[-1]:
        curves["roc"] = _thin_curve(misses / misses[-1], hits / hits[-1])
    if hits[-1]:
        precision = np.append(1.0, hits[1:] / (hits[1:] + misses[1:]))
        end = int(np.argmax(hits == hits[-1])) + 1  # below the lowest score of a true row, recall stays 1
        curves["pr"] = _thin_curve((hits / hits[-1])[:end], precision[:end])
    return curves


def curves_by_label(
    names: list[str], columns: list[tuple[NDArray[np.bool_], NDArray[Any]]]
) -> dict[str, list[dict[str, Any]]]:
    """Return the entry `curves` of metrics.json: areas and curves per label, from (is_true, scores) of each label.

    Empty if there are more than MAX_CURVE_LABELS labels.
    """
    if len(names) > MAX_CURVE_LABELS:
        return {}
    found = []
    for name, (is_true, scores) in zip(names, columns, strict=True):
        area, precision = measure_ranking(is_true, scores)
        areas = {"roc_auc": area, "average_precision": precision, "share": float(is_true.mean())}
        found.append({"label": name} | areas | trace_curves(is_true, scores))
    return {"curves": found}


def _thin_curve(x: NDArray[np.float64], y: NDArray[np.float64]) -> list[list[float]]:
    """Drop points on straight lines, and reduce the curve to MAX_CURVE_POINTS evenly spaced points; returns [x, y]."""
    bends = np.diff(x[:-1]) * np.diff(y[1:]) != np.diff(x[1:]) * np.diff(y[:-1])
    kept = np.flatnonzero(np.concatenate([[True], bends, [True]])[: len(x)])
    if len(kept) > MAX_CURVE_POINTS:
        length = np.append(0.0, np.cumsum(np.abs(np.diff(x[kept])) + np.abs(np.diff(y[kept]))))
        marks = np.linspace(0, length[-1], MAX_CURVE_POINTS)
        kept = kept[np.unique(np.append(np.searchsorted(length, marks[:-1]), len(kept) - 1))]
    return [np.round(x[kept], 6).tolist(), np.round(y[kept], 6).tolist()]


def average_rankings(rankings: list[tuple[float | None, float | None]]) -> tuple[float | None, float | None]:
    """Average both values of `measure_ranking` over the labels for which they are defined; None if there are none."""
    areas, precisions = ([value for value in column if value is not None] for column in zip(*rankings, strict=True))
    return (sum(areas) / len(areas) if areas else None, sum(precisions) / len(precisions) if precisions else None)
