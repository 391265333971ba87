"""Several ranks train the same model as one, resume runs of other numbers of ranks, and end together."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from four_kinds import KINDS, make_commands, read_log
from several import Fault, run_ranks

from llmkit.cli.app import app
from llmkit.core.errors import LlmkitError
from llmkit.core.files import read_json
from llmkit.training.checkpoints import list_checkpoints, verify_checkpoint

pytestmark = pytest.mark.slow

PLAIN = ["-s", "model.dropout=0", "-s", "optim.learning_rate=1e-3", "-s", "train.max_eval_samples=11"]
"""Dropout differs from rank to rank; and at a rate where the loss jumps, the last digit grows into the first."""
ONE_LAYER = ["-s", "model.n_layer=1"]
STOPPED = 143


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    found = make_commands(tmp_path_factory.mktemp("inputs"))
    return {kind: [*command, *PLAIN] for kind, command in found.items()}


@pytest.fixture(scope="module")
def alone(commands: dict[str, list[str]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs of one process."""
    folder = tmp_path_factory.mktemp("alone")
    for kind in KINDS:
        app([*commands[kind], "--out", str(folder / kind)], standalone_mode=False)
    return {kind: folder / kind for kind in KINDS}


def assert_same_log(run: Path, other: Path, tolerance: float = 1e-5) -> None:
    """Compares every value of every record; integers exactly."""
    left, right = ([record for record in read_log(each) if record["kind"] != "sample"] for each in (run, other))
    assert [(r["kind"], r["step"]) for r in left] == [(r["kind"], r["step"]) for r in right]
    for mine, its in zip(left, right, strict=True):
        for name in mine.keys() - {"text"}:
            if isinstance(mine[name], float):
                assert mine[name] == pytest.approx(its[name], rel=tolerance, abs=2e-6), (name, mine["step"])
            else:
                assert mine[name] == its[name], name


