"""How a global batch is cut."""

import functools
import operator

import pytest

from llmkit.config.train import Train
from llmkit.errors import UsageError
from llmkit.training.batches import BatchPlan, StepSampler, plan_batches


@pytest.mark.parametrize(("micro", "world_size"), [(12, 1), (5, 1), (1, 1), (4, 2), (5, 3), (2, 4)])
def test_any_cut_takes_the_same_samples_in_every_step(micro: int, world_size: int) -> None:
    plan = BatchPlan(12, micro, world_size)
    for step in range(3):
        taken = [batch for rank in range(world_size) for batch in plan.micro_batches(step, rank)]
        assert sorted(functools.reduce(operator.iadd, taken, [])) == list(range(12 * step, 12 * step + 12))
        per_rank = {len(list(plan.micro_batches(step, rank))) for rank in range(world_size)}
        assert per_rank == {plan.accumulation_steps}


def test_sampler_that_starts_later_gives_the_rest_of_the_same_order() -> None:
    plan = BatchPlan(8, 3, 2)
    whole = list(StepSampler(plan, 1, 0, 9))
    assert list(StepSampler(plan, 1, 4, 9)) == whole[4 * plan.accumulation_steps :]


def test_global_batch_that_ranks_cannot_share_is_refused() -> None:
    with pytest.raises(UsageError, match="not a multiple of 3 ranks"):
        plan_batches(Train(global_batch_size=8), vocab_size=100, world_size=3)


def test_auto_bounds_the_logits_and_never_changes_the_global_batch() -> None:
    small = plan_batches(Train(block_size=64, global_batch_size=16), vocab_size=100, world_size=1)
    large = plan_batches(Train(block_size=1024, global_batch_size=480), vocab_size=50_257, world_size=1)
    assert (small.micro_batch_size, small.accumulation_steps) == (16, 1)
    assert large.micro_batch_size * 1024 * 50_257 <= 64_000_000
    assert large.global_batch_size == 480
