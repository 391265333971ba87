"""The contract of a label type: how labels are read, learned, predicted, measured and shown.

Labels of rows are arrays: (rows,) ids; (rows, labels) zeros and ones; or (rows,) numbers. Outputs are what users see:
(rows, labels) probabilities, or (rows,) numbers in the unit of the train file.
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
"""Columns of a result."""
Outputs = NDArray[np.float64]
Thresholds = NDArray[np.float64]


class LabelType(ABC):
    """How labels are read, learned, predicted, measured and shown."""

    name: ClassVar[str]
    problem_type: ClassVar[str]
    """What transformers calls it."""
    describes_rows: ClassVar[str]
    metrics: ClassVar[MetricSet]
    must_beat: ClassVar[str]
    """The metric that must be better than its baseline for a model to have learned anything."""
    tunes_thresholds: ClassVar[bool] = False
    has_names: ClassVar[bool] = True
    """Whether labels are names with ids, each of which has a probability."""
    target_dtype: ClassVar[torch.dtype] = torch.float32

    # ---- reading ----

    @abstractmethod
    def parser(self, separator: str | None) -> ParseLabel:
        """What reads a cell; `separator` stands between several labels of one."""

    @abstractmethod
    def number(self, labels: Sequence[Label], column: str, where: str) -> dict[str, int]:
        """label2id of the train rows.

        Raises:
            DataError: there is nothing to learn.
        """

    @abstractmethod
    def names_in(self, label: Label) -> tuple[str, ...]:
        """The labels of one row; none of a number."""

    @abstractmethod
    def encode(self, labels: Sequence[Label], label2id: Mapping[str, int]) -> NDArray[Any]:
        """Labels as an array."""

    @abstractmethod
    def count(self, labels: NDArray[Any], n_labels: int) -> NDArray[np.int64]:
        """(labels,): the rows with each label."""

    def summarize(self, labels: NDArray[Any], label2id: Mapping[str, int]) -> dict[str, Any]:
        """For the run's manifest: the rows with each label."""
        return {"labels": dict(zip(label2id, map(int, self.count(labels, len(label2id))), strict=True))}

    def shares(self, labels: NDArray[Any]) -> list[float]:
        """The share of rows with each label, which a new head begins with; empty: it begins with none."""
        return []

    # ---- learning ----

    def target_scale(self, labels: NDArray[Any]) -> tuple[float, float]:
        """Mean and standard deviation by which the model learns the train rows' labels."""
        return 0.0, 1.0

    def scale(self, labels: NDArray[Any], mean: float, std: float) -> NDArray[Any]:
        """Labels as the model learns them."""
        return labels

    @abstractmethod
    def losses(self, scores: Tensor, labels: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
        """The loss of each row, or of each row and label, from fp32 scores (rows, labels)."""

    def known(self, scores: Tensor, labels: Tensor) -> Tensor:
        """The probability that the model gives to the truth, shaped as the losses, for the focal loss."""
        raise TypeError(f"{self.name} has no focal loss")

    def balanced_weights(self, counts: NDArray[np.int64], n_rows: int) -> NDArray[np.float64]:
        """A weight for each label by which rare ones count as much as common ones."""
        raise TypeError(f"{self.name} has no weights of labels")

    def normalize_weights(
        self, weights: NDArray[np.float64], counts: NDArray[np.int64], n_rows: int
    ) -> NDArray[np.float64]:
        """The user's weights, so that the learning rate keeps its meaning."""
        return weights

    # ---- predicting ----

    @abstractmethod
    def to_outputs(self, scores: NDArray[np.float32], extra: Mapping[str, Any]) -> Outputs:
        """Outputs of scores (rows, labels); `extra` is what was saved with the model."""

    @abstractmethod
    def predict(self, outputs: Outputs, thresholds: Thresholds) -> NDArray[Any]:
        """Predicted labels, shaped as labels are."""

    @abstractmethod
    def columns(self, names: Sequence[str], *, all_probabilities: bool) -> list[str]:
        """The columns that a result adds to a row."""

    @abstractmethod
    def to_cells(self, predicted: Any, output: Any, names: Sequence[str]) -> dict[str, Any]:
        """Their cells for one row, but for the probabilities of all labels."""

    @abstractmethod
    def show(self, label: Any, names: Sequence[str]) -> str:
        """The label of one row as text."""

    # ---- measuring ----

    @abstractmethod
    def measure(
        self, labels: NDArray[Any], outputs: Outputs, names: Sequence[str], thresholds: Thresholds, *, seed: int = 0,
        n_resamples: int = 1000,
    ) -> dict[str, Any]:  # fmt: skip
        """All figures, tables and intervals of the rows; see metrics/."""

    def best_thresholds(self, labels: NDArray[Any], outputs: Outputs, n_labels: int) -> Thresholds:
        """The thresholds that are best on these rows."""
        return np.full(n_labels, 0.5)

    def measure_quickly(self, labels: NDArray[Any], outputs: Outputs, names: Sequence[str]) -> dict[str, float | None]:
        """The single figures only, while training; several labels by the thresholds that are best here."""
        thresholds = self.best_thresholds(labels, outputs, len(names))
        metrics = self.measure(labels, outputs, names, thresholds, n_resamples=1)
        return {name: value for name, value in metrics.items() if value is None or isinstance(value, float)}

    def constant_outputs(self, n_rows: int, n_labels: int) -> Outputs:
        """The same outputs for all rows, of the right shape."""
        return np.full((n_rows, n_labels), 1 / n_labels)

    @abstractmethod
    def rate_errors(
        self, labels: NDArray[Any], outputs: Outputs, thresholds: Thresholds
    ) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """(rows,) which are wrong; and how wrong each is: by the probability of the wrong label, by the probability
        that was given against the truth, or by the distance."""

    def find_mistakes(
        self, labels: NDArray[Any], outputs: Outputs, thresholds: Thresholds, n_most: int
    ) -> list[tuple[float, int]]:
        """(how wrong, row) of the worst rows, the worst first."""
        wrong, how = self.rate_errors(labels, outputs, thresholds)
        rows = np.flatnonzero(wrong)
        rows = rows[np.argsort(-how[rows], kind="stable")][:n_most]
        return [(float(how[row]), int(row)) for row in rows]

    def describe_model(self, n_labels: int) -> str:
        """For the model card."""
        return f"classifier of {n_labels} labels"
