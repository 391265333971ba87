"""The loop against plain torch: losses, gradients, resume, and the check before the optimizer step."""

import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tiny import SUM_ORDER, assert_same_weights, make_gpt2
from trainers import BLOCK, Log, PoisonedAt, make_trainer, state_of

from llmkit.config.optim import Optim
from llmkit.core.errors import TrainingFailed
from llmkit.core.files import read_json
from llmkit.datasets.blocks import Blocks
from llmkit.tasks.clm.objective import CausalLM
from llmkit.tokens.store import Split
from llmkit.training.checkpoints import find_checkpoint
from llmkit.training.contract import Hooks, MeasuredSeconds, Plan
from llmkit.training.loop import TrainingLoop
from llmkit.training.optimizer import learning_rate_factor


@pytest.mark.parametrize("micro", [4, 3, 2, 1])
def test_gradient_and_loss_do_not_depend_on_accumulation_steps(tmp_path: Path, tiny_split: Split, micro: int) -> None:
    whole, whole_log = make_trainer(tmp_path / "whole", tiny_split, make_gpt2())
    cut, cut_log = make_trainer(tmp_path / "cut", tiny_split, make_gpt2(), micro=micro)
    whole.fit()
    cut.fit()
    for name in ("grad_norm", "loss"):
        assert cut_log.of("train", name) == pytest.approx(whole_log.of("train", name), **SUM_ORDER)


def test_steps_equal_a_loop_in_plain_torch(tmp_path: Path, tiny_split: Split) -> None:
    trainer, log = make_trainer(
        tmp_path / "run", tiny_split, make_gpt2(), n_steps=4, micro=3,
        optim=Optim(learning_rate=1e-2, schedule="constant", warmup_steps=0, max_grad_norm=0.5, weight_decay=0.1),
    )  # fmt: skip
    trainer.fit()

    model, blocks = make_gpt2(), Blocks(tiny_split, BLOCK, 0)
    decayed = [weight for weight in model.parameters() if weight.ndim > 1]
    free = [weight for weight in model.parameters() if weight.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": free, "weight_decay": 0.0}], lr=1e-2, betas=(0.9, 0.99)
    )
    losses, norms = [], []
    for step in range(4):
        total, count = torch.zeros(()), 0
        for number in range(8 * step, 8 * step + 8):
            inputs, labels = (torch.from_numpy(part) for part in blocks[number])
            total = total + F.cross_entropy(model(input_ids=inputs[None]).logits[0], labels, reduction="sum")
            count += len(labels)
        (total / count).backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5).item())
        optimizer.step()
        optimizer.zero_grad()
        losses.append(total.item() / count)
    assert log.of("train", "loss") == pytest.approx(losses, rel=1e-5)
    assert log.of("train", "grad_norm") == pytest.approx(norms, rel=1e-4)


@pytest.mark.parametrize("name", ["adamw", "muon"])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_resumed_run_ends_with_the_same_weights_bit_for_bit(
    tmp_path: Path, tiny_split: Split, name: str, num_workers: int
) -> None:
    optim = Optim.model_validate({"name": name})
    straight, straight_log = make_trainer(
        tmp_path / "straight", tiny_split, make_gpt2(dropout=0.1), n_steps=7, optim=optim
    )
    straight.fit()
    stopped, _ = make_trainer(tmp_path / "stopped", tiny_split, make_gpt2(dropout=0.1), n_steps=7, optim=optim)
    stopped.callbacks.hooks = Hooks(None, lambda model: None, lambda record: _raise_at(record, 6))
    with pytest.raises(KeyboardInterrupt):
        stopped.fit()
    checkpoint, manifest, _ = find_checkpoint(tmp_path / "stopped/checkpoints")
    assert manifest["step"] == 4
    resumed, log = make_trainer(
        tmp_path / "stopped", tiny_split, make_gpt2(seed=9, dropout=0.1), n_steps=7, optim=optim, resume=True,
        num_workers=num_workers,
    )  # fmt: skip
    resumed.fit(checkpoint)
    assert log.of("train", "step") == [5, 6, 7]
    assert log.of("train", "loss") == straight_log.of("train", "loss")[4:]
    assert_same_weights(state_of(resumed.model), state_of(straight.model))


def _raise_at(record: dict[str, Any], step: int) -> None:
    if record["step"] == step:
        raise KeyboardInterrupt


