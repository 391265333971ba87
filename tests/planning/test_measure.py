"""Steps are measured as training runs them."""

from typing import Any

import pytest
import torch

from llmkit.config.loading import load_recipe
from llmkit.planning.measure import measure_here, time_optimizer, train_briefly
from llmkit.tasks.synthetic import Vocabulary
from llmkit.tasks.table import TASKS
from llmkit.training.batches import BatchPlan
from llmkit.training.contract import Plan

SMALL = ["model.n_layer=1", "model.n_embd=16", "model.n_head=2", "train.block_size=8", "train.global_batch_size=4"]


@pytest.mark.parametrize("task", ["clm", "mlm"])
def test_a_step_of_made_up_tokens_has_a_time_and_leaves_nothing_behind(task: str) -> None:
    recipe = load_recipe(None, SMALL, task)
    made: Any = TASKS[task].make_synthetic(recipe, Vocabulary(50))
    network = made.build_model()
    plan = Plan(1 << 40, 1 << 40, 1 << 40, BatchPlan(4, 2, 1), "fp32")
    seconds, peak = train_briefly(recipe, made, network, plan, 0.0)
    assert 0 < seconds < 60
    assert peak > 0
    assert 0 < time_optimizer(network, recipe.optim, "fp32", torch.device("cpu")) < 60


def test_what_was_measured_is_of_the_batch_that_training_would_cut() -> None:
    recipe = load_recipe(None, [*SMALL, "train.micro_batch_size=2", "train.precision=fp32"])
    found = measure_here(recipe, 50, None, 0.0)
    assert (found.device, found.precision, found.micro_batch_size) == ("cpu", "fp32", 2)
    assert found.seconds_per_micro_batch >= 0
    assert found.peak_bytes >= found.warm_peak_bytes >= found.framework_bytes > 0
