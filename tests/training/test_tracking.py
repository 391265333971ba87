"""Experiment trackers get what the log gets, through accelerate's interface."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import accelerate.logging
import pytest
from four_kinds import make_commands

from llmkit.cli.app import app
from llmkit.core.errors import EnvironmentFault
from llmkit.training import tracking

logger = accelerate.logging.get_logger(__name__)


class Tracker:
    """Keeps what it is called with."""

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
    monkeypatch.setattr(tracking, "require_trackers", lambda names: None)
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


def test_missing_tracker_is_named_with_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for spec in (None, SimpleNamespace(origin=None)):
        monkeypatch.setattr("importlib.util.find_spec", lambda name, spec=spec: spec)
        with pytest.raises(EnvironmentFault, match="mlflow is not installed") as caught:
            tracking.require_trackers(["mlflow"])
        assert "llmkit[mlflow]" in str(caught.value)
    assert tracking.open_trackers([], Path(), {}) == []
