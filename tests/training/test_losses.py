"""Summed losses, the window of a log line, spikes and trends.

The window of a log line: means of sums over counts, to be copied, put back and restored.

What watches over a run: jumps of the loss, gradients that are not finite, and memory.
"""

import json
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny import assert_same_weights, make_gpt2
from trainers import PoisonedAt, make_trainer, state_of

from llmkit.config.optim import Optim
from llmkit.core.errors import EnvironmentFault, TrainingFailed
from llmkit.datasets.blocks import Blocks
from llmkit.tasks.clm.objective import CausalLM
from llmkit.tokens.store import Split
from llmkit.training import losses as losses_module
from llmkit.training.batches import BatchPlan
from llmkit.training.checkpoints import find_checkpoint
from llmkit.training.losses import LossWindow, describe_trend, detect_spike, sum_fp64
from llmkit.training.trial import Trial


def test_sum_of_losses_does_not_depend_on_the_micro_batches() -> None:
    losses = torch.rand(10_000, generator=torch.Generator().manual_seed(0)) * 10
    whole = sum_fp64(losses)
    assert whole.dtype == torch.float64
    for size in (1, 7, 1000):
        parts = torch.stack([sum_fp64(part) for part in losses.split(size)]).sum()
        assert parts.float() == whole.float()


