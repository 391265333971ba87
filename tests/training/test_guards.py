"""What watches over a run: jumps of the loss, gradients that are not finite, and memory."""

import json
import random
from pathlib import Path
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
from llmkit.training import trial
from llmkit.training.batches import BatchPlan
from llmkit.training.checkpoints import find_checkpoint
from llmkit.training.guards import describe_trend, expect_loss
from llmkit.training.trial import fit_in_memory


def watch(losses: list[float]) -> list[int]:
    """Where the loss is said to jump."""
    expected: list[float] = []
    jumps = []
    for number, loss in enumerate(losses):
        jumped, expected = expect_loss(expected, loss)
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


def test_spike_is_said_with_its_samples_and_stops_only_where_asked(
    tmp_path: Path, tiny_split: Split, capsys: pytest.CaptureFixture[str]
) -> None:
    spiky = Scaled(at=9, by=3.0)
    trainer, log = make_trainer(tmp_path / "run", tiny_split, make_gpt2(), n_steps=10, objective=spiky)
    trainer.fit()
    assert log.of("train", "step")[-1] == 10
    said = capsys.readouterr().err
    assert "warning: the loss jumped to" in said
    assert "at step 9" in said
    assert "samples 64 to 71" in said
    strict, _ = make_trainer(
        tmp_path / "strict", tiny_split, make_gpt2(), n_steps=10, objective=Scaled(at=9, by=3.0), stop_on_spike=True
    )
    with pytest.raises(TrainingFailed, match="jumped") as stopped:
        strict.fit()
    assert stopped.value.exit_code == 5
    assert find_checkpoint(tmp_path / "strict/checkpoints")[0].name == "step-8"


class Scaled:
    """An objective whose loss is `by` times as large in one micro-batch."""

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


def test_step_that_is_left_out_changes_nothing_and_there_are_only_so_many(
    tmp_path: Path, tiny_split: Split, capsys: pytest.CaptureFixture[str]
) -> None:
    constant = Optim(learning_rate=1e-2, schedule="constant", warmup_steps=0)
    before, _ = make_trainer(tmp_path / "before", tiny_split, make_gpt2(), n_steps=2, optim=constant)
    before.fit()
    trainer, log = make_trainer(
        tmp_path / "run", tiny_split, make_gpt2(), n_steps=3, objective=PoisonedAt(3), optim=constant, skip_nonfinite=1
    )
    trainer.fit()
    assert "left out, 1 of at most 1" in capsys.readouterr().err
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
    ("losses", "said"),
    [
        ([(10, 4.0), (20, 3.0), (30, 2.0)], "fell by 33%"),
        ([(10, 4.0), (80, 2.2), (90, 2.1), (100, 2.0)], "fell by 9%"),
        ([(10, 4.0), (80, 2.05), (90, 2.0), (100, 2.0)], None),
        ([(10, 4.0), (80, 2.0), (90, 2.2), (100, 2.1)], None),
        ([(10, 4.0), (20, 1.0)], None),
        ([(1, 0.5), (5, 0.1), (10, 0.0)], "fell by 100%"),
        ([(1, 0.5), (5, 2e-4), (10, 1e-4)], None),
        ([(1, 0.0), (5, 0.0), (10, 0.0)], None),
        ([], None),
    ],
)
def test_a_run_that_was_still_improving_says_so(losses: list[tuple[int, float]], said: str | None) -> None:
    trend = describe_trend(losses)
    assert trend is None if said is None else trend is not None and said in trend


class SmallMemory:
    """An objective that runs out of memory with more than so many sequences at once."""

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
    return fit_in_memory(
        make_gpt2(dropout=0.1), objective, Blocks(split, 16, 0), Optim(), BatchPlan(8, micro, 1), "fp32",
        torch.device("cpu"), may_cut=may_cut,
    )  # fmt: skip


def test_micro_batch_that_does_not_fit_is_refused_with_the_setting_that_does(tiny_split: Split) -> None:
    with pytest.raises(EnvironmentFault, match="8 sequences at once do not fit") as refused:
        fit(tiny_split, SmallMemory(2), 8, may_cut=False)
    assert refused.value.exit_code == 4
    assert "-s train.micro_batch_size=4: the global batch of 8 stays, in 2 parts" in str(refused.value)


def test_auto_cuts_until_it_fits_and_moves_nothing(tiny_split: Split) -> None:
    before = torch.get_rng_state()
    small = SmallMemory(2)
    assert fit(tiny_split, small, 8, may_cut=True) == BatchPlan(8, 2, 1)
    assert small.tried == [8, 4, 2]
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(EnvironmentFault, match="not even one sequence"):
        fit(tiny_split, SmallMemory(0), 8, may_cut=True)


def test_other_errors_of_a_trial_step_are_not_taken_for_memory(
    tiny_split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(trial, "_try_micro_batch", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        fit(tiny_split, SmallMemory(8), 8, may_cut=True)
