"""The labels and predictions for the held-out rows of a run, saved in its folder, so that `compare` can test two runs.

For each row, the file has the hash of its texts, its label and its prediction, about 10 bytes in total; see
tasks/saved_arrays.py. Does not import torch.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmkit.metrics.class_scores import average_rates, rates_per_label, scores_from_margins
from llmkit.metrics.paired import Measure, PairedTest, compare_correctness, compare_paired
from llmkit.tasks.saved_arrays import Arrays, load_arrays, save_arrays, shrink


class SavedPredictions(NamedTuple):
    """Predictions of one split; the arrays have one entry per row, in the order of `keys`."""

    label_type: str
    names: list[str]
    """Label names by id."""
    keys: NDArray[np.uint64]
    """Hash of the row's texts, see `hash_row`."""
    labels: NDArray[Any]
    """(rows,) ids, (rows, labels) zeros and ones, or (rows,) numbers."""
    predictions: NDArray[Any]
    positive: str = ""
    """The positive label; empty if there is none."""


def save_predictions(run: Path, split: str, saved: SavedPredictions) -> None:
    """Write the predictions of a split to a run folder, atomically."""
    arrays = {"keys": saved.keys, "labels": shrink(saved.labels), "predictions": shrink(saved.predictions)}
    names = json.dumps(saved.names, ensure_ascii=False)
    save_arrays(run, split, arrays, {"label_type": saved.label_type, "labels": names, "positive": saved.positive})


def load_predictions(run: Path, split: str) -> SavedPredictions | None:
    """Return the predictions of a split, rows sorted by key and label; None if the run has none.

    Raises:
        ModelError: the file is damaged.
    """
    return load_arrays(run, split, _parse)


def _parse(arrays: Arrays, facts: Mapping[str, str]) -> SavedPredictions:
    keys, labels, predictions = (arrays[name] for name in ("keys", "labels", "predictions"))
    names = json.loads(facts["labels"])
    found = SavedPredictions(facts["label_type"], names, keys, labels, predictions, facts.get("positive", ""))
    _check(found)
    columns = labels.reshape(len(keys), -1).T
    order = np.lexsort((*columns[:8], keys))
    return found._replace(keys=keys[order], labels=labels[order], predictions=predictions[order])


def compare_predictions(first: SavedPredictions, second: SavedPredictions, metric: str) -> PairedTest | None:
    """Test the difference of a metric between two runs; None if the rows or their labels are not the same, or if the
    metric needs more than predictions.
    """
    if first.label_type != second.label_type or set(first.names) != set(second.names):
        return None
    if first.label_type != "regression" and first.names != second.names:
        second = _reorder(second, first.names)
    if not np.array_equal(first.keys, second.keys) or not np.array_equal(first.labels, second.labels):
        return None
    if metric == "accuracy" and first.label_type != "regression":
        return compare_correctness(_is_right(first), _is_right(second))
    measure = choose_measure(first, metric)
    return None if measure is None else compare_paired(first.labels, first.predictions, second.predictions, measure)


def choose_measure(saved: SavedPredictions, metric: str) -> Measure | None:
    """Return the function that computes a metric from labels and predictions; None if it needs more than these."""
    if saved.label_type == "regression":
        return {"mse": _mse, "mae": _mae, "pearson": _pearson}.get(metric)
    n_labels = len(saved.names)
    if saved.label_type == "multi_label":
        known = metric in ("f1_micro", "f1_macro", "accuracy")
        return (lambda labels, predictions: _score_sets(labels, predictions)[metric]) if known else None
    if metric == "f1_positive" and saved.positive in saved.names:
        positive = saved.names.index(saved.positive)
        return lambda labels, predictions: float(
            rates_per_label(*_count(labels, predictions, n_labels))["f1"][positive]
        )
    known = metric in ("accuracy", "balanced_accuracy", "f1_macro", "f1_micro", "mcc", "cohen_kappa")
    if not known:
        return None
    return lambda labels, predictions: float(scores_from_margins(*_count(labels, predictions, n_labels))[metric])


def _count(labels: NDArray[Any], predictions: NDArray[Any], n_labels: int) -> tuple[NDArray[Any], ...]:
    """Return the number of correct, true and predicted rows per label, (labels,) each."""
    right = labels[labels == predictions]
    hits, n_true, n_predicted = (np.bincount(ids, minlength=n_labels) for ids in (right, labels, predictions))
    return hits, n_true, n_predicted


def _score_sets(labels: NDArray[Any], predictions: NDArray[Any]) -> dict[str, float]:
    marks = (labels & predictions, labels, predictions)
    hits, n_true, n_predicted = (each.sum(0, dtype=np.float64) for each in marks)
    rates = average_rates(hits, n_true, n_predicted, np.ones(labels.shape[1], bool))
    accuracy = float((labels == predictions).all(1).mean())
    return {"accuracy": accuracy} | {name: float(rates[name]) for name in ("f1_micro", "f1_macro")}


def _mse(labels: NDArray[Any], predictions: NDArray[Any]) -> float:
    return float(np.square(predictions - labels).mean())


def _mae(labels: NDArray[Any], predictions: NDArray[Any]) -> float:
    return float(np.abs(predictions - labels).mean())


def _pearson(labels: NDArray[Any], predictions: NDArray[Any]) -> float:
    one, other = labels - labels.mean(), predictions - predictions.mean()
    size = float(np.sqrt((one * one).sum() * (other * other).sum()))
    return float((one * other).sum()) / size if size else float("nan")


def _is_right(saved: SavedPredictions) -> NDArray[np.bool_]:
    same = saved.labels == saved.predictions
    right: NDArray[np.bool_] = same.all(1) if same.ndim == 2 else same
    return right


def _reorder(saved: SavedPredictions, names: Sequence[str]) -> SavedPredictions:
    """Return the predictions with label ids as in `names`."""
    if saved.labels.ndim == 2:
        columns = [saved.names.index(name) for name in names]
        labels, predictions = saved.labels[:, columns], saved.predictions[:, columns]
    else:
        ids = np.array([names.index(name) for name in saved.names])
        labels, predictions = ids[saved.labels], ids[saved.predictions]
    return saved._replace(names=list(names), labels=labels, predictions=predictions)


def _check(saved: SavedPredictions) -> None:
    n_rows, n_labels = len(saved.keys), len(saved.names)
    shape = (n_rows, n_labels) if saved.label_type == "multi_label" else (n_rows,)
    if saved.keys.dtype != np.uint64 or saved.labels.shape != shape or saved.predictions.shape != shape:
        raise ValueError("arrays of the wrong size")
    largest = {"multi_label": 1, "single_label": n_labels - 1}.get(saved.label_type)
    for each in (saved.labels, saved.predictions):
        is_number = each.dtype.kind == "f" and bool(np.isfinite(each).all())
        if not n_rows or not (is_number if largest is None else each.dtype.kind == "u" and each.max() <= largest):
            raise ValueError("labels out of range")
