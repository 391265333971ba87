"""When a plan evaluates and saves, and how a step's samples become micro-batches."""

from dataclasses import replace
from pathlib import Path

import pytest
from tiny import make_split

from llmkit.datasets.blocks import Blocks
from llmkit.tasks.clm.objective import CausalLM
from llmkit.training.batches import BatchPlan
from llmkit.training.contract import Hooks, Plan, collate_step

PLAN = Plan(20, 6, 4, BatchPlan(8, 3, 1), "fp32")


def due(plan: Plan) -> tuple[list[int], list[int]]:
    steps = range(1, plan.n_steps + 1)
    return [step for step in steps if plan.evaluates_at(step)], [step for step in steps if plan.saves_at(step)]


def test_evaluations_and_checkpoints_come_at_their_interval_and_at_the_end() -> None:
    assert due(PLAN) == ([6, 12, 18, 20], [4, 8, 12, 16, 20])


def test_calibration_step_is_always_saved_and_at_first_evaluated() -> None:
    first = replace(PLAN, calibration_step=5, step_seconds=[0.1])
    assert due(first) == ([5, 6, 12, 18, 20], [4, 5, 8, 12, 16, 20])
    again = replace(first, step_seconds=[0.1, 0.2])
    assert due(again) == ([6, 12, 18, 20], [4, 5, 8, 12, 16, 20])


def test_step_beyond_the_end_of_a_shorter_plan_counts_as_its_last() -> None:
    assert PLAN.evaluates_at(23) and PLAN.saves_at(23)


@pytest.mark.parametrize("tokens_at_once", [None, 40])
def test_micro_batches_hold_each_token_of_the_step_once(tmp_path: Path, tokens_at_once: int | None) -> None:
    objective = CausalLM(pad_token_id=0)
    blocks = Blocks(make_split(tmp_path / "split", n_documents=3, length=25), 16, 0)
    samples = [blocks[number] for number in range(5)]
    parts = collate_step(objective, BatchPlan(5, 2, 1, tokens_at_once), samples)
    assert len(parts) > 1
    assert sum(objective.count_tokens(part) for part in parts) == sum(map(objective.length, samples))
    whole = objective.count(objective.collate(samples))
    assert {name: sum(objective.count(part)[name] for part in parts) for name in whole} == whole


def test_best_weights_are_those_of_the_lowest_loss_unless_a_task_says_otherwise() -> None:
    hooks = Hooks(None, lambda model: None, lambda record: None)
    assert hooks.selection_key({"loss": 2}) == (2.0,)
