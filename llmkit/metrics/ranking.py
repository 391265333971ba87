"""How well scores put the true before the false, whatever the threshold: ROC AUC and average precision.

Equal scores are one step: their order in the file is never rewarded.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def measure_ranking(is_true: NDArray[np.bool_], scores: NDArray[Any]) -> tuple[float | None, float | None]:
    """Area under the ROC curve and average precision of (n,) scores; None where there is nothing to tell apart.

    Average precision is the sum of precisions weighted by the gain in recall, not interpolated, as scikit-learn's.
    """
    order = np.argsort(scores, kind="stable")[::-1]
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    hits = np.cumsum(is_true[order], dtype=np.float64)[ends]
    misses = ends + 1 - hits
    n_true, n_false = hits[-1], misses[-1]
    if not n_true:
        return None, None
    gains = np.diff(hits, prepend=0.0)
    precision = float((gains * hits / (hits + misses)).sum() / n_true)
    if not n_false:
        return None, precision
    area = (np.diff(misses, prepend=0.0) * (hits - gains / 2)).sum() / (n_true * n_false)
    return float(area), precision


def mean_of_defined(values: list[float | None]) -> float | None:
    """The mean of those that are defined; None if none is."""
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None
