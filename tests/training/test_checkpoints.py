"""Checkpoints are complete or absent, and damage is detected.

The files of a checkpoint restore weights, moments, random numbers and an objective's state, bit by bit.
"""

import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny import assert_same_weights, make_gpt2

from llmkit.core import distributed
from llmkit.core.errors import ModelError
from llmkit.training.checkpoints import (
    find_checkpoint,
    gather_state,
    list_checkpoints,
    load_objective_state,
    load_optimizer_state,
    load_rng_state,
    load_weights,
    mark_damaged,
    prune_checkpoints,
    verify_checkpoint,
    write_checkpoint,
)
from llmkit.training.losses import LossWindow


def write(folder: Path, *steps: int) -> None:
    for step in steps:
        with write_checkpoint(folder, step, {"seed": 1}) as partial:
            (partial / "model.safetensors").write_bytes(bytes(range(100)))
            (partial / "optimizer.pt").write_bytes(b"x" * step)


def flip_a_bit(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[50] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: flip_a_bit(path / "model.safetensors"), "has the SHA-256"),
        (lambda path: (path / "optimizer.pt").unlink(), "is missing"),
        (lambda path: (path / "optimizer.pt").write_bytes(b""), "0 bytes instead of 20"),
        (lambda path: (path / "MANIFEST.json").unlink(), "MANIFEST.json"),
        (lambda path: (path / "MANIFEST.json").write_text("{"), "MANIFEST.json"),
    ],
)
def test_damaged_newest_checkpoint_is_named_and_the_one_before_is_used(
    tmp_path: Path, damage: Callable[[Path], None], words: str
) -> None:
    write(tmp_path, 10, 20)
    damage(tmp_path / "step-20")
    path, manifest, passed_over = find_checkpoint(tmp_path)
    assert (path.name, manifest["step"]) == ("step-10", 10)
    assert list(passed_over) == ["step-20"]
    assert words in passed_over["step-20"]


def test_any_flipped_bit_of_the_manifest_is_found(tmp_path: Path) -> None:
    write(tmp_path, 10)
    manifest = tmp_path / "step-10/MANIFEST.json"
    whole = manifest.read_bytes()
    assert verify_checkpoint(manifest.parent) is None
    for position in range(len(whole)):
        data = bytearray(whole)
        data[position] ^= 4
        manifest.write_bytes(data)
        if data.split() != whole.split():  # white space between words says nothing
            assert verify_checkpoint(manifest.parent) is not None, position


def test_all_damaged_is_exit_code_6(tmp_path: Path) -> None:
    write(tmp_path, 10)
    flip_a_bit(tmp_path / "step-10/model.safetensors")
    with pytest.raises(ModelError, match="nothing to resume from") as caught:
        find_checkpoint(tmp_path)
    assert caught.value.exit_code == 6


