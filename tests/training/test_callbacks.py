"""Evaluation, samples, the log, spikes and trackers after an optimizer step."""

import json
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import accelerate.logging
import pytest
import torch
from four_kinds import make_commands
from torch import nn

from llmkit.cli.app import app
from llmkit.config.optim import Optim
from llmkit.config.train import Train
from llmkit.core.errors import EnvironmentFault, TrainingFailed
from llmkit.core.process import EvaluationAborted, StopRequest
from llmkit.training import callbacks
from llmkit.training.batches import BatchPlan
from llmkit.training.callbacks import IntervalCallbacks
from llmkit.training.contract import Hooks, Plan


class Run:
    """Callbacks with given held-out losses, and what they logged."""

    def __init__(self, losses: list[float | None], optim: Optim | None = None, **train: Any) -> None:
        self.log: list[dict[str, Any]] = []
        self.model = nn.Dropout()
        self.trained: list[bool] = []
        figures = iter(losses)

        def evaluate(model: nn.Module, plan: Plan) -> dict[str, Any]:
            self.trained.append(model.training)
            return {"loss": next(figures)}

        hooks = Hooks(evaluate, lambda model: {"text": "once"}, self.log.append)
        plan = Plan(100, 2, 2, BatchPlan(8, 8, 1), "fp32")
        self.callbacks = IntervalCallbacks(plan, Train(log_steps=5, **train), optim or Optim(), hooks)

    def step(self, step: int, loss: float = 1.0, **more: Any) -> bool:
        self.callbacks.window.add_sums({"lm": torch.tensor(loss)})
        self.callbacks.window.add_step({"lm": 1}, 16, 0.0)
        return self.callbacks.on_step_end(self.model, step, StopRequest(), 0.5, 1e-3, **more)

    def of(self, kind: str) -> list[int]:
        return [record["step"] for record in self.log if record["kind"] == kind]


def test_evaluation_sample_and_log_follow_their_intervals() -> None:
    run = Run([3.0] * 9)
    for step in range(1, 11):
        run.step(step)
    assert run.of("eval") == run.of("sample") == [2, 4, 6, 8, 10]
    assert run.of("train") == [5, 10]
    assert run.trained == [False] * 5, "dropout is off"
    run.step(100)
    assert run.of("train") == [5, 10, 100], "the last step is logged"
    run.step(101, is_due=False)
    run.step(103, is_due=True)
    assert run.of("eval")[5:] == [100, 103]


def test_only_a_finite_loss_below_the_best_is_better() -> None:
    run = Run([3.0, 2.0, 2.0, 2.5, 1.0])
    assert [run.step(step) for step in (2, 4, 6, 8, 10)] == [True, True, False, False, True]
    progress = run.callbacks.progress
    assert (progress.best_selection_key, progress.best_step, progress.stale_evaluations) == ([1.0], 10, 0)


@pytest.mark.parametrize(
    ("patience", "stopped"),
    [(2, [False, False, False, False, True]), (1, [False, True, False, True, True]), (None, [False] * 5)],
)
def test_patience_runs_out_after_that_many_stale_evaluations_in_a_row(
    patience: int | None, stopped: list[bool]
) -> None:
    run = Run([2.0, 3.0, 1.0, 1.0, 2.0], early_stopping=patience)
    found = []
    for step in (2, 4, 6, 8, 10):
        run.step(step)
        found.append(run.callbacks.out_of_patience())
    assert found == stopped


def test_learning_rate_falls_on_a_plateau_only_under_that_schedule() -> None:
    for optim, factor in ((Optim(schedule="plateau", plateau_factor=0.5), 0.25), (Optim(), 1.0)):
        run = Run([2.0, 2.0, 3.0, 1.0], optim)
        for step in (2, 4, 6, 8):
            run.step(step)
        assert run.callbacks.progress.rate_factor == factor


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_held_out_loss_that_is_not_finite_stops_the_run_with_its_step_and_rate(loss: float) -> None:
    run = Run([loss])
    with pytest.raises(TrainingFailed, match="after step 2; this state was not saved") as caught:
        run.step(2)
    assert caught.value.problems[0].where == "step 2, learning rate 0.001"
    assert run.of("eval") == []


