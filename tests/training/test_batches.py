"""How a global batch is divided into micro-batches."""

from itertools import islice

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from llmkit.config.loading import load_recipe
from llmkit.config.train import Train
from llmkit.core.errors import UsageError
from llmkit.models.kernels.patches import use_fast_dropout, use_fp32_attention
from llmkit.tasks.base import PlannedTask
from llmkit.tasks.synthetic import Vocabulary
from llmkit.tasks.table import TASKS
from llmkit.training.batches import (
    BatchPlan,
    StepSampler,
    activation_budget,
    check_batch_size,
    count_activation_bytes,
    count_logit_bytes,
    limit_workers,
    plan_batches,
)
from llmkit.training.speed import autocast


@pytest.mark.parametrize(("micro", "world_size"), [(12, 1), (5, 1), (1, 1), (4, 2), (5, 3), (2, 4)])
def test_every_division_takes_the_same_samples_in_every_step(micro: int, world_size: int) -> None:
    plan = BatchPlan(12, micro, world_size)
    for step in range(3):
        shares = [plan.cut(plan.numbers(step, rank), length=lambda number: 1) for rank in range(world_size)]
        taken = [number for parts in shares for part in parts for number in part]
        assert taken == list(range(12 * step, 12 * step + 12))
        assert max(len(part) for parts in shares for part in parts) <= micro
        assert len({len(parts) for parts in shares}) == 1


def test_micro_batches_by_tokens_take_each_sample_once_and_count_padding() -> None:
    plan = BatchPlan(8, 8, 1, tokens_at_once=20)
    parts = plan.cut([9, 2, 3, 30, 5, 5, 1, 2], length=lambda sample: sample)
    assert all(len(part) * max(part) <= 20 or len(part) == 1 for part in parts)
    assert sorted(sample for part in parts for sample in part) == [1, 2, 2, 3, 5, 5, 9, 30]
    assert len(parts) < 5


def test_sampler_with_a_first_step_continues_the_same_order() -> None:
    plan = BatchPlan(8, 3, 2)
    whole = list(islice(StepSampler(plan, 1, 0), 9))
    assert list(islice(StepSampler(plan, 1, 4), 5)) == whole[4:]


def test_global_batch_that_ranks_cannot_share_is_refused() -> None:
    with pytest.raises(UsageError, match="not a multiple of 3 ranks"):
        plan_batches(Train(global_batch_size=8), 256, bytes_per_token=1, budget=1, world_size=3)


def test_auto_stays_in_its_budget_and_never_changes_the_global_batch() -> None:
    train = Train(global_batch_size=480)
    bytes_per_token = count_activation_bytes("gpt2", 12, 768, bf16=True) + count_logit_bytes(50_257, 1.0)
    large, small = (plan_batches(train, 1024, bytes_per_token, budget << 30, 1) for budget in (40, 2))
    assert (
        large.micro_batch_size * 1024 * bytes_per_token
        <= 40 << 30
        < (large.micro_batch_size + 1) * 1024 * bytes_per_token
    )
    assert (small.micro_batch_size, small.global_batch_size, large.global_batch_size) == (2, 480, 480)
    assert plan_batches(Train(global_batch_size=16), 256, 1000, 1 << 30, 1).micro_batch_size == 16


def test_budget_leaves_room_for_what_stays_in_memory() -> None:
    assert activation_budget(None, 10**12) == 2 << 30
    assert activation_budget(80 * 10**9, 2 * 10**9) == 40 * 10**9
    assert activation_budget(80 * 10**9, 70 * 10**9) == 6 * 10**9
    assert activation_budget(80 * 10**9, 90 * 10**9) == 0


@pytest.mark.parametrize("family", ["gpt2", "llama", "bert", "modernbert", "transformer", "gru", "lstm"])
@pytest.mark.parametrize(("precision", "dropout"), [("bf16", 0.0), ("fp32", 0.0), ("bf16", 0.1), ("fp32", 0.1)])
def test_activation_bytes_are_those_that_autograd_keeps(family: str, precision: str, dropout: float) -> None:
    n_layers, width = 4, 128
    overrides = [f"model.family={family}", f"model.n_layer={n_layers}", f"model.n_embd={width}", "train.block_size=128"]
    if family == "llama" and dropout:
        pytest.skip("it has none")
    overrides += [f"model.dropout={dropout}", *(["task=mlm"] if family in ("bert", "modernbert") else [])]
    overrides += ["train.carry_state=false"] if family in ("gru", "lstm") else ["model.n_head=2"]
    recipe = load_recipe(None, overrides)
    task = TASKS[recipe.task].make_synthetic(recipe, Vocabulary(300))
    network = task.build_model().train()
    use_fast_dropout(network)
    if network.config._attn_implementation == "sdpa" and precision == "bf16":
        use_fp32_attention(network)
    kept = [count_kept_bytes(network, task, n_sequences, precision) for n_sequences in (2, 4)]
    seen = (kept[1] - kept[0]) / (2 * 128)
    expected = count_activation_bytes(
        family, n_layers, width, bf16=precision == "bf16", dropout=dropout > 0, on_cpu=True
    )  # fmt: skip
    assert expected == pytest.approx(seen, rel=0.07)


def count_kept_bytes(network: PreTrainedModel, task: PlannedTask, n_sequences: int, precision: str) -> int:
    """Bytes of all tensors that the backward pass needs, each storage once, without weights and their copies."""
    batch = task.objective.collate([task.samples[number] for number in range(n_sequences)])
    weights = {weight.untyped_storage().data_ptr() for weight in network.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = tensor  # held, so that no other gets its place
        return tensor

    keeping = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with keeping, autocast(precision, torch.device("cpu")):
        network.base_model(input_ids=batch["input_ids"], use_cache=False)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def test_batch_that_repeats_the_data_many_times_in_each_step_is_refused() -> None:
    train = load_recipe(None, ["train.global_batch_size=5000"]).train
    check_batch_size(train, 500)
    with pytest.raises(UsageError, match=r"5,000 repeats the 499 train samples 10 times") as caught:
        check_batch_size(train, 499)
    assert caught.value.problems[0].where == "train.global_batch_size"
    check_batch_size(load_recipe(None, ["train.global_batch_size=4096"]).train, 1)


def test_more_workers_than_a_machine_can_run_are_lowered_and_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("llmkit.training.batches.count_cores", lambda: 6)
    assert limit_workers(24) == 24 and not capsys.readouterr().err
    assert limit_workers(25) == 24
    assert "num_workers 25 is lowered to 24: this machine has 6 cores" in capsys.readouterr().err
