"""The hooks of a run, on rank 0 and on other ranks."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tiny import make_gpt2

from llmkit.config.loading import load_recipe
from llmkit.core import distributed
from llmkit.core.files import write_json
from llmkit.runs.hooks import make_hooks
from llmkit.training.batches import BatchPlan
from llmkit.training.contract import Plan
from llmkit.training.folder import create_run

TIMED = Plan(
    100, 10, 10, BatchPlan(4, 4, 1), "fp32", max_eval_samples=100, step_seconds=[0.4, 0.4], calibration_step=50
)  # fmt: skip


def test_lengths_that_were_planned_before_a_stop_are_taken_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "is_main_process", lambda: False)
    run = create_run(tmp_path / "run", overwrite=False)
    write_json(run.manifest, {"lengths": {"50": {"n_steps": 80, "calibration_step": None}}})
    task = make_task()
    line: Any = SimpleNamespace(n_steps=100)
    nothing: Any = None
    hooks = make_hooks(load_recipe(None), task, nothing, TIMED, run, line, [])
    assert hooks.replan is not None
    assert hooks.replan(TIMED, 50, nothing) == replace(TIMED, n_steps=80, calibration_step=None)
    assert line.n_steps == 80


class Line:
    """A progress line that keeps what it is shown."""

    def __init__(self) -> None:
        self.n_steps = 100
        self.shown: list[dict[str, Any]] = []

    def show(self, record: dict[str, Any]) -> None:
        self.shown.append(record)


def make_task(n_held_out: int = 0) -> Any:
    return SimpleNamespace(
        data=SimpleNamespace(n_held_out=n_held_out, sequence_length=16), output_fraction=1.0, selection_key=None,
        samples=SimpleNamespace(samples_per_epoch=40), evaluate=lambda model, plan: {"loss": 2.0},
        sample=lambda model: {"text": "written"},
    )  # fmt: skip


def test_log_line_says_epoch_and_utilisation_and_reaches_file_and_screen(tmp_path: Path) -> None:
    run = create_run(tmp_path / "run", overwrite=False)
    line: Any = Line()
    hooks = make_hooks(load_recipe(None), make_task(), make_gpt2(), TIMED, run, line, [])
    for speed in (1000.0, 2000.0):
        hooks.log({"kind": "train", "step": 20, "tokens_per_second": speed, "loss": 1.0})
    hooks.log({"kind": "eval", "step": 20, "loss": 1.0})
    first, second = run.read_log("train")
    assert first["epoch"] == 20 * 4 / 40
    assert second["mfu"] == pytest.approx(2 * first["mfu"])
    assert "epoch" not in run.read_log("eval")[0]
    assert [record["kind"] for record in line.shown] == ["train", "train", "eval"]


def test_utilisation_is_never_above_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmkit.runs.hooks.peak_flops", lambda *_: 1.0)
    run = create_run(tmp_path / "run", overwrite=False)
    line: Any = Line()
    make_hooks(load_recipe(None), make_task(), make_gpt2(), TIMED, run, line, []).log(
        {"kind": "train", "step": 20, "tokens_per_second": 1000.0, "loss": 1.0}
    )
    assert run.read_log("train")[0]["mfu"] == 1.0


def test_nothing_is_evaluated_without_held_out_text_and_only_the_first_rank_logs_and_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = create_run(tmp_path / "run", overwrite=False)
    line: Any = Line()
    for is_main_process in (True, False):
        monkeypatch.setattr(distributed, "is_main_process", lambda is_main_process=is_main_process: is_main_process)
        assert make_hooks(load_recipe(None), make_task(), make_gpt2(), TIMED, run, line, []).evaluate is None
        hooks = make_hooks(load_recipe(None), make_task(5), make_gpt2(), TIMED, run, line, [])
        assert hooks.evaluate is not None
        assert hooks.evaluate(make_gpt2(), TIMED) == {"split": "validation", "loss": 2.0}
        assert hooks.sample(make_gpt2()) == ({"text": "written"} if is_main_process else None)
        hooks.log({"kind": "eval", "step": 1, "loss": 1.0})
    assert len(line.shown) == len(run.read_log("eval")) == 1