def test_failed_write_leaves_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), write_checkpoint(tmp_path, 5, {}) as partial:
        (partial / "model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt
    assert list_checkpoints(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_pruning_keeps_the_newest_two_the_best_and_what_is_not_ours(tmp_path: Path) -> None:
    write(tmp_path, 1, 2, 3, 9, 10)
    shutil.copytree(tmp_path / "step-1", tmp_path / "step-keep")
    prune_checkpoints(tmp_path, keep_steps={2})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-10", "step-2", "step-9", "step-keep"]


def test_pruning_keeps_a_checkpoint_with_a_file_of_the_user(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, 1, 2, 9, 10)
    (tmp_path / "step-2/notes.txt").write_text("mine")
    (tmp_path / "step-3").mkdir()
    (tmp_path / "step-3/thesis.txt").write_text("mine")
    prune_checkpoints(tmp_path, keep_steps=set())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-10", "step-2", "step-3", "step-9"]
    assert verify_checkpoint(tmp_path / "step-2") is None
    assert "step-3 is kept: it has files that llmkit did not write" in capsys.readouterr().err


def test_damaged_checkpoint_never_replaces_an_earlier_one(tmp_path: Path) -> None:
    for _ in range(3):
        write(tmp_path, 4)
        mark_damaged(tmp_path / "step-4")
    assert {path.name for path in tmp_path.iterdir()} == {f"step-4.damaged{end}" for end in ("", "-2", "-3")}


WRITER = """
import os, sys
from pathlib import Path
import llmkit.core.files, llmkit.training.checkpoints as checkpoints
passed = []
def failpoint(point):
    passed.append(point)
    if len(passed) == int(sys.argv[2]):
        print(point, flush=True)
        os._exit(9)
llmkit.core.files.failpoint = checkpoints.failpoint = failpoint
folder = Path(sys.argv[1])
for step in (30, 40):
    with checkpoints.write_checkpoint(folder, step, {"seed": 1}) as partial:
        (partial / "model.safetensors").write_bytes(bytes(range(100)))
    checkpoints.prune_checkpoints(folder, {10})
"""


def test_writer_killed_at_any_moment_leaves_intact_checkpoints_and_no_incomplete_one(tmp_path: Path) -> None:
    moments = []
    for number in range(1, 100):
        folder = tmp_path / str(number)
        write(folder, 10, 20, 25)
        shutil.copytree(folder / "step-10", folder / "step-keep")
        command = [sys.executable, "-c", WRITER, str(folder), str(number)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        found = list_checkpoints(folder)
        assert [verify_checkpoint(path) for path in found] == [None] * len(found), ended.stdout
        names = [path.name for path in found]
        assert {"step-10", "step-25"} & set(names), ended.stdout
        assert len(names) >= 3
        assert (folder / "step-keep/MANIFEST.json").exists()
        if ended.returncode == 0:
            assert names == ["step-10", "step-30", "step-40"]
            break
        assert ended.returncode == 9, ended.stderr
        moments.append(ended.stdout.strip())
        write(folder, 50)  # whoever goes on is not held up by what was left
        prune_checkpoints(folder, {10})
        left = {path.name for path in folder.iterdir() if path.name.startswith(".")}
        assert not any(name.endswith(".pruned") for name in left)
    assert {"step-30: before hashing", "MANIFEST.json: begin", "step-30: before rename", "step-20: while pruning"} <= {
        *moments
    }
    assert len(moments) >= 14


def train(model: torch.nn.Module, optimizer: torch.optim.Optimizer, n_steps: int) -> None:
    for _ in range(n_steps):
        optimizer.zero_grad()
        model(torch.arange(8)[None], labels=torch.arange(8)[None]).loss.backward()
        optimizer.step()


def make(seed: int, rate: float = 1e-2) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    model = make_gpt2(seed)
    return model, torch.optim.AdamW(model.parameters(), rate)


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, torch.nn.Module, torch.optim.Optimizer]:
    model, optimizer = make(0)
    train(model, optimizer, 2)
    window = LossWindow()
    window.add_sums({"lm": torch.tensor(1.5)})
    objective = SimpleNamespace(state={"hidden": torch.arange(12.0).view(1, 2, 6)})
    states = gather_state(model, optimizer, window, objective, 6)
    assert states.window_sums == {"lm": 1.5}
    states.write(tmp_path, model)
    return tmp_path, model, optimizer


def test_training_from_a_checkpoint_equals_uninterrupted_training(
    saved: tuple[Path, torch.nn.Module, torch.optim.Optimizer],
) -> None:
    folder, model, optimizer = saved
    again, its = make(7)
    load_weights(again, folder)
    load_optimizer_state(folder, its)
    for each, mover in ((model, optimizer), (again, its)):
        train(each, mover, 2)
    assert_same_weights(model.state_dict(), again.state_dict())


def test_learning_rate_comes_from_the_recipe_not_from_the_checkpoint(
    saved: tuple[Path, torch.nn.Module, torch.optim.Optimizer],
) -> None:
    _, optimizer = make(0, rate=0.5)
    load_optimizer_state(saved[0], optimizer)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5]
    assert all(state["step"] == 2 for state in optimizer.state.values())


def test_random_numbers_continue_except_with_another_number_of_ranks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    model, optimizer = make(0)
    states = gather_state(model, optimizer, LossWindow(), SimpleNamespace(state={}), 1)
    states.write(tmp_path, model)
    expected = draw()
    draw()
    load_rng_state(tmp_path, seed=3)
    assert draw() == expected
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    load_rng_state(tmp_path, seed=3)
    torch_draw = torch.rand(())
    assert torch_draw == torch.rand((), generator=torch.Generator().manual_seed(3))


def test_state_of_an_objective_is_restored_and_an_empty_one_has_no_file(
    saved: tuple[Path, torch.nn.Module, torch.optim.Optimizer], tmp_path_factory: pytest.TempPathFactory
) -> None:
    objective = SimpleNamespace(state={})
    load_objective_state(saved[0], objective)
    assert torch.equal(objective.state["hidden"], torch.arange(12.0).view(1, 2, 6))
    load_objective_state(tmp_path_factory.mktemp("other"), objective)
    assert len(objective.state) == 1


def test_weights_of_another_shape_of_model_are_refused_by_name(
    saved: tuple[Path, torch.nn.Module, torch.optim.Optimizer],
) -> None:
    config = saved[1].config.__class__(**{**saved[1].config.to_dict(), "n_layer": 3})
    larger = type(saved[1])(config)
    with pytest.raises(ModelError, match=r"transformer\.h\.2\.") as caught:
        load_weights(larger, saved[0])
    assert caught.value.problems[0].where == str(saved[0])