def test_nan_loss_stops_before_the_weights_change(tmp_path: Path, tiny_split: Split) -> None:
    healthy, _ = make_trainer(tmp_path / "healthy", tiny_split, make_gpt2(), n_steps=3)
    trainer, log = make_trainer(tmp_path / "run", tiny_split, make_gpt2(), n_steps=8, objective=PoisonedAt(4))
    healthy.plan = trainer.plan
    healthy.callbacks.hooks = Hooks(None, lambda model: None, lambda record: _raise_at(record, 3))
    with pytest.raises(TrainingFailed, match="step 4") as caught:
        trainer.fit()
    assert "samples 24 to 31" in str(caught.value)
    assert log.of("train", "step") == [1, 2, 3]
    assert all(torch.isfinite(value).all() for value in trainer.model.state_dict().values())
    with pytest.raises(KeyboardInterrupt):
        healthy.fit()
    assert_same_weights(state_of(trainer.model), state_of(healthy.model))


def test_early_stopping_ends_the_run_and_the_best_checkpoint_stays(tmp_path: Path, tiny_split: Split) -> None:
    losses = iter([3.0, 2.0, 2.5, 2.6, 2.7, 1.0])
    trainer, _log = make_trainer(
        tmp_path / "run", tiny_split, make_gpt2(), n_steps=6, evaluate=lambda model: {"loss": next(losses)},
        eval_steps=1, save_steps=1, early_stopping=3,
    )  # fmt: skip
    progress = trainer.fit()
    assert trainer.step == 5
    assert progress.best_step == 2
    kept = sorted(path.name for path in (tmp_path / "run/checkpoints").iterdir())
    assert kept == ["step-2", "step-4", "step-5"]
    again, log = make_trainer(tmp_path / "run", tiny_split, make_gpt2(), n_steps=6, resume=True, early_stopping=3)
    assert again.fit(tmp_path / "run/checkpoints/step-5").best_step == 2
    assert log == []


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_steps_equal_a_loop_in_plain_torch(tmp_path: Path, tiny_split: Split, momentum: float) -> None:
    optim = Optim(name="sgd", learning_rate=0.5, momentum=momentum, weight_decay=0.1, schedule="constant")
    assert optim.max_grad_norm == 0.25  # sgd's own default
    trainer, log = make_trainer(tmp_path / "run", tiny_split, make_gpt2(), n_steps=4, micro=3, optim=optim)
    trainer.fit()

    model, blocks = make_gpt2(), Blocks(tiny_split, BLOCK, 0)
    velocity = {name: torch.zeros_like(weight) for name, weight in model.named_parameters()}
    norms = []
    for step in range(4):
        total, count = torch.zeros(()), 0
        for number in range(8 * step, 8 * step + 8):
            inputs, labels = (torch.from_numpy(part) for part in blocks[number])
            total = total + F.cross_entropy(model(input_ids=inputs[None]).logits[0], labels, reduction="sum")
            count += len(labels)
        model.zero_grad()
        (total / count).backward()
        norms.append(sum(weight.grad.square().sum().item() for weight in model.parameters()) ** 0.5)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                slope = weight.grad * min(1.0, 0.25 / norms[-1]) + 0.1 * (weight.ndim > 1) * weight
                velocity[name] = momentum * velocity[name] + slope
                weight -= 0.5 * velocity[name]
    assert min(norms) > 0.25  # all of them were clipped
    assert log.of("train", "grad_norm") == pytest.approx(norms, rel=1e-4)
    for name, weight in trainer.model.named_parameters():
        torch.testing.assert_close(weight, model.get_parameter(name), rtol=1e-4, atol=1e-5, msg=name)


PLATEAU = Optim(name="sgd", learning_rate=0.4, plateau_factor=0.5)
LOSSES = [3.0, 3.5, 2.0, 2.0, 1.0, 1.5, 0.5]
RATES = [0.4, 0.4, 0.2, 0.2, 0.1, 0.1, 0.05]
"""Lowered in the step behind an evaluation that is no better than the best."""


class Watching:
    """An objective that records the learning rate at each step, and may send SIGINT in one."""

    def __init__(self, signalled_at: int | None = None) -> None:
        self.inner, self.signalled_at = CausalLM(pad_token_id=0), signalled_at
        self.trainer: Any = None
        self.rates: list[float] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def sum_losses(self, model: Any, batch: Any) -> dict[str, torch.Tensor]:
        self.rates.append(self.trainer.optimizer.param_groups[0]["lr"])
        if len(self.rates) == self.signalled_at:
            os.kill(os.getpid(), signal.SIGINT)
        return self.inner.sum_losses(model, batch)


def make_annealed(
    run: Path, split: Split, losses: list[float], signalled_at: int | None = None, resume: bool = False
) -> tuple[TrainingLoop, Log]:
    """Evaluates after each of seven steps, with these losses."""
    scores, watching = iter(losses), Watching(signalled_at)
    trainer, log = make_trainer(
        run, split, make_gpt2(dropout=0.1), n_steps=7, evaluate=lambda model: {"loss": next(scores)}, optim=PLATEAU,
        eval_steps=1, save_steps=1, objective=watching, resume=resume,
    )  # fmt: skip
    watching.trainer = trainer
    return trainer, log


