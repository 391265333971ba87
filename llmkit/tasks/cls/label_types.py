"""The label types (one label per row, several, or a number), and how one is chosen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from llmkit.config.cls import Cls
from llmkit.config.renamed import RENAMED_VALUES
from llmkit.core.errors import DataError, UsageError, did_you_mean
from llmkit.metrics.bootstrap import Bootstrap
from llmkit.metrics.classification import predict_single_label, score_single_label
from llmkit.metrics.multilabel import score_multi_label, tune_threshold, tune_thresholds
from llmkit.metrics.regression import score_regression
from llmkit.tables.label_columns import Columns
from llmkit.tables.label_forms import parse_list
from llmkit.tables.labelled import (
    Label,
    ParseLabel,
    parse_label,
    parse_labels,
    parse_number,
)
from llmkit.tasks.cls.label_type import PREDICTION, PROBABILITY, LabelType, Outputs, Thresholds
from llmkit.tasks.cls.metrics import MULTI_LABEL, REGRESSION, SINGLE_LABEL
from llmkit.text.records.rows import Row


@dataclass(frozen=True)
class SingleLabel(LabelType):
    """One label per row; cross-entropy.

    A positive label also gets its own F1. If there are two labels, its threshold is tuned to maximize that F1.
    """

    positive: int | None = None
    has_threshold: bool = False

    name, problem_type, describes_rows = "single_label", "single_label_classification", "one label per row"
    metrics, must_beat = SINGLE_LABEL, "accuracy"
    target_dtype, added_columns = torch.long, (PREDICTION, PROBABILITY)

    def parser(self, separator: str | None) -> ParseLabel:
        return parse_label

    def encode(self, labels: Sequence[Label], label2id: Mapping[str, int]) -> NDArray[Any]:
        return np.array([label2id[str(label)] for label in labels], np.int64)

    def count(self, labels: NDArray[Any], n_labels: int) -> NDArray[np.int64]:
        return np.bincount(labels, minlength=n_labels)

    def losses(self, scores: Tensor, labels: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
        return F.cross_entropy(scores, labels, weights, reduction="none", label_smoothing=smoothing)

    def true_probability(self, scores: Tensor, labels: Tensor) -> Tensor:
        return scores.softmax(-1).gather(-1, labels[:, None]).squeeze(-1)

    def balanced_weights(self, counts: NDArray[np.int64], n_rows: int) -> NDArray[np.float64]:
        weights: NDArray[np.float64] = n_rows / (len(counts) * counts)
        return weights

    def normalize_weights(
        self, weights: NDArray[np.float64], counts: NDArray[np.int64], n_rows: int
    ) -> NDArray[np.float64]:
        scaled: NDArray[np.float64] = weights * n_rows / (weights * counts).sum()  # mean 1 over the rows
        return scaled

    def to_outputs(self, scores: NDArray[np.float32], extra: Mapping[str, Any]) -> Outputs:
        scores64 = scores.astype(np.float64)
        odds = np.exp(scores64 - scores64.max(-1, keepdims=True))
        probabilities: Outputs = odds / odds.sum(-1, keepdims=True)
        return probabilities

    @property
    def tunes_thresholds(self) -> bool:
        return self.has_threshold

    def with_positive(self, label: str | None, label2id: Mapping[str, int]) -> "SingleLabel":
        if label is not None and label not in label2id:
            raise UsageError(
                f"there is no label {label!r}", where="cls.positive_label", hint=did_you_mean(label, label2id)
            )
        return SingleLabel() if label is None else SingleLabel(label2id[label], has_threshold=len(label2id) == 2)

    def predict(self, outputs: Outputs, thresholds: Thresholds) -> NDArray[Any]:
        positive = 1 if self.positive is None else self.positive
        return predict_single_label(outputs, self._threshold(thresholds), positive)

    def best_thresholds(self, labels: NDArray[Any], outputs: Outputs, n_labels: int) -> Thresholds:
        best = super().best_thresholds(labels, outputs, n_labels)
        if self.positive is not None and self.has_threshold:
            threshold = tune_threshold(labels == self.positive, outputs[:, self.positive])
            best[[self.positive, 1 - self.positive]] = threshold, 1 - threshold
        return best

    @property
    def best_by(self) -> str:
        return self.metrics.best_by if self.positive is None else "f1_positive"

    def _threshold(self, thresholds: Thresholds) -> float:
        return float(thresholds[self.positive]) if self.positive is not None and self.has_threshold else 0.5

    def to_cells(self, predicted: Any, output: Any, names: Sequence[str]) -> dict[str, Any]:
        return {PREDICTION: names[predicted], PROBABILITY: round(float(output[predicted]), 6)}

    def format_label(self, label: Any, names: Sequence[str]) -> str:
        return names[int(label)]

    def measure(
        self, labels: NDArray[Any], outputs: Outputs, names: list[str], thresholds: Thresholds, bootstrap: Bootstrap
    ) -> dict[str, Any]:
        threshold = self._threshold(thresholds)
        return score_single_label(labels, outputs, names, bootstrap, positive=self.positive, threshold=threshold)

    def rate_errors(
        self, labels: NDArray[Any], outputs: Outputs, thresholds: Thresholds
    ) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        predicted = self.predict(outputs, thresholds)
        return predicted != labels, outputs[np.arange(len(outputs)), predicted]

    def make_labels(self, names: Sequence[str]) -> NDArray[Any]:
        return np.repeat(np.arange(len(names)), 2)


class MultiLabel(LabelType):
    """Any number of labels per row; binary cross-entropy, and one threshold per label."""

    name, problem_type, describes_rows = "multi_label", "multi_label_classification", "several labels per row"
    describes_model = "classifier of {n_labels} labels, of which a text may have several (thresholds in config.json)"
    metrics, must_beat = MULTI_LABEL, "f1_micro"

    @property
    def tunes_thresholds(self) -> bool:
        return True

    def parser(self, separator: str | None) -> ParseLabel:
        return lambda cell: parse_labels(cell, separator)

    def encode(self, labels: Sequence[Label], label2id: Mapping[str, int]) -> NDArray[Any]:
        marks = np.zeros((len(labels), len(label2id)), np.int8)
        for row, label in enumerate(labels):
            marks[row, [label2id[name] for name in self.names_in(label)]] = 1
        return marks

    def count(self, labels: NDArray[Any], n_labels: int) -> NDArray[np.int64]:
        counts: NDArray[np.int64] = labels.sum(0)
        return counts

    def label_frequencies(self, labels: NDArray[Any]) -> list[float]:
        return [float(share) for share in labels.mean(0)]

    def losses(self, scores: Tensor, labels: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
        targets = labels * (1 - smoothing) + smoothing / 2
        return F.binary_cross_entropy_with_logits(scores, targets, pos_weight=weights, reduction="none")

    def true_probability(self, scores: Tensor, labels: Tensor) -> Tensor:
        return torch.sigmoid(torch.where(labels > 0, scores, -scores))

    def balanced_weights(self, counts: NDArray[np.int64], n_rows: int) -> NDArray[np.float64]:
        weights: NDArray[np.float64] = (n_rows - counts) / counts
        return weights

    def to_outputs(self, scores: NDArray[np.float32], extra: Mapping[str, Any]) -> Outputs:
        return np.exp(-np.logaddexp(0, -scores.astype(np.float64)))  # sigmoid without overflow

    def predict(self, outputs: Outputs, thresholds: Thresholds) -> NDArray[Any]:
        return outputs >= thresholds

    def to_cells(self, predicted: Any, output: Any, names: Sequence[str]) -> dict[str, Any]:
        return {PREDICTION: [name for name, marked in zip(names, predicted, strict=True) if marked]}

    def format_label(self, label: Any, names: Sequence[str]) -> str:
        return ", ".join(name for name, marked in zip(names, label, strict=True) if marked) or "none"

    def measure(
        self, labels: NDArray[Any], outputs: Outputs, names: list[str], thresholds: Thresholds, bootstrap: Bootstrap
    ) -> dict[str, Any]:
        return score_multi_label(labels.astype(bool), outputs, thresholds, names, bootstrap)

    def best_thresholds(self, labels: NDArray[Any], outputs: Outputs, n_labels: int) -> Thresholds:
        return tune_thresholds(labels.astype(bool), outputs)

    def rate_errors(
        self, labels: NDArray[Any], outputs: Outputs, thresholds: Thresholds
    ) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        is_wrong = (outputs >= thresholds) != labels.astype(bool)
        true_probability = np.where(is_wrong, np.abs(outputs - (1 - labels)), 1.0)
        return is_wrong.any(-1), 1 - true_probability.min(-1)


class Regression(LabelType):
    """One number per row; squared error on standardized labels."""

    name, problem_type, describes_rows = "regression", "regression", "a number per row"
    describes_model = "regression model"
    metrics, must_beat = REGRESSION, "mse"
    has_names = False

    def parser(self, separator: str | None) -> ParseLabel:
        return parse_number

    def build_label2id(self, labels: Sequence[Label], column: str, where: str) -> dict[str, int]:
        if len(set(labels)) == 1:
            what = f"all {len(labels):,} rows have the number {labels[0]}: there is nothing to learn"
            raise DataError(what, where=where, hint="give rows with different numbers; is this the label column?")
        return {column or "value": 0}

    def names_in(self, label: Label) -> tuple[str, ...]:
        return ()

    def encode(self, labels: Sequence[Label], label2id: Mapping[str, int]) -> NDArray[Any]:
        return np.array(labels, np.float64)

    def count(self, labels: NDArray[Any], n_labels: int) -> NDArray[np.int64]:
        return np.array([len(labels)])

    def summarize(self, labels: NDArray[Any], label2id: Mapping[str, int]) -> dict[str, Any]:
        return {"mean": float(labels.mean()), "std": float(labels.std())}

    def target_scale(self, labels: NDArray[Any]) -> tuple[float, float]:
        return float(labels.mean()), float(labels.std()) or 1.0

    def scale(self, labels: NDArray[Any], mean: float, std: float) -> NDArray[Any]:
        return (labels - mean) / std

    def losses(self, scores: Tensor, labels: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
        return F.mse_loss(scores.squeeze(-1), labels, reduction="none")

    def to_outputs(self, scores: NDArray[np.float32], extra: Mapping[str, Any]) -> Outputs:
        scores64 = scores.astype(np.float64)[:, 0]
        return scores64 * float(extra.get("target_std", 1.0)) + float(extra.get("target_mean", 0.0))

    def predict(self, outputs: Outputs, thresholds: Thresholds) -> NDArray[Any]:
        return outputs

    def to_cells(self, predicted: Any, output: Any, names: Sequence[str]) -> dict[str, Any]:
        return {PREDICTION: round(float(predicted), 6)}

    def format_label(self, label: Any, names: Sequence[str]) -> str:
        return f"{float(label):.4g}"

    def measure(
        self, labels: NDArray[Any], outputs: Outputs, names: list[str], thresholds: Thresholds, bootstrap: Bootstrap
    ) -> dict[str, Any]:
        return score_regression(labels, outputs, bootstrap)

    def constant_outputs(self, n_rows: int, n_labels: int) -> Outputs:
        return np.zeros(n_rows)

    def make_labels(self, names: Sequence[str]) -> NDArray[Any]:
        return np.arange(10.0)

    def rate_errors(
        self, labels: NDArray[Any], outputs: Outputs, thresholds: Thresholds
    ) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        return np.ones(len(labels), bool), np.abs(outputs - labels)


LABEL_TYPES: dict[str, LabelType] = {each.name: each for each in (SingleLabel(), MultiLabel(), Regression())}
OLD_NAMES = RENAMED_VALUES["cls", "labels"]
"""Names that models and runs of 0.1.0 use."""


def get_label_type(name: str) -> LabelType:
    """Return the label type of a recipe, a manifest or a model's configuration."""
    return LABEL_TYPES[OLD_NAMES.get(name, name)]


def choose_label_type(section: Cls, sample: Sequence[Row], columns: Columns) -> LabelType:
    """Return the label type of the section; `auto` is multi-label with a separator or a list, else single-label."""
    if section.labels != "auto":
        return LABEL_TYPES[section.labels]
    cells = [row.cells.get(columns.label) for row in sample] if columns.label else []
    written = [cell for cell in cells if isinstance(cell, str) and parse_list(cell) is not None]
    lists = any(isinstance(cell, list) for cell in cells) or 2 * len(written) > len(cells) > 0
    return LABEL_TYPES["multi_label" if section.separator or lists else "single_label"]