def test_signal_before_an_evaluation_skips_it_without_a_record() -> None:
    run = Run([1.0])
    with pytest.raises(EvaluationAborted):
        run.callbacks.on_step_end(run.model, 2, StopRequest(signal.SIGINT), 0.5, 1e-3)
    assert run.log == []
    assert run.callbacks.progress.best_step is None


def test_loss_spike_is_reported_with_its_samples_or_stops_training(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for strict in (False, True):
        run = Run([1.0] * 99, stop_on_spike=strict)
        for step in range(5, 60, 5):
            run.step(step, 2.0)
        assert "warning" not in capsys.readouterr().err
        if strict:
            with pytest.raises(TrainingFailed, match="jumped to 9 at step 60, where about 2") as caught:
                run.step(60, 9.0)
            assert caught.value.problems[0].where == "samples 440 to 479"
        else:
            run.step(60, 9.0)
            assert "samples 440 to 479" in capsys.readouterr().err


logger = accelerate.logging.get_logger(__name__)


class Tracker:
    """Records its calls."""

    def __init__(self, calls: list[tuple[Any, ...]], project: str, **arguments: Any) -> None:
        self.calls = calls
        calls.append(("made", project, arguments))
        logger.debug("as accelerate's own do, which fails before its state is there")

    def __getattr__(self, name: str) -> Any:
        return lambda *values, **more: self.calls.append((name, *values, *more.values()))


def test_trackers_get_the_numbers_of_each_record_and_are_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import accelerate.tracking

    calls: list[tuple[Any, ...]] = []
    for name in ("wandb", "tensorboard"):
        monkeypatch.setitem(
            accelerate.tracking.LOGGER_TYPE_TO_CLASS, name, lambda *given, **more: Tracker(calls, *given, **more)
        )
    monkeypatch.setattr(callbacks, "require_trackers", lambda names: None)
    monkeypatch.setattr("llmkit.tasks.starting_model.require_trackers", lambda names: None)
    run = tmp_path / "my-run"
    command = make_commands(tmp_path)["clm"]
    app([*command, "--out", str(run), "-s", "train.trackers=[wandb,tensorboard]"], standalone_mode=False)
    made = [call[1:] for call in calls if call[0] == "made"]
    assert [project for project, _ in made] == ["llmkit", "tensorboard"]
    assert [arguments.get("name") for _, arguments in made] == ["my-run", None]
    assert [call[1]["train"]["trackers"] for call in calls if call[0] == "store_init_configuration"] == [
        ["wandb", "tensorboard"]
    ], "TensorBoard would make a folder for it"
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    tracked = [call for call in calls if call[0] == "log"]
    numbers = [record for record in log if record["kind"] in ("train", "eval", "sample")]
    assert len(tracked) == 2 * len(numbers)
    for record, (_, values, step) in zip(numbers, tracked[::2], strict=True):
        assert step == record["step"]
        assert all(record[name.partition("/")[2]] == value for name, value in values.items())
    assert any("train/loss" in values for _, values, _ in tracked)
    assert [call[0] for call in calls[-2:]] == ["finish", "finish"]


def test_missing_tracker_is_reported_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for spec in (None, SimpleNamespace(origin=None)):
        monkeypatch.setattr("importlib.util.find_spec", lambda name, spec=spec: spec)
        with pytest.raises(EnvironmentFault, match="mlflow is not installed") as caught:
            callbacks.require_trackers(["mlflow"])
        assert "llmkit[mlflow]" in str(caught.value)
    assert callbacks.open_trackers([], Path(), {}) == []
