"""A run that was stopped and resumed equals an uninterrupted one in every byte, for every kind of run."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from four_kinds import KINDS, N_STEPS, make_commands, read_log
from several import Fault, run_command

from llmkit.cli.app import app
from llmkit.core.errors import EnvironmentFault, Interrupted, LlmkitError, UsageError
from llmkit.core.files import read_json
from llmkit.core.lock import lock_output
from llmkit.training.callbacks import IntervalCallbacks
from llmkit.training.checkpoints import list_checkpoints
from llmkit.training.loop import TrainingLoop

STATE = {"progress.json", "MANIFEST.json"}
"""Files of a checkpoint that hold seconds, or hashes of such."""
FILES = (
    "model.safetensors", "optimizer.pt", "rng_state.pth", "progress.json",
    "config.json", "generation_config.json", "MANIFEST.json",
)  # fmt: skip
CLOCKS = {"seconds": 0, "spent": {}, "last_evaluation": 0, "last_sample": 0}
"""What of progress.json goes by a clock."""
MID_EPOCH = 5
EPOCH_EDGE = {"clm": 11, "mlm": 8, "gru": 11, "cls": 9, "ner": 9}


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    return make_commands(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def straight(commands: dict[str, list[str]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Uninterrupted runs."""
    folder = tmp_path_factory.mktemp("straight")
    for kind in KINDS:
        llmkit(*commands[kind], "--out", str(folder / kind))
    return {kind: folder / kind for kind in KINDS}


def llmkit(*arguments: str) -> None:
    app(list(arguments), standalone_mode=False)


