"""Checkpoints are whole or absent, and damage is found."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from llmkit.core.errors import ModelError
from llmkit.training.checkpoints import (
    find_checkpoint,
    list_checkpoints,
    prune_checkpoints,
    verify_checkpoint,
    write_checkpoint,
)


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
        (lambda path: flip_a_bit(path / "model.safetensors"), "another SHA-256"),
        (lambda path: (path / "optimizer.pt").unlink(), "is missing"),
        (lambda path: (path / "optimizer.pt").write_bytes(b""), "0 bytes instead of 20"),
        (lambda path: (path / "MANIFEST.json").unlink(), "MANIFEST.json"),
        (lambda path: (path / "MANIFEST.json").write_text("{"), "MANIFEST.json"),
    ],
)
def test_damaged_newest_is_passed_over_by_name(tmp_path: Path, damage: Callable[[Path], None], words: str) -> None:
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


def test_writer_that_dies_leaves_no_checkpoint_behind(tmp_path: Path) -> None:
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


WRITER = """
import os, sys
from pathlib import Path
import llmkit.core.files, llmkit.training.checkpoints as checkpoints
passed = []
def reached(point):
    passed.append(point)
    if len(passed) == int(sys.argv[2]):
        print(point, flush=True)
        os._exit(9)
llmkit.core.files.reached = checkpoints.reached = reached
folder = Path(sys.argv[1])
for step in (30, 40):
    with checkpoints.write_checkpoint(folder, step, {"seed": 1}) as partial:
        (partial / "model.safetensors").write_bytes(bytes(range(100)))
    checkpoints.prune_checkpoints(folder, {10})
"""


def test_writer_killed_at_any_moment_leaves_sound_checkpoints_and_nothing_that_passes_for_one(tmp_path: Path) -> None:
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
