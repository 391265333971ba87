"""The contract of a label type: how labels are read, learned, predicted, measured and shown.

Labels are arrays: (rows,) ids, (rows, labels) zeros and ones, or (rows,) numbers. Outputs are (rows, labels)
probabilities, or (rows,) numbers in the unit of the train file.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmkit.metrics.spec import MetricSet
from llmkit.tables.labelled import Label, ParseLabel

PREDICTION, PROBABILITY = "prediction", "probability"
"""Columns of the output of `predict`."""
Outputs = NDArray[np.float64]
Thresholds = NDArray[np.float64]


class LabelType(ABC):
    """One type of labels; label_types.py has all of them."""

    name: ClassVar[str]
    problem_type: ClassVar[str]
    """transformers' name for it."""
    describes_rows: ClassVar[str]
    metrics: ClassVar[MetricSet]
    must_beat: ClassVar[str]
    """The metric that tells whether a model is better than a constant prediction."""
    tunes_thresholds: ClassVar[bool] = False
    has_names: ClassVar[bool] = True
    """Whether labels are classes with names and probabilities."""
    target_dtype: ClassVar[torch.dtype] = torch.float32

    # ---- reading ----

    @abstractmethod
    def parser(self, separator: str | None) -> ParseLabel:
        """A function that parses a cell; `separator` divides several labels of one cell."""

    @abstractmethod
    def build_label2id(self, labels: Sequence[Label], column: str, where: str) -> dict[str, int]:
        """The label2id of the train rows.

        Raises:
            DataError: all rows have the same label.
        """

    @abstractmethod
    def names_in(self, label: Label) -> tuple[str, ...]:
        """The label names of one row; empty for a number."""

    @abstractmethod
    def encode(self, labels: Sequence[Label], label2id: Mapping[str, int]) -> NDArray[Any]:
        """Labels as an array."""

    @abstractmethod
    def count(self, labels: NDArray[Any], n_labels: int) -> NDArray[np.int64]:
        """The number of rows with each label, (labels,)."""

    def summarize(self, labels: NDArray[Any], label2id: Mapping[str, int]) -> dict[str, Any]:
        """For the run's manifest: the number of rows with each label."""
        return {"labels": dict(zip(label2id, map(int, self.count(labels, len(label2id))), strict=True))}

    def label_frequencies(self, labels: NDArray[Any]) -> list[float]:
        """The fraction of rows with each label, for the bias of a new head; empty if it has no such bias."""
        return []

    # ---- learning ----

    def target_scale(self, labels: NDArray[Any]) -> tuple[float, float]:
        """Mean and standard deviation that standardize the labels."""
        return 0.0, 1.0

    def scale(self, labels: NDArray[Any], mean: float, std: float) -> NDArray[Any]:
        """Standardized labels."""
        return labels

    @abstractmethod
    def losses(self, scores: Tensor, labels: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
        """The loss of each row, or of each row and label, from fp32 scores (rows, labels)."""

    def true_probability(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Probability of the true label, in the shape of the losses; the focal loss needs it."""
        raise TypeError(f"{self.name} has no focal loss")

    def balanced_weights(self, counts: NDArray[np.int64], n_rows: int) -> NDArray[np.float64]:
        """Weights that balance rare and common labels, (labels,)."""
        raise TypeError(f"{self.name} has no weights of labels")

    def normalize_weights(
        self, weights: NDArray[np.float64], counts: NDArray[np.int64], n_rows: int
    ) -> NDArray[np.float64]:
        """The user's weights, normalized so that the loss keeps its scale."""
        return weights

    # ---- predicting ----

    @abstractmethod
    def to_outputs(self, scores: NDArray[np.float32], extra: Mapping[str, Any]) -> Outputs:
        """Logits (rows, labels) as outputs; `extra` is what was saved with the model."""

    @abstractmethod
    def predict(self, outputs: Outputs, thresholds: Thresholds) -> NDArray[Any]:
        """Predicted labels, of the shape of labels."""

    @abstractmethod
    def columns(self, names: Sequence[str], *, all_probabilities: bool) -> list[str]:
        """The columns that `predict` adds."""

    @abstractmethod
    def to_cells(self, predicted: Any, output: Any, names: Sequence[str]) -> dict[str, Any]:
        """The cells of one row, without those of `all_probabilities`."""

    @abstractmethod
    def format_label(self, label: Any, names: Sequence[str]) -> str:
        """The label of one row as text."""

    # ---- measuring ----

    @abstractmethod
    def measure(
        self, labels: NDArray[Any], outputs: Outputs, names: Sequence[str], thresholds: Thresholds, *, seed: int = 0,
        n_resamples: int = 1000,
    ) -> dict[str, Any]:  # fmt: skip
        """All metrics with tables and intervals; see metrics/."""

    def best_thresholds(self, labels: NDArray[Any], outputs: Outputs, n_labels: int) -> Thresholds:
        """The thresholds that maximize F1 on these rows."""
        return np.full(n_labels, 0.5)

    def measure_quickly(self, labels: NDArray[Any], outputs: Outputs, names: Sequence[str]) -> dict[str, float | None]:
        """The metrics that are single numbers, for evaluations during training; thresholds are tuned on the rows."""
        thresholds = self.best_thresholds(labels, outputs, len(names))
        metrics = self.measure(labels, outputs, names, thresholds, n_resamples=1)
        return {name: value for name, value in metrics.items() if value is None or isinstance(value, float)}

    def constant_outputs(self, n_rows: int, n_labels: int) -> Outputs:
        """Outputs of a constant prediction."""
        return np.full((n_rows, n_labels), 1 / n_labels)

    @abstractmethod
    def rate_errors(
        self, labels: NDArray[Any], outputs: Outputs, thresholds: Thresholds
    ) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Which rows are wrong, and a severity for each, both (rows,): the probability of the predicted label, the
        largest probability against a true label, or the absolute error."""

    def find_errors(
        self, labels: NDArray[Any], outputs: Outputs, thresholds: Thresholds, max_errors: int
    ) -> list[tuple[float, int]]:
        """(severity, row) of up to `max_errors` errors, the worst first."""
        is_wrong, severity = self.rate_errors(labels, outputs, thresholds)
        rows = np.flatnonzero(is_wrong)
        rows = rows[np.argsort(-severity[rows], kind="stable")][:max_errors]
        return [(float(severity[row]), int(row)) for row in rows]

    def describe_model(self, n_labels: int) -> str:
        """For the model card."""
        return f"classifier of {n_labels} labels"