@pytest.fixture
def signal_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Sends this process a signal during one optimizer step, counted from 1."""
    step = TrainingLoop.train_step

    def arm(number: int, at: int) -> None:
        def interrupted(self: TrainingLoop, *args: Any, **kwargs: Any) -> Any:
            if self.step == at - 1:
                os.kill(os.getpid(), number)
            return step(self, *args, **kwargs)

        monkeypatch.setattr(TrainingLoop, "train_step", interrupted)

    yield arm


def assert_same_end(run: Path, other: Path) -> None:
    """Weights, optimizer, schedule, random numbers, data position and log, byte for byte."""
    left, right = (path / f"checkpoints/step-{N_STEPS}" for path in (run, other))
    names = {path.name for path in left.iterdir()}
    assert names == {path.name for path in right.iterdir()}
    assert {"model.safetensors", "optimizer.pt", "rng_state.pth"} <= names
    for name in sorted(names - STATE):
        assert (left / name).read_bytes() == (right / name).read_bytes(), name
    kept, again = (read_json(path / "progress.json") | CLOCKS for path in (left, right))
    assert kept == again
    assert (run / "model/model.safetensors").read_bytes() == (other / "model/model.safetensors").read_bytes()
    assert read_log(run) == read_log(other)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("where", ["mid-epoch", "edge"])
@pytest.mark.parametrize("kind", KINDS)
def test_stopped_and_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(
    commands: dict[str, list[str]], straight: dict[str, Path], signal_at: Any, tmp_path: Path, kind: str, where: str,
    workers: int,
) -> None:  # fmt: skip
    run = tmp_path / "run"
    step = MID_EPOCH if where == "mid-epoch" else EPOCH_EDGE[kind]
    signal_at(signal.SIGTERM, step)
    with pytest.raises(Interrupted) as stopped:
        llmkit(*commands[kind], "--out", str(run))
    assert stopped.value.exit_code == 143
    assert list_checkpoints(run / "checkpoints")[-1].name == f"step-{step}"
    assert not (run / "model").exists()
    llmkit(*commands[kind], "--out", str(run), "--resume", "-s", f"train.num_workers={workers}")
    assert_same_end(run, straight[kind])


def test_signal_in_the_first_step_saves_it(
    commands: dict[str, list[str]], straight: dict[str, Path], signal_at: Any, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    signal_at(signal.SIGINT, 1)
    with pytest.raises(Interrupted, match="saved at step 1 of 12"):
        llmkit(*commands["gru"], "--out", str(run))
    llmkit(*commands["gru"], "--out", str(run), "--resume")
    assert_same_end(run, straight["gru"])


def test_runs_of_the_tests_cross_an_epoch_at_the_given_step(straight: dict[str, Path]) -> None:
    for kind in KINDS:
        epochs = [record["epoch"] for record in read_log(straight[kind]) if record["kind"] == "train"]
        assert epochs[EPOCH_EDGE[kind] - 2] < 1 <= epochs[EPOCH_EDGE[kind] - 1]


def test_signal_in_an_evaluation_ends_it_and_resuming_does_it_again(
    commands: dict[str, list[str]], straight: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    evaluate = IntervalCallbacks._evaluate

    def interrupted(self: IntervalCallbacks, *args: Any) -> Any:
        def scored(model: Any, plan: Any) -> Any:
            os.kill(os.getpid(), signal.SIGINT)
            raise AssertionError("the evaluation went on")

        self.hooks = replace(self.hooks, evaluate=scored)
        return evaluate(self, *args)

    monkeypatch.setattr(IntervalCallbacks, "_evaluate", interrupted)
    with pytest.raises(Interrupted) as stopped:
        llmkit(*commands["clm"], "--out", str(run))
    assert stopped.value.exit_code == 130
    assert [record["kind"] for record in read_log(run)] == ["train"] * 3
    monkeypatch.undo()
    llmkit(*commands["clm"], "--out", str(run), "--resume")
    assert_same_end(run, straight["clm"])


def test_signal_in_a_save_lets_it_finish_and_makes_no_second_one(
    commands: dict[str, list[str]], straight: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = tmp_path / "run"

    def failpoint(point: str) -> None:
        if point == "step-3: before hashing":
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("llmkit.training.checkpoints.failpoint", failpoint)
    with pytest.raises(Interrupted, match="saved at step 3 of 12"):
        llmkit(*commands["clm"], "--out", str(run))
    assert [path.name for path in list_checkpoints(run / "checkpoints")] == ["step-3"]
    llmkit(*commands["clm"], "--out", str(run), "--resume")
    assert_same_end(run, straight["clm"])


def test_auto_starts_or_resumes_a_run_and_does_nothing_if_it_has_ended(
    commands: dict[str, list[str]], straight: dict[str, Path], signal_at: Any, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run = tmp_path / "run"
    again = [*commands["clm"], "--out", str(run), "--resume", "auto"]
    signal_at(signal.SIGTERM, 5)
    with pytest.raises(Interrupted):
        llmkit(*again)
    for resume in ([*again[:-1]], again):
        shutil.rmtree(run / "checkpoints")  # as if it had been killed before its first checkpoint
        capsys.readouterr()
        with pytest.raises(Interrupted):
            llmkit(*resume)
        assert ("has no checkpoint yet: the run starts again at step 0" in capsys.readouterr().err) == (resume != again)
    monkeypatch.undo()
    llmkit(*again)
    assert_same_end(run, straight["clm"])
    written = (run / "model/model.safetensors").stat().st_mtime_ns
    capsys.readouterr()
    llmkit(*again)
    assert "is already complete: nothing to do" in capsys.readouterr().err
    assert (run / "model/model.safetensors").stat().st_mtime_ns == written
    make_older(run)
    llmkit(*again)
    assert "bits per byte" in capsys.readouterr().out


def make_older(run: Path) -> None:
    """A finished run as earlier versions wrote it: with an objective, and metrics without their task."""
    metrics, manifest = (json.loads((run / name).read_text()) for name in ("metrics.json", "manifest.json"))
    for part in metrics.values():
        part.pop("task", None)
    manifest["objective"] = manifest.pop("task")
    (run / "metrics.json").write_text(json.dumps(metrics))
    (run / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture(scope="module")
def stopped(commands: dict[str, list[str]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs that were stopped after step 6."""
    folder = tmp_path_factory.mktemp("stopped")
    found = {}
    for kind in ("clm", "gru"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(IntervalCallbacks, "_check_spike", break_in_step_seven)
            with pytest.raises(BrokenError):
                llmkit(*commands[kind], "--out", str(folder / kind))
        found[kind] = folder / kind
    return found


class BrokenError(Exception):
    pass


CHECK_SPIKE = IntervalCallbacks._check_spike


def break_in_step_seven(self: IntervalCallbacks, step: int, *args: Any) -> None:
    if step == 7:
        raise BrokenError
    CHECK_SPIKE(self, step, *args)


@pytest.mark.parametrize("name", FILES)
def test_flipped_bit_in_any_file_is_found_and_the_one_before_is_taken(
    commands: dict[str, list[str]], stopped: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:  # fmt: skip
    run = shutil.copytree(stopped["clm"], tmp_path / "run")
    newest = run / "checkpoints/step-6"
    assert {path.name for path in newest.iterdir()} >= {name}
    data = bytearray((newest / name).read_bytes())
    data[len(data) // 2] ^= 4
    (newest / name).write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(IntervalCallbacks, "_check_spike", break_in_step_seven)
        with pytest.raises(BrokenError):
            llmkit(*commands["clm"], "--out", str(run), "--resume")
    output = capsys.readouterr().err
    assert f"step-6 is damaged: {name}" in output
    assert "using step-4" in output  # the best so far


CHANGES = {
    "train.global_batch_size=4": "train.global_batch_size: 8 -> 4",
    "train.micro_batch_size=2": "train.micro_batch_size: 4 -> 2",
    "optim.learning_rate=1e-4": "optim.learning_rate: 0.001 -> 0.0001",
    "train.seed=3": "train.seed: 0 -> 3",
    "model.dropout=0": "model.dropout: 0.1 -> 0.0",
}


@pytest.mark.parametrize("change", CHANGES)
def test_change_is_refused_with_old_and_new(
    commands: dict[str, list[str]], stopped: dict[str, Path], change: str
) -> None:
    with pytest.raises(UsageError) as refused:
        llmkit(*commands["clm"], "--out", str(stopped["clm"]), "--resume", "-s", change)
    assert CHANGES[change] in str(refused.value)
    assert ("--allow" in str(refused.value)) == (not change.startswith("model."))


def test_other_data_is_refused_unless_it_is_allowed_by_name(
    commands: dict[str, list[str]], stopped: dict[str, Path], tmp_path: Path
) -> None:
    run = shutil.copytree(stopped["clm"], tmp_path / "run")
    command = [*commands["clm"], "--out", str(run), "--resume"]
    command[2] = str(Path(command[2]).parent / "wordpiece")
    with pytest.raises(LlmkitError, match=r"train_documents|tokenizer"):
        llmkit(*command)


def test_larger_batch_resumes_at_the_next_sample(
    commands: dict[str, list[str]], stopped: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = shutil.copytree(stopped["clm"], tmp_path / "run")
    taken: list[list[int]] = []
    collate = TrainingLoop._count

    def recorded(self: TrainingLoop, *args: Any) -> Any:
        taken.append(self.plan.batches.numbers(self.step, 0))
        return collate(self, *args)

    monkeypatch.setattr(TrainingLoop, "_count", recorded)
    change = ["-s", "train.global_batch_size=12", "--allow", "train.global_batch_size"]
    llmkit(*commands["clm"], "--out", str(run), "--resume", *change)
    # Six steps of 8 were done; 48 samples are left, which is 4 steps of 12.
    assert [number for step in taken for number in step] == list(range(48, 96))
    manifest = read_json(run / "manifest.json")
    assert manifest["changes"] == [{"step": 6, "changed": ["train.global_batch_size: 8 -> 12"]}]
    assert manifest["plan"]["n_steps"] == 10
    assert read_log(run)[-1]["step"] == 10
    assert "global_batch_size: 12" in (run / "recipe.yaml").read_text()


def test_allowed_change_stays_allowed_until_it_has_a_checkpoint(
    commands: dict[str, list[str]], stopped: dict[str, Path], tmp_path: Path
) -> None:
    run = shutil.copytree(stopped["clm"], tmp_path / "run")
    again = [*commands["clm"], "--out", str(run), "--resume", "-s", "train.global_batch_size=12"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(IntervalCallbacks, "_check_spike", break_in_step_seven)
        with pytest.raises(BrokenError):
            llmkit(*again, "--allow", "train.global_batch_size")
    llmkit(*again)
    assert read_log(run)[-1]["step"] == 10
    assert len(read_json(run / "manifest.json")["changes"]) == 1


def test_allowed_learning_rate_is_used_after_the_resume(
    commands: dict[str, list[str]], stopped: dict[str, Path], tmp_path: Path
) -> None:
    run = shutil.copytree(stopped["clm"], tmp_path / "run")
    options = ["-s", "optim.learning_rate=1e-5", "--allow", "optim.learning_rate"]
    llmkit(*commands["clm"], "--out", str(run), "--resume", *options)
    rates = {record["step"]: record["learning_rate"] for record in read_log(run) if record["kind"] == "train"}
    assert rates[6] > 1e-4
    assert 0 < rates[7] <= 1e-5
    group = torch.load(run / f"checkpoints/step-{N_STEPS}/optimizer.pt", weights_only=True)["param_groups"][0]
    assert 0 < group["lr"] <= 1e-5


def test_streams_of_a_carried_state_cannot_become_more(
    commands: dict[str, list[str]], stopped: dict[str, Path]
) -> None:
    change = ["-s", "train.global_batch_size=4", "--allow", "train.global_batch_size"]
    with pytest.raises(UsageError, match="global_batch_size: 8 -> 4"):
        llmkit(*commands["gru"], "--out", str(stopped["gru"]), "--resume", *change)


def test_name_that_nothing_depends_on_is_refused(commands: dict[str, list[str]], stopped: dict[str, Path]) -> None:
    with pytest.raises(UsageError, match=r"optim\.learning_rat'"):
        llmkit(*commands["clm"], "--out", str(stopped["clm"]), "--resume", "--allow", "optim.learning_rat")


@pytest.mark.parametrize(("seconds", "saved"), [(0.0, []), (3600.0, ["step-2"])])
def test_second_signal_exits_at_once_unless_it_repeats_the_first(
    commands: dict[str, list[str]], tmp_path: Path, seconds: float, saved: list[str]
) -> None:
    """A signal within this number of seconds repeats the first one; the number is set, so speed does not matter."""
    fault = Fault(rank=0, step=2, signal_number=signal.SIGTERM, twice_within=seconds)
    code, _, err = run_command([*commands["clm"], "--out", str(tmp_path / "run")], tmp_path / "output", fault)
    assert code == 143, err
    assert [path.name for path in list_checkpoints(tmp_path / "run/checkpoints")] == saved
    assert "Traceback" not in err


def test_second_process_in_the_same_run_is_refused(commands: dict[str, list[str]], tmp_path: Path) -> None:
    with lock_output(tmp_path / "run"), pytest.raises(EnvironmentFault, match=rf"in use by process {os.getpid()}"):
        llmkit(*commands["clm"], "--out", str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