@pytest.mark.parametrize("n_ranks", [2, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradient_do_not_depend_on_the_number_of_ranks(
    kind: str, n_ranks: int, commands: dict[str, list[str]], alone: dict[str, Path], tmp_path: Path
) -> None:
    ended = run_ranks(n_ranks, [*commands[kind], "--out", str(tmp_path / "run")], tmp_path / "output")
    assert ended.codes == [0] * n_ranks, ended.err[0]
    assert_same_log(tmp_path / "run", alone[kind])
    kept = read_json(list_checkpoints(tmp_path / "run/checkpoints")[-1] / "MANIFEST.json")
    assert kept["world_size"] == n_ranks
    assert ended.out[1:] == [""] * (n_ranks - 1) and ended.err[1:] == [""] * (n_ranks - 1), "only rank 0 speaks"
    # What is scored at the end is scored by one process, on weights that differ in their last bits.
    mine, its = (read_json(run / "metrics.json")["validation"] for run in (tmp_path / "run", alone[kind]))
    name = next(name for name in ("loss", "log_loss", "token_accuracy") if name in mine)
    assert mine[name] == pytest.approx(its[name])


@pytest.mark.parametrize(("kind", "first", "then"), [("clm", 2, 1), ("mlm", 1, 2), ("gru", 4, 2), ("cls", 2, 4)])
def test_run_resumes_with_another_number_of_ranks_if_allowed(
    kind: str, first: int, then: int, commands: dict[str, list[str]], alone: dict[str, Path], tmp_path: Path
) -> None:
    command = [*commands[kind], "--out", str(tmp_path / "run")]
    fault = Fault(rank=first - 1, step=5, signal_number=signal.SIGTERM)
    stopped = run_ranks(first, command, tmp_path / "output", fault)
    assert stopped.codes == [STOPPED] * first, stopped.err
    refused = run_ranks(then, [*command, "--resume"], tmp_path / "refused")
    assert refused.codes == [2] * then and f"world_size: {first} -> {then}" in refused.err[0]
    ended = run_ranks(then, [*command, "--resume", "--allow", "world_size"], tmp_path / "again")
    assert ended.codes == [0] * then, ended.err[0]
    assert_same_log(tmp_path / "run", alone[kind])


@pytest.mark.parametrize("engine", ["ddp", "fsdp2"])
def test_frozen_layers_stay_as_they_are_on_several_ranks(
    engine: str, commands: dict[str, list[str]], tmp_path: Path
) -> None:
    command = [*commands["cls"], "-s", "cls.freeze=1", "-s", "train.max_steps=4", "--out"]
    app([*command, str(tmp_path / "alone")], standalone_mode=False)
    ended = run_ranks(2, [*command, str(tmp_path / "run"), "--engine", engine], tmp_path / "output")
    assert ended.codes == [0, 0], ended.err
    assert_same_log(tmp_path / "run", tmp_path / "alone")


def test_resumed_ranks_with_dropout_give_the_same_bytes(commands: dict[str, list[str]], tmp_path: Path) -> None:
    command = [*commands["gru"], "-s", "model.dropout=0.2", "--out"]
    straight = run_ranks(2, [*command, str(tmp_path / "straight")], tmp_path / "output")
    fault = Fault(rank=1, step=6, signal_number=signal.SIGINT)
    stopped = run_ranks(2, [*command, str(tmp_path / "run")], tmp_path / "output", fault)
    again = run_ranks(2, [*command, str(tmp_path / "run"), "--resume"], tmp_path / "output")
    assert (straight.codes, stopped.codes, again.codes) == ([0, 0], [130, 130], [0, 0])
    left, right = (tmp_path / name / "checkpoints/step-12" for name in ("run", "straight"))
    for name in ("model.safetensors", "optimizer.pt", "rng_state_0.pth", "rng_state_1.pth", "objective.safetensors"):
        assert (left / name).read_bytes() == (right / name).read_bytes(), name
    assert (left / "rng_state_0.pth").read_bytes() != (left / "rng_state_1.pth").read_bytes(), "ranks drop other units"
    assert read_log(tmp_path / "run") == read_log(tmp_path / "straight")


def test_error_of_all_ranks_is_shown_once_and_ends_all(commands: dict[str, list[str]], tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "thesis.txt").write_text("mine")
    ended = run_ranks(2, [*commands["clm"], "--out", str(taken)], tmp_path / "output")
    assert ended.codes == [2, 2]
    assert "is not empty" in ended.err[0] and ended.err[1] == ""


def test_mistake_of_one_rank_is_shown_whole_with_its_number(commands: dict[str, list[str]], tmp_path: Path) -> None:
    fault = Fault(rank=1, step=3, exit_code=None, signal_number=signal.SIGUSR1)  # which ends it without a word
    ended = run_ranks(2, [*commands["clm"], "--out", str(tmp_path / "run")], tmp_path / "output", fault)
    assert ended.codes == [5, -signal.SIGUSR1]
    assert "error: lost the connection to another rank" in ended.err[0] and "Traceback" not in ended.err[0]


def test_batch_that_ranks_cannot_share_is_refused(commands: dict[str, list[str]], tmp_path: Path) -> None:
    ended = run_ranks(3, [*commands["clm"], "--out", str(tmp_path / "run")], tmp_path / "output")
    assert ended.codes[0] == 2 and "global_batch_size 8 is not a multiple of 3 ranks" in ended.err[0]
    assert ended.err[1].startswith("rank 1:\nerror:"), "nobody ended it, so it says why itself"
    assert not (tmp_path / "run").exists()


def test_only_training_is_done_on_several_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(LlmkitError, match="runs in one process"):
        app(["prepare", "book.txt", "--out", str(tmp_path / "data")], standalone_mode=False)


def test_rank_that_dies_ends_the_job_with_its_number_and_the_checkpoint_is_good(
    commands: dict[str, list[str]], tmp_path: Path
) -> None:
    """Through the real launcher, and through torchrun with its own short timeout."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys, threading, time, pathlib\n"
        "def die():\n"
        "    while not list(pathlib.Path(os.environ['WATCHED']).glob('checkpoints/step-3')): time.sleep(0.01)\n"
        "    os._exit(9)\n"
        "if os.environ.get('RANK') == '1' and 'WATCHED' in os.environ:\n"
        "    threading.Thread(target=die, daemon=True).start()\n"
    )
    run = tmp_path / "run"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path.cwd())]), "WATCHED": str(run)}
    long = ["-s", "train.max_steps=4000", "-s", "train.ddp_timeout=20", "--out", str(run)]
    command = [sys.executable, "-m", "llmkit", *commands["clm"], *long, "--nproc", "2"]
    died = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert died.returncode == 5, died.stderr
    assert "error: rank 1 died: exit code 9" in died.stderr and "Traceback" not in died.stderr
    newest = list_checkpoints(run / "checkpoints")[-1]
    assert verify_checkpoint(newest) is None
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", "-m", "llmkit"]
    command = [sys.executable, *launcher, *commands["clm"], *long, "--resume"]
    died = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert died.returncode != 0 and "exitcode" in died.stderr and "rank      : 1" in died.stderr
    assert verify_checkpoint(list_checkpoints(run / "checkpoints")[-1]) is None


def test_log_has_memory_and_speed_in_total_and_by_rank(
    commands: dict[str, list[str]], alone: dict[str, Path], tmp_path: Path
) -> None:
    run_ranks(2, [*commands["clm"], "--out", str(tmp_path / "run")], tmp_path / "output")
    records: list[dict[str, Any]] = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    for record in (record for record in records if record["kind"] == "train"):
        assert record["tokens_per_second_per_device"] == pytest.approx(record["tokens_per_second"] / 2)
        assert 0 < record["peak_memory"] < record["peak_memory_total"] <= 2 * record["peak_memory"]
    assert "peak_memory_total" not in (alone["clm"] / "log.jsonl").read_text()


@pytest.mark.parametrize(("kind", "engine"), [("clm", "zero2"), ("mlm", "fsdp2"), ("cls", "fsdp2")])
def test_sharded_training_gives_the_same_model_and_resumes_on_one_process(
    kind: str, engine: str, commands: dict[str, list[str]], alone: dict[str, Path], tmp_path: Path
) -> None:
    """Tied weights among them, and rows of many lengths, of which ranks make different numbers of micro-batches."""
    command = [*commands[kind], "-s", "train.sample_prompt=I", "--out", str(tmp_path / "run")]
    command += ["-s", "train.sample_prompt=a [MASK]"] if kind == "mlm" else []
    fault = Fault(rank=1, step=5, signal_number=signal.SIGTERM)
    stopped = run_ranks(2, [*command, "--engine", engine], tmp_path / "output", fault)
    assert stopped.codes == [STOPPED] * 2, stopped.err
    again = run_ranks(2, [*command, "--engine", engine, "--resume"], tmp_path / "again")
    assert again.codes == [0, 0], again.err
    assert_same_log(tmp_path / "run", alone[kind])


def test_sharded_run_resumes_on_one_process(
    commands: dict[str, list[str]], alone: dict[str, Path], tmp_path: Path
) -> None:
    command = [*commands["clm"], "--out", str(tmp_path / "run")]
    fault = Fault(rank=0, step=7, signal_number=signal.SIGTERM)
    stopped = run_ranks(2, [*command, "--engine", "fsdp2"], tmp_path / "output", fault)
    assert stopped.codes == [STOPPED] * 2, stopped.err
    app([*command, "--resume", "--allow", "world_size"], standalone_mode=False)
    assert_same_log(tmp_path / "run", alone["clm"])


@pytest.mark.parametrize(
    ("kind", "settings", "what"),
    [("gru", [], "layer by layer"), ("clm", ["-s", "optim.name=muon"], "Muon needs unsharded matrices")],
)
def test_model_that_cannot_be_sharded_is_refused(
    kind: str, settings: list[str], what: str, commands: dict[str, list[str]], tmp_path: Path
) -> None:
    command = [*commands[kind], *settings, "--engine", "fsdp2", "--out", str(tmp_path / "run")]
    ended = run_ranks(2, command, tmp_path / "output")
    assert ended.codes == [2, 2] and what in ended.err[0]


@pytest.fixture(scope="module")
def one_layer(commands: dict[str, list[str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process with one layer, which compiles in half the time."""
    run = tmp_path_factory.mktemp("one-layer") / "run"
    app([*commands["clm"], *ONE_LAYER, "--out", str(run)], standalone_mode=False)
    return run


@pytest.mark.parametrize("setting", ["gradient_checkpointing=true", "compile=layers", "compile=whole"])
def test_less_memory_or_compiled_steps_train_the_same_model(
    setting: str, commands: dict[str, list[str]], one_layer: Path, tmp_path: Path
) -> None:
    command = [*commands["clm"], *ONE_LAYER, "-s", f"train.{setting}", "--out", str(tmp_path / "run")]
    ended = run_ranks(
        1, command, tmp_path / "output"
    )  # apart from here, where each warning of the compiler is an error
    assert ended.codes == [0], ended.err
    assert_same_log(tmp_path / "run", one_layer)


def test_recurrent_model_refuses_settings_that_need_a_list_of_layers(
    commands: dict[str, list[str]], tmp_path: Path
) -> None:
    with pytest.raises(LlmkitError, match="no list of separate layers"):
        command = [*commands["gru"], "-s", "train.gradient_checkpointing=true", "--out", str(tmp_path / "run")]
        app(command, standalone_mode=False)
