"""Predictions come back as they were saved, and two runs are compared row by row."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score

from llmkit.core.errors import ModelError
from llmkit.metrics.multilabel import score_multi_label
from llmkit.metrics.regression import score_regression
from llmkit.tasks.cls.saved_predictions import (
    SavedPredictions,
    choose_measure,
    compare_predictions,
    load_predictions,
    save_predictions,
)

NAMES = ["a", "b", "c"]


def make(labels: Any, predictions: Any, kind: str = "single_label", **more: Any) -> SavedPredictions:
    keys = np.arange(len(labels), dtype=np.uint64)
    return SavedPredictions(kind, more.pop("names", NAMES), keys, np.array(labels), np.array(predictions), **more)


def test_saved_rows_come_back_in_the_order_of_their_keys(tmp_path: Path) -> None:
    saved = make([0, 1, 2], [0, 2, 2], names=["é", "汉", "c"])._replace(keys=np.array([7, 3, 2**63], np.uint64))
    save_predictions(tmp_path, "test", saved)
    found = load_predictions(tmp_path, "test")
    assert found is not None and found.names == ["é", "汉", "c"] and found.label_type == "single_label"
    assert found.keys.tolist() == [3, 7, 2**63] and found.labels.tolist() == [1, 0, 2]
    assert found.predictions.tolist() == [2, 0, 2]
    assert load_predictions(tmp_path, "validation") is None
    assert (tmp_path / "predictions/test.safetensors").stat().st_size < 1000


@pytest.mark.parametrize("damage", ["cut", "ids", "size"])
def test_damaged_file_is_named_with_the_command_that_writes_it_again(tmp_path: Path, damage: str) -> None:
    labels = [0, 1, 9] if damage == "ids" else [0, 1, 2]
    saved = make(labels, [0, 1, 2])
    save_predictions(tmp_path, "test", saved._replace(keys=saved.keys[:2]) if damage == "size" else saved)
    path = tmp_path / "predictions/test.safetensors"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ModelError, match="damaged") as caught:
        load_predictions(tmp_path, "test")
    assert f"llmkit eval {tmp_path} --split test" in str(caught.value)


def test_runs_are_compared_by_the_names_of_labels_and_only_on_the_same_rows() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 200)
    good, bad = (np.where(rng.random(200) < share, labels, (labels + 1) % 3) for share in (0.95, 0.6))
    first, second = make(labels, good), make(labels, bad)
    turned = np.array([2, 0, 1])  # the ids of a, b, c among c, a, b
    moved = make(np.argsort(turned)[labels], np.argsort(turned)[bad], names=["c", "a", "b"])
    for other in (second, moved):
        found = compare_predictions(first, other, "accuracy")
        assert found is not None and found.difference == pytest.approx((good == labels).mean() - (bad == labels).mean())
        assert found.p_value < 0.001
    found = compare_predictions(first, second, "f1_macro")
    assert found is not None
    expected = f1_score(labels, good, average="macro") - f1_score(labels, bad, average="macro")
    assert found.difference == pytest.approx(expected)
    assert compare_predictions(first, second, "log_loss") is None
    assert compare_predictions(first, second._replace(keys=second.keys + 1), "accuracy") is None
    assert compare_predictions(first, make((labels + 1) % 3, bad), "accuracy") is None
    assert compare_predictions(first, make(labels, bad, names=["a", "b", "d"]), "accuracy") is None


def test_measures_equal_those_of_metrics_json() -> None:
    rng = np.random.default_rng(3)
    marks, probabilities = rng.random((60, 3)) < 0.4, rng.random((60, 3))
    full = score_multi_label(marks, probabilities, np.full(3, 0.5), NAMES)
    saved = make(marks.astype(np.uint8), (probabilities >= 0.5).astype(np.uint8), "multi_label")
    for metric in ("f1_micro", "f1_macro", "accuracy"):
        measure = choose_measure(saved, metric)
        assert measure is not None and measure(saved.labels, saved.predictions) == pytest.approx(full[metric])
    numbers = rng.normal(size=60)
    guesses = numbers + rng.normal(size=60)
    full = score_regression(numbers, guesses)
    saved = make(numbers, guesses, "regression")
    for metric in ("mse", "mae", "pearson"):
        measure = choose_measure(saved, metric)
        assert measure is not None and measure(numbers, guesses) == pytest.approx(full[metric])
    assert choose_measure(saved, "r2") is None
    binary = make([0, 1, 1, 0], [0, 1, 0, 0], names=["a", "b"], positive="a")
    measure = choose_measure(binary, "f1_positive")
    assert measure is not None and measure(binary.labels, binary.predictions) == pytest.approx(0.8)
