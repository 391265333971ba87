"""The base class of label types: parsing, losses, prediction, metrics and display of labels.

Labels are arrays: (rows,) ids, (rows, labels) zeros and ones, or (rows,) numbers. Outputs are (rows, labels)
probabilities, or (rows,) numbers in the unit of the train labels.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llmkit.core.errors import UsageError
from llmkit.metrics.bootstrap import Bootstrap
from llmkit.metrics.spec import MetricSet
from llmkit.tables.label_sets import require_repeats
from llmkit.tables.labelled import (
    Label,
    ParseLabel,
    build_label2id,
)

PREDICTION, PROBABILITY = "prediction", "probability"
"""Columns of the output of `predict`."""
Outputs = NDArray[np.float64]
Thresholds = NDArray[np.float64]


def name_probabilities(names: Sequence[str]) -> list[str]:
    """Return the column names for the probabilities of all labels."""
    return [f"p({name})" for name in names]


class LabelType(ABC):
    """One type of labels. Methods with a body are default implementations for labels with names."""

    name: ClassVar[str]
    problem_type: ClassVar[str]
    """The `problem_type` in the model's configuration."""
    describes_rows: ClassVar[str]
    describes_model: ClassVar[str] = "classifier of {n_labels} labels"
    """Kind of model, for the model card."""
    metrics: ClassVar[MetricSet]
    must_beat: ClassVar[str]
    """The metric that is compared with a constant prediction."""
    added_columns: ClassVar[tuple[str, ...]] = (PREDICTION,)
    """Columns that `predict` adds, without the columns of `all_probabilities`."""
    positive: int | None = None
    """Id of the positive label, which has its own precision, recall and F1; None if there is none."""
    has_names: ClassVar[bool] = True
    """Whether labels are classes with names and probabilities."""
    target_dtype: ClassVar[torch.dtype] = torch.float32

    # ---- reading ----

    @abstractmethod
    def parser(self, separator: str | None) -> ParseLabel:
        """Return a function that parses a cell; `separator` separates several labels in one cell."""

    def build_label2id(self, labels: Sequence[Label], column: str, where: str) -> dict[str, int]:
        """Build label2id from the labels of the train rows.

        Raises:
            DataError: all rows have the same label, or nearly every row has a different one.
        """
        counts = Counter(name for label in labels for name in self.names_in(label))
        require_repeats(counts, len(labels), where)
        return build_label2id(counts, where, n_rows=len(labels))

    def names_in(self, label: Label) -> tuple[str, ...]:
        """Return the label names of one row; empty for a number."""
        return label if isinstance(label, tuple) else (str(label),)

    @abstractmethod
    def encode(self, labels: Sequence[Label], label2id: Mapping[str, int]) -> NDArray[Any]:
        """Encode labels as an array; see the module docstring for shapes."""

    @abstractmethod
    def count(self, labels: NDArray[Any], n_labels: int) -> NDArray[np.int64]:
        """Return the number of rows with each label, (labels,)."""

    def summarize(self, labels: NDArray[Any], label2id: Mapping[str, int]) -> dict[str, Any]:
        """Return the number of rows with each label, for the run's manifest."""
        return {"labels": dict(zip(label2id, map(int, self.count(labels, len(label2id))), strict=True))}

    def label_frequencies(self, labels: NDArray[Any]) -> list[float]:
        """Return the fraction of rows with each label, for the bias of a new head; empty if the head has no such
        bias.
        """
        return []

    def with_positive(self, label: str | None, label2id: Mapping[str, int]) -> "LabelType":
        """Return a copy that also measures the F1 of one label, and that tunes its threshold if there are two labels.

        Raises:
            UsageError: there is no such label, or rows have several labels or numbers.
        """
        if label is not None:
            hint = "remove it" + ("; the F1 of each label is in per_class" if self.has_names else "")
            raise UsageError(
                f"a positive label needs one label per row, not {self.describes_rows}", where="cls.positive_label",
                hint=hint,
            )  # fmt: skip
        return self

    @property
    def tunes_thresholds(self) -> bool:
        """Whether thresholds are tuned on the validation rows and saved with the model."""
        return False

    @property
    def best_by(self) -> str:
        """Return the default metric for early stopping and for the best checkpoint."""
        return self.metrics.best_by

    # ---- training ----

    def target_scale(self, labels: NDArray[Any]) -> tuple[float, float]:
        """Return (mean, standard deviation) for standardizing the labels."""
        return 0.0, 1.0

    def scale(self, labels: NDArray[Any], mean: float, std: float) -> NDArray[Any]:
        """Standardize labels."""
        return labels

    @abstractmethod
    def losses(self, scores: Tensor, labels: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
        """Return unreduced losses, (rows,) or (rows, labels), from fp32 logits `scores` (rows, labels)."""

    def true_probability(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Return the probability of the true label, in the shape of the losses, for the focal loss."""
        raise TypeError(f"{self.name} has no focal loss")

    def balanced_weights(self, counts: NDArray[np.int64], n_rows: int) -> NDArray[np.float64]:
        """Return weights that balance rare and common labels, (labels,)."""
        raise TypeError(f"{self.name} has no label weights")

    def normalize_weights(
        self, weights: NDArray[np.float64], counts: NDArray[np.int64], n_rows: int
    ) -> NDArray[np.float64]:
        """Return the user's weights, normalized so that the loss keeps its scale."""
        return weights

    # ---- prediction ----

    @abstractmethod
    def to_outputs(self, scores: NDArray[np.float32], extra: Mapping[str, Any]) -> Outputs:
        """Convert logits (rows, labels) to outputs; `extra` are the values saved with the model."""

    @abstractmethod
    def predict(self, outputs: Outputs, thresholds: Thresholds) -> NDArray[Any]:
        """Return predicted labels, in the shape of encoded labels."""

    def columns(self, names: Sequence[str], *, all_probabilities: bool) -> list[str]:
        """Return the names of the columns that `predict` adds."""
        return [*self.added_columns, *(name_probabilities(names) if all_probabilities and self.has_names else ())]

    @abstractmethod
    def to_cells(self, predicted: Any, output: Any, names: Sequence[str]) -> dict[str, Any]:
        """Return the cells that `predict` adds to one row, without the cells of `all_probabilities`."""

    @abstractmethod
    def format_label(self, label: Any, names: Sequence[str]) -> str:
        """Return the label of one row as text."""

    # ---- metrics ----

    @abstractmethod
    def measure(
        self, labels: NDArray[Any], outputs: Outputs, names: list[str], thresholds: Thresholds, bootstrap: Bootstrap
    ) -> dict[str, Any]:
        """Return all metrics with tables and intervals; see metrics/."""

    def best_thresholds(self, labels: NDArray[Any], outputs: Outputs, n_labels: int) -> Thresholds:
        """Return the thresholds that maximize F1 on these rows."""
        return np.full(n_labels, 0.5)

    def measure_quickly(self, labels: NDArray[Any], outputs: Outputs, names: list[str]) -> dict[str, float | None]:
        """Return scalar metrics for evaluations during training; thresholds are tuned on the same rows."""
        thresholds = self.best_thresholds(labels, outputs, len(names))
        metrics = self.measure(labels, outputs, names, thresholds, Bootstrap(n_resamples=1))
        return {name: value for name, value in metrics.items() if value is None or isinstance(value, float)}

    def constant_outputs(self, n_rows: int, n_labels: int) -> Outputs:
        """Return the outputs of a constant prediction."""
        return np.full((n_rows, n_labels), 1 / n_labels)

    def make_labels(self, names: Sequence[str]) -> NDArray[Any]:
        """Return synthetic encoded labels with two rows per label, for checking functions."""
        return np.repeat(np.eye(len(names)), 2, 0)

    @abstractmethod
    def rate_errors(
        self, labels: NDArray[Any], outputs: Outputs, thresholds: Thresholds
    ) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Return (which rows are wrong, severity), both (rows,).

        The severity is the probability of the predicted label (one label per row), the largest probability that the
        model gives to a wrong decision on a label (several labels), or the absolute error (numbers).
        """

    def find_errors(
        self, labels: NDArray[Any], outputs: Outputs, thresholds: Thresholds, max_errors: int
    ) -> list[tuple[float, int]]:
        """Return (severity, row) of up to `max_errors` errors, most severe first."""
        is_wrong, severity = self.rate_errors(labels, outputs, thresholds)
        rows = np.flatnonzero(is_wrong)
        rows = rows[np.argsort(-severity[rows], kind="stable")][:max_errors]
        return [(float(severity[row]), int(row)) for row in rows]
