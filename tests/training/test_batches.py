"""How a global batch is cut."""

import pytest

from llmkit.config.train import Train
from llmkit.errors import UsageError
from llmkit.training.batches import BatchPlan, StepSampler, estimate_bytes_a_token, plan_batches


@pytest.mark.parametrize(("micro", "world_size"), [(12, 1), (5, 1), (1, 1), (4, 2), (5, 3), (2, 4)])
def test_any_cut_takes_the_same_samples_in_every_step(micro: int, world_size: int) -> None:
    plan = BatchPlan(12, micro, world_size)
    for step in range(3):
        shares = [plan.cut(plan.numbers(step, rank), length=lambda number: 1) for rank in range(world_size)]
        taken = [number for parts in shares for part in parts for number in part]
        assert taken == list(range(12 * step, 12 * step + 12))
        assert max(len(part) for parts in shares for part in parts) <= micro
        assert len({len(parts) for parts in shares}) == 1


def test_cut_by_tokens_takes_each_sample_once_and_counts_padding() -> None:
    plan = BatchPlan(8, 8, 1, tokens_at_once=20)
    parts = plan.cut([9, 2, 3, 30, 5, 5, 1, 2], length=lambda sample: sample)
    assert all(len(part) * max(part) <= 20 or len(part) == 1 for part in parts)
    assert sorted(sample for part in parts for sample in part) == [1, 2, 2, 3, 5, 5, 9, 30]
    assert len(parts) < 5


def test_sampler_that_starts_later_gives_the_rest_of_the_same_order() -> None:
    plan = BatchPlan(8, 3, 2)
    whole = list(StepSampler(plan, 1, 0, 9))
    assert list(StepSampler(plan, 1, 4, 9)) == whole[4:]


def test_global_batch_that_ranks_cannot_share_is_refused() -> None:
    with pytest.raises(UsageError, match="not a multiple of 3 ranks"):
        plan_batches(Train(global_batch_size=8), bytes_a_token=1, budget=1, world_size=3)


def test_auto_stays_in_its_budget_and_never_changes_the_global_batch() -> None:
    train = Train(block_size=1024, global_batch_size=480)
    bytes_a_token = estimate_bytes_a_token(50_257, 12, 768)
    large, small = (plan_batches(train, bytes_a_token, budget << 30, 1) for budget in (40, 2))
    assert large.micro_batch_size * 1024 * bytes_a_token <= 40 << 30
    assert (small.micro_batch_size, small.global_batch_size, large.global_batch_size) == (2, 480, 480)
    assert 30 < large.micro_batch_size < 60
    assert plan_batches(Train(global_batch_size=16), 1000, 1 << 30, 1).micro_batch_size == 16
