"""Steps are measured in the same way as training runs them."""

from typing import Any

import pytest

from llmkit.config.loading import load_recipe
from llmkit.planning import measure
from llmkit.planning.measure import measure_steps, train_briefly
from llmkit.tasks.synthetic import Vocabulary
from llmkit.tasks.table import TASKS
from llmkit.training.batches import BatchPlan
from llmkit.training.contract import Plan

SMALL = ["model.n_layer=1", "model.n_embd=16", "model.n_head=2", "train.block_size=8", "train.global_batch_size=8"]


@pytest.fixture(autouse=True)
def no_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the minimum number of steps is measured."""
    monkeypatch.setattr(measure, "BUDGET_SECONDS", 0.0)


@pytest.mark.parametrize("task", ["clm", "mlm"])
def test_step_of_synthetic_tokens_is_measured(task: str) -> None:
    recipe = load_recipe(None, SMALL, task)
    synthetic: Any = TASKS[task].make_synthetic(recipe, Vocabulary(50))
    plan = Plan(1 << 40, 1 << 40, 1 << 40, BatchPlan(4, 2, 1), "fp32")
    assert 0 < train_briefly(recipe, synthetic, synthetic.build_model(), plan) < 60


def test_time_of_more_micro_batches_is_in_proportion(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[Plan] = []
    monkeypatch.setattr(measure, "train_briefly", lambda *arguments: tried.append(arguments[-1]) or 3.0)
    recipe = load_recipe(None, [*SMALL, "train.micro_batch_size=2"])
    synthetic: Any = TASKS["clm"].make_synthetic(recipe, Vocabulary(50))
    seen = measure_steps(recipe, synthetic, "fp32")
    assert (tried[0].batches.global_batch_size, tried[0].batches.micro_batch_size) == (4, 2)
    assert (seen["micro_batch_size"], seen["seconds_per_step"]) == (2, 6.0)
    assert seen["peak_bytes"] > 0
