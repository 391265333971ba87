"""The loss of a batch is the sum over its windows, without their padding."""

from pathlib import Path
from typing import Any

import pytest
import torch
from asked import recipe

from llmkit.datasets.examples import Example
from llmkit.tasks.base import TrainingRequest
from llmkit.tasks.qa.training import mean_loss, open_reader_training


def test_loss_of_an_evaluation_is_that_of_the_objective(run: Path, bert: str, questions: str, tmp_path: Path) -> None:
    setup = open_reader_training(recipe(), TrainingRequest({"train": questions}, tmp_path / "x", bert))  # type: ignore[arg-type]
    task: Any = setup.task
    split = task.questions.splits["validation"]
    from llmkit.datasets.examples import Example

    setup.network.eval()
    examples = [Example(split.windows.read(n), split.labels[n]) for n in range(len(split.windows))]
    with torch.no_grad():
        total = task.objective.sum_losses(setup.network, task.objective.collate(examples))["loss"].item()
    scores = task._score(setup.network, split, "fp32", None)
    assert mean_loss(split.windows, scores, split.labels) == pytest.approx(total / len(examples), rel=1e-5)


def test_padding_does_not_change_the_loss(run: Path, bert: str, questions: str, tmp_path: Path) -> None:
    setup = open_reader_training(recipe(), TrainingRequest({"train": questions}, tmp_path / "x", bert))
    task: Any = setup.task
    windows, labels = task.questions.splits["train"].windows, task.questions.splits["train"].labels
    order = windows.lengths.argsort()
    examples = [Example(windows.read(int(n)), labels[n]) for n in (order[0], order[-1])]
    assert len(examples[0].inputs[0].ids) < len(examples[1].inputs[0].ids)
    setup.network.eval()

    def total(part: list[Example]) -> float:
        batch = task.objective.collate(part)
        assert task.objective.count(batch) == {"loss": len(part)}
        assert task.objective.count_tokens(batch) == sum(map(task.objective.length, part))
        with torch.no_grad():
            return float(task.objective.sum_losses(setup.network, batch)["loss"])

    assert total(examples) == pytest.approx(total(examples[:1]) + total(examples[1:]), rel=1e-5)