def test_gradient_has_the_precision_of_the_losses() -> None:
    losses = torch.rand(5, requires_grad=True)
    sum_fp64(losses).backward()
    assert losses.grad is not None
    assert losses.grad.dtype == torch.float32 and losses.grad.tolist() == [1.0] * 5


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """`now` seconds."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(losses_module, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    return clock


def add(window: LossWindow, loss: float, count: int, n_tokens: int = 0, waited: float = 0.0, name: str = "lm") -> None:
    window.add_sums({name: torch.tensor(loss)})
    window.add_step({name: count}, n_tokens, waited)


def test_mean_is_over_all_labels_and_not_over_batches() -> None:
    window = LossWindow()
    add(window, 8.0, 8)
    add(window, 4.0, 2)
    add(window, 3.0, 1, name="nsp")
    logged = window.drain()
    assert (logged["lm"], logged["nsp"], logged["loss"]) == (1.2, 3.0, 4.2)


def test_speed_and_data_wait_exclude_pauses(clock: SimpleNamespace) -> None:
    window = LossWindow()
    add(window, 1.0, 1, n_tokens=1000, waited=0.5)
    clock.now += 5
    window.pause(3.0)
    logged = window.drain()
    assert (logged["tokens_per_second"], logged["data_wait"]) == (500.0, 0.25)
    clock.now += 1
    assert window.drain()["tokens_per_second"] == 0, "the next window begins where this one ended"


def test_rollback_removes_steps_and_a_copy_does_not_change() -> None:
    window = LossWindow()
    add(window, 2.0, 2, n_tokens=10)
    before = window.copy()
    add(window, float("nan"), 5, n_tokens=99)
    window.rollback(before)
    assert window.n_tokens == 10
    assert window.drain()["loss"] == 1.0


def test_restored_window_logs_the_values_of_an_uninterrupted_one() -> None:
    straight, first, second = LossWindow(), LossWindow(), LossWindow()
    for window in (straight, first):
        add(window, 0.1, 3)
    second.restore({name: value.item() for name, value in first.sums.items()}, first.counts)
    for window in (straight, second):
        add(window, 0.2, 4)
    assert straight.drain()["lm"] == second.drain()["lm"]
    assert first.counts == {"lm": 3}, "its counts are its own"


def test_long_window_keeps_its_precision() -> None:
    window = LossWindow()
    for _ in range(1000):
        add(window, 16_777_217.0, 1)  # 2**24 + 1 is no fp32
        window.add_sums({"lm": sum_fp64(torch.tensor([1.0]))})
    assert window.sums["lm"].dtype == torch.float64
    assert window.sums["lm"].item() == 1000 * (2**24 + 1)


def test_window_holds_no_autograd_graph_and_a_loss_without_labels_is_zero() -> None:
    window = LossWindow()
    window.add_sums({"nsp": torch.zeros((), requires_grad=True) * 2})
    window.add_step({"nsp": 0}, 0, 0.0)
    assert not window.sums["nsp"].requires_grad
    assert window.drain()["nsp"] == 0.0


def watch(losses: list[float]) -> list[int]:
    """Steps at which a spike is detected."""
    expected: list[float] = []
    jumps = []
    for number, loss in enumerate(losses):
        jumped, expected = detect_spike(expected, loss)
        if jumped:
            jumps.append(number)
    return jumps


def noisy_losses(n: int, noise: float, seed: int = 0) -> list[float]:
    chance = random.Random(seed)
    return [3 + 7 * 0.98**step + chance.gauss(0, noise) for step in range(n)]


@pytest.mark.parametrize("noise", [0.0, 0.03, 0.3])
@pytest.mark.parametrize("seed", range(5))
def test_loss_that_falls_with_noise_never_jumps(noise: float, seed: int) -> None:
    assert watch(noisy_losses(400, noise, seed)) == []


def test_spike_is_found_where_it_is_and_the_next_one_too() -> None:
    losses = noisy_losses(300, 0.03)
    losses[200] = 6.0
    losses[202] = 5.0
    assert watch(losses) == [200, 202]


def test_spike_is_reported_with_its_samples_and_stops_only_where_asked(
    tmp_path: Path, tiny_split: Split, capsys: pytest.CaptureFixture[str]
) -> None:
    spiky = Scaled(at=9, by=3.0)
    trainer, log = make_trainer(tmp_path / "run", tiny_split, make_gpt2(), n_steps=10, objective=spiky)
    trainer.fit()
    assert log.of("train", "step")[-1] == 10
    output = capsys.readouterr().err
    assert "warning: the loss jumped to" in output
    assert "at step 9" in output
    assert "samples 64 to 71" in output
    strict, _ = make_trainer(
        tmp_path / "strict", tiny_split, make_gpt2(), n_steps=10, objective=Scaled(at=9, by=3.0), stop_on_spike=True
    )
    with pytest.raises(TrainingFailed, match="jumped") as stopped:
        strict.fit()
    assert stopped.value.exit_code == 5
    assert find_checkpoint(tmp_path / "strict/checkpoints")[0].name == "step-8"


class Scaled:
    """An objective whose loss is multiplied by `by` in one micro-batch."""

    def __init__(self, at: int, by: float) -> None:
        self.inner, self.left, self.by = CausalLM(pad_token_id=0), at, by

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def sum_losses(self, model: Any, batch: Any) -> dict[str, torch.Tensor]:
        self.left -= 1
        sums = self.inner.sum_losses(model, batch)
        return {name: value * (self.by if self.left == 0 else 1.0) for name, value in sums.items()}


def test_refused_step_is_written_down_with_its_rows(tmp_path: Path, tiny_split: Split) -> None:
    trainer, _ = make_trainer(tmp_path / "run", tiny_split, make_gpt2(), n_steps=8, micro=4, objective=PoisonedAt(6))
    with pytest.raises(TrainingFailed, match="step 3") as stopped:
        trainer.fit()
    dump = tmp_path / "run/refused-step-3.json"
    assert str(dump) in str(stopped.value)
    kept = json.loads(dump.read_text())
    assert (kept["step"], kept["grad_norm"], kept["samples"]) == (3, "nan", list(range(16, 24)))
    assert kept["learning_rate"] > 0
    blocks = Blocks(tiny_split, 16, 0)
    rows = [row for part in kept["micro_batches"] for row in part["input_ids"]]
    for row, number in zip(rows, range(16, 24), strict=True):
        inputs = blocks[number][0].tolist()
        assert row[: len(inputs)] == inputs  # padding follows


def test_skipped_step_changes_nothing_and_their_number_is_limited(
    tmp_path: Path, tiny_split: Split, capsys: pytest.CaptureFixture[str]
) -> None:
    constant = Optim(learning_rate=1e-2, schedule="constant", warmup_steps=0)
    before, _ = make_trainer(tmp_path / "before", tiny_split, make_gpt2(), n_steps=2, optim=constant)
    before.fit()
    trainer, log = make_trainer(
        tmp_path / "run", tiny_split, make_gpt2(), n_steps=3, objective=PoisonedAt(3), optim=constant, skip_nonfinite=1
    )
    trainer.fit()
    assert "skipped, 1 of at most 1" in capsys.readouterr().err
    assert_same_weights(state_of(trainer.model), state_of(before.model))
    assert log.of("train", "step") == [1, 2, 3]
    capped, _ = make_trainer(
        tmp_path / "capped", tiny_split, make_gpt2(), n_steps=6, objective=AlwaysNan(), skip_nonfinite=2
    )
    with pytest.raises(TrainingFailed, match="step 3"):
        capped.fit()


class AlwaysNan(PoisonedAt):
    def __init__(self) -> None:
        super().__init__(0)

    def sum_losses(self, model: Any, batch: Any) -> dict[str, torch.Tensor]:
        self.left = 1
        return super().sum_losses(model, batch)


@pytest.mark.parametrize(
    ("losses", "warning"),
    [
        ([(10, 4.0), (20, 3.0), (30, 2.0)], "fell by 33% after step 20 of 30: raise x"),
        ([(10, 4.0), (80, 2.2), (90, 2.1), (100, 2.0)], "fell by 9% after step 80 of 100: raise x"),
        ([(10, 4.0), (80, 2.05), (90, 2.0), (100, 2.0)], None),
        ([(10, 4.0), (80, 2.0), (90, 2.2), (100, 2.1)], None),
        ([(10, 4.0), (20, 1.0)], "fell by 75% after step 10 of 20"),
        ([(10, 4.0)], None),
        ([(40, 9.0), (50, 2.3), (80, 2.05), (90, 2.0), (100, 2.0)], "fell by 13% after step 50 of 100"),
        ([(40, 9.0), (60, 2.2), (80, 2.05), (90, 2.0), (100, 2.0)], None),
        ([(1, 0.5), (5, 0.1), (10, 0.0)], "fell by 100%"),
        ([(1, 0.5), (5, 2e-4), (10, 1e-4)], None),
        ([(1, 0.0), (5, 0.0), (10, 0.0)], None),
        ([], None),
    ],
)
def test_loss_that_still_falls_at_the_end_is_reported(losses: list[tuple[int, float]], warning: str | None) -> None:
    trend = describe_trend(losses, "raise x")
    assert trend is None if warning is None else trend is not None and warning in trend


class SmallMemory:
    """An objective that runs out of memory above a number of sequences."""

    def __init__(self, at_most: int) -> None:
        self.inner, self.at_most, self.tried = CausalLM(pad_token_id=0), at_most, list[int]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def sum_losses(self, model: Any, batch: Any) -> dict[str, torch.Tensor]:
        self.tried.append(len(batch["input_ids"]))
        if self.tried[-1] > self.at_most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.00 GiB")
        return self.inner.sum_losses(model, batch)


def fit(split: Split, objective: SmallMemory, micro: int, *, may_cut: bool) -> BatchPlan:
    model, samples = make_gpt2(dropout=0.1), Blocks(split, 16, 0)
    trial = Trial(model, objective, samples, Optim(), "fp32", torch.device("cpu"))
    return trial.fit(BatchPlan(8, micro, 1), may_cut=may_cut)


def test_micro_batch_that_does_not_fit_is_refused_with_the_setting_that_does(tiny_split: Split) -> None:
    with pytest.raises(EnvironmentFault, match="8 sequences at once do not fit") as refused:
        fit(tiny_split, SmallMemory(2), 8, may_cut=False)
    assert refused.value.exit_code == 4
    assert "-s train.micro_batch_size=4: it splits the same global batch of 8 into 2 parts" in str(refused.value)


def test_auto_cuts_until_it_fits_and_moves_nothing(tiny_split: Split) -> None:
    before = torch.get_rng_state()
    small = SmallMemory(2)
    assert fit(tiny_split, small, 8, may_cut=True) == BatchPlan(8, 2, 1)
    assert small.tried == [8, 4, 2]
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(EnvironmentFault, match="a single sequence"):
        fit(tiny_split, SmallMemory(0), 8, may_cut=True)


def test_other_errors_of_a_trial_step_are_not_taken_for_memory(
    tiny_split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(Trial, "_try_micro_batch", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        fit(tiny_split, SmallMemory(8), 8, may_cut=True)
