"""The figures of a classifier by the kind of its labels, and the rows where it is most wrong."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmkit.metrics.classification import score_single
from llmkit.metrics.multilabel import score_multiple, tune_thresholds
from llmkit.metrics.regression import score_regression
from llmkit.tables.labelled import Kind

BEST_BY = {"single": "f1_macro", "multiple": "average_precision_micro", "regression": "mse"}
"""What the best weights are chosen by unless the recipe says otherwise."""
LOWER_IS_BETTER = ("loss", "log_loss", "brier_score", "calibration_error", "hamming_loss", "mse", "rmse", "mae")


def measure(
    kind: Kind, labels: NDArray[Any], outputs: NDArray[np.float64], names: Sequence[str],
    thresholds: NDArray[np.float64], *, seed: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """All figures, tables and intervals of the rows: see classification.py, multilabel.py, regression.py."""
    if kind == "regression":
        return score_regression(labels, outputs, seed=seed)
    if kind == "single":
        return score_single(labels, outputs, list(names), seed=seed)
    return score_multiple(labels.astype(bool), outputs, thresholds, list(names), seed=seed)


def measure_quickly(
    kind: Kind, labels: NDArray[Any], outputs: NDArray[np.float64], names: Sequence[str]
) -> dict[str, float | None]:
    """The single figures only, for a look while training; several labels by the thresholds that are best here."""
    if kind == "regression":
        metrics = score_regression(labels, outputs, n_resamples=1)
    elif kind == "single":
        metrics = score_single(labels, outputs, list(names), n_resamples=1)
    else:
        thresholds = tune_thresholds(labels.astype(bool), outputs)
        metrics = score_multiple(labels.astype(bool), outputs, thresholds, list(names), n_resamples=1)
    return {name: value for name, value in metrics.items() if value is None or isinstance(value, float)}


def guess(kind: Kind, outputs: NDArray[np.float64], thresholds: NDArray[np.float64]) -> NDArray[Any]:
    """(rows,) ids; (rows, labels) marks; or (rows,) numbers as they are."""
    if kind == "regression":
        return outputs
    return outputs.argmax(-1) if kind == "single" else outputs >= thresholds


def find_mistakes(
    kind: Kind, labels: NDArray[Any], outputs: NDArray[np.float64], thresholds: NDArray[np.float64], n_most: int
) -> list[tuple[float, int]]:
    """(how wrong, row) of the worst rows, the worst first: by the probability of the wrong guess, for several labels
    by the probability that was given against the truth, for numbers by the distance."""
    guesses = guess(kind, outputs, thresholds)
    if kind == "regression":
        wrong, how = np.ones(len(labels), bool), np.abs(outputs - labels)
    elif kind == "single":
        wrong, how = guesses != labels, outputs.max(-1)
    else:
        wrong = (guesses != labels.astype(bool)).any(-1)
        how = np.where(guesses != labels.astype(bool), np.abs(outputs - (1 - labels)), 1.0)
        how = 1 - how.min(-1)
    rows = np.flatnonzero(wrong)
    rows = rows[np.argsort(-how[rows], kind="stable")][:n_most]
    return [(float(how[row]), int(row)) for row in rows]