def test_learning_rate_falls_after_each_stale_evaluation(tmp_path: Path, tiny_split: Split) -> None:
    trainer, _ = make_annealed(tmp_path / "run", tiny_split, LOSSES)
    trainer.fit()
    assert trainer.objective.rates == pytest.approx(RATES)


def test_log_shows_the_rate_that_each_step_had(tmp_path: Path, tiny_split: Split) -> None:
    trainer, log = make_annealed(tmp_path / "run", tiny_split, LOSSES)
    trainer.fit()
    assert log.of("train", "learning_rate") == pytest.approx(trainer.objective.rates)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_other_schedules_ignore_plateaus(tmp_path: Path, tiny_split: Split, schedule: str) -> None:
    optim = Optim.model_validate({"name": "sgd", "learning_rate": 0.4, "schedule": schedule})
    logs = []
    for name, losses in (("falling", [3.0, 2.0, 1.0]), ("rising", [1.0, 2.0, 3.0])):
        scores = iter(losses)
        trainer, log = make_trainer(
            tmp_path / name, tiny_split, make_gpt2(), optim=optim, evaluate=lambda model, s=scores: {"loss": next(s)},
            eval_steps=1,
        )  # fmt: skip
        trainer.fit()
        logs.append(log.of("train", "learning_rate"))
    assert logs[0] == logs[1]


@pytest.mark.parametrize("step", [2, 3])
def test_annealed_learning_rate_survives_a_resume(tmp_path: Path, tiny_split: Split, step: int) -> None:
    straight, _ = make_annealed(tmp_path / "straight", tiny_split, LOSSES)
    straight.fit()
    stopped, _ = make_annealed(tmp_path / "run", tiny_split, LOSSES)
    stopped.callbacks.hooks = Hooks(
        stopped.callbacks.hooks.evaluate, lambda model: None, lambda r: _raise_at(r, step + 1)
    )
    with pytest.raises(KeyboardInterrupt):
        stopped.fit()
    resumed, _ = make_annealed(tmp_path / "run", tiny_split, LOSSES[step:], resume=True)
    resumed.fit(tmp_path / f"run/checkpoints/step-{step}")
    assert resumed.objective.rates == pytest.approx(RATES[step:])
    assert_same_weights(state_of(resumed.model), state_of(straight.model))


@pytest.mark.parametrize("step", [1, 2])
def test_evaluation_repeated_after_a_signal_anneals_once(tmp_path: Path, tiny_split: Split, step: int) -> None:
    straight, _ = make_annealed(tmp_path / "straight", tiny_split, LOSSES)
    straight.fit()
    stopped, _ = make_annealed(tmp_path / "run", tiny_split, LOSSES, signalled_at=step)
    stopped.fit()
    assert stopped.stop_signal == signal.SIGINT
    resumed, _ = make_annealed(tmp_path / "run", tiny_split, LOSSES[step - 1 :], resume=True)
    resumed.fit(tmp_path / f"run/checkpoints/step-{step}")
    assert stopped.objective.rates + resumed.objective.rates == pytest.approx(RATES)
    assert_same_weights(state_of(resumed.model), state_of(straight.model))


