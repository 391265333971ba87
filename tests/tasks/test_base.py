"""The contract of a task, and the errors of commands that a task does not support."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from llmkit.core.errors import UsageError
from llmkit.metrics.spec import Metric, MetricSet
from llmkit.tasks.base import EvaluationRequest, Task, TrainingData, TrainingRequest, TrainingSetup

ACCURACY = Metric("accuracy", "accuracy", "{:.1%}", note="share right", baseline="baseline")


class OwnTask(Task):
    """As little as a task must have."""

    name, model_is, commands = "own", "a classifier", "predict"

    def claims(self, architecture: str, model_type: str) -> bool:
        return False

    def metrics(self, facts: Mapping[str, Any]) -> MetricSet:
        return MetricSet((ACCURACY, Metric("loss", "loss")))

    def open_training(self, recipe: Any, request: TrainingRequest) -> TrainingSetup:
        raise NotImplementedError

    def evaluate(self, recipe: Any, request: EvaluationRequest) -> dict[str, Any]:
        raise NotImplementedError


def test_terminal_shows_name_and_value_of_measured_metrics() -> None:
    assert OwnTask().describe_figures({"accuracy": 0.5, "loss": 1.0}) == [
        ("accuracy", "50.0%", ""), ("loss", "1.0000", "")
    ]  # fmt: skip
    assert OwnTask().describe_figures({"accuracy": None, "loss": 1.0}) == [("loss", "1.0000", "")]
    assert OwnTask().tables({}, brief=True) == []


def test_headline_of_a_share_has_its_baseline_and_that_of_a_loss_its_note() -> None:
    task = OwnTask()
    assert task.note_headline({"baseline": 0.25}, ACCURACY) == "constant baseline: 25.00%"
    assert task.note_headline({}, ACCURACY) == "share right"
    assert (
        task.note_headline({"baseline": 0.25}, Metric("mse", "error", note="squared", baseline="baseline")) == "squared"
    )


def test_unsupported_commands_are_refused_with_the_supported_ones() -> None:
    task: Any = OwnTask()
    request = SimpleNamespace(model="run", path="run/model")
    for refuse in (task.generate, task.predict):
        with pytest.raises(UsageError, match="'run' is a classifier") as caught:
            refuse(None, request)
        assert caught.value.problems[0].where == "run/model/config.json, architectures"
    assert not task.is_planned, "so that plan refuses it before it reads any data"


def test_training_data_is_described_by_its_tokens_and_the_size_of_its_source() -> None:
    data = TrainingData(None, {}, {}, 1250, "40 rows", 16, 0, 0)
    assert data.describe() == "1,250 tokens (40 rows)"