@pytest.mark.parametrize("signalled_at", [None, 3])
def test_ranks_wait_for_rank_0_only_after_a_save_on_a_signal(
    tmp_path: Path, tiny_split: Split, signalled_at: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    save = TrainingLoop._save
    monkeypatch.setattr(TrainingLoop, "_save", lambda *given: [save(*given), events.append("saved")])
    monkeypatch.setattr("llmkit.training.loop.distributed.barrier", lambda: events.append("waited"))
    trainer, _ = make_annealed(tmp_path / "run", tiny_split, LOSSES, signalled_at=signalled_at)
    trainer.fit()
    assert ("waited" in events) == (signalled_at is not None)
    assert signalled_at is None or events[-2:] == ["saved", "waited"]


def test_state_of_the_objective_continues_from_the_checkpoint(tmp_path: Path, tiny_split: Split) -> None:
    class Counting(CausalLM):
        def sum_losses(self, model: Any, batch: Any) -> dict[str, torch.Tensor]:
            self.state["steps"] = self.state.get("steps", torch.zeros(2)) + torch.tensor([1.0, 2.0])
            return super().sum_losses(model, batch)

    first, _ = make_trainer(tmp_path / "run", tiny_split, make_gpt2(), n_steps=2, objective=Counting(0))
    first.fit()
    second, _ = make_trainer(tmp_path / "run", tiny_split, make_gpt2(), n_steps=5, objective=Counting(0), resume=True)
    second.fit(tmp_path / "run/checkpoints/step-2")
    assert second.objective.state["steps"].tolist() == [5.0, 10.0]


def test_run_folder_holds_no_pickled_arguments(tmp_path: Path, tiny_split: Split) -> None:
    trainer, _ = make_trainer(tmp_path / "run", tiny_split, make_gpt2())
    trainer.fit()
    assert not list((tmp_path / "run").rglob("training_args.bin"))


class SecondPlan:
    """Fixes the length of a run, and records its arguments."""

    def __init__(self, n_steps: int) -> None:
        self.n_steps, self.calls = n_steps, list[tuple[int, MeasuredSeconds]]()

    def __call__(self, plan: Plan, step: int, measured: MeasuredSeconds) -> Plan:
        self.calls.append((step, measured))
        return replace(plan, n_steps=self.n_steps, eval_steps=4, save_steps=4, calibration_step=None)


def make_timed(run: Path, split: Split, n_steps: int) -> tuple[TrainingLoop, Log, SecondPlan]:
    second = SecondPlan(n_steps)
    trainer, log = make_trainer(
        run, split, make_gpt2(), n_steps=20, eval_steps=50, save_steps=50, evaluate=lambda model: {"loss": 1.0}
    )
    trainer.plan = trainer.callbacks.plan = replace(trainer.plan, calibration_step=2)
    trainer.callbacks.hooks = replace(trainer.callbacks.hooks, replan=second)
    return trainer, log, second


@pytest.mark.parametrize("n_steps", [6, 30])
def test_run_of_limited_time_is_planned_again_once(tmp_path: Path, tiny_split: Split, n_steps: int) -> None:
    trainer, log, second = make_timed(tmp_path / "run", tiny_split, n_steps)
    trainer.fit()
    assert trainer.step == n_steps
    assert [step for step, _ in second.calls] == [2]
    measured = second.calls[0][1]
    assert min(measured.step, measured.evaluation, measured.save) > 0
    assert measured.elapsed > measured.step + measured.evaluation + measured.save
    assert log.of("eval", "step") == [2, *range(4, n_steps, 4), n_steps]
    assert log.of("train", "learning_rate")[-1] == pytest.approx(
        1e-2 * learning_rate_factor(trainer.optim, n_steps - 1, n_steps)
    )
    kept = read_json(tmp_path / f"run/checkpoints/step-{n_steps}/MANIFEST.json")["plan"]
    assert (kept["n_steps"], kept["calibration_step"]) == (n_steps, None)
    spent = trainer.progress.spent
    assert sum(spent.values()) < trainer.progress.seconds + spent["start"]


def test_step_time_excludes_evaluations_and_checkpoints(tmp_path: Path, tiny_split: Split) -> None:
    trainer, _, second = make_timed(tmp_path / "run", tiny_split, 5)
    evaluate = trainer.callbacks.hooks.evaluate

    def slow(model: Any, plan: Plan) -> Any:
        time.sleep(0.5)
        return evaluate(model, plan)

    trainer.callbacks.hooks = replace(trainer.callbacks.hooks, evaluate=slow)
    trainer.fit()
    measured = second.calls[0][1]
    assert measured.evaluation >= 0.5
    assert measured.step < 0.4
    assert trainer.progress.spent["evaluation"] >= 1.5


def stop_at(trainer: TrainingLoop, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A SIGTERM in that step."""
    take_step = TrainingLoop.train_step

    def interrupted(self: TrainingLoop, *args: Any, **kwargs: Any) -> Any:
        if self is trainer and self.step == step - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return take_step(self, *args, **kwargs)

    monkeypatch.setattr(TrainingLoop, "train_step", interrupted)


@pytest.mark.parametrize("stopped_at", [1, 2])
def test_resumed_run_fixes_lengths_that_were_not_fixed_before(
    tmp_path: Path, tiny_split: Split, stopped_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, _, second = make_timed(tmp_path / "run", tiny_split, 6)
    stop_at(trainer, stopped_at, monkeypatch)
    trainer.fit(start_seconds=100.0)
    assert trainer.stop_signal == signal.SIGTERM
    assert not second.calls
    resumed, _ = make_trainer(
        tmp_path / "run", tiny_split, make_gpt2(), resume=True, evaluate=lambda model: {"loss": 1.0}
    )
    resumed.plan = resumed.callbacks.plan = trainer.plan
    resumed.callbacks.hooks = replace(resumed.callbacks.hooks, replan=second)
    resumed.fit(tmp_path / f"run/checkpoints/step-{stopped_at}", start_seconds=1.0)
    ((step, measured),) = second.calls
    assert step == max(2, stopped_at + 1)
    assert measured.elapsed > 101  # what was spent before the stop counts
    assert measured.step < 10  # and is no time of a step
    assert resumed.step == 6
