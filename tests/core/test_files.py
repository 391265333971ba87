"""Files and folders are complete or absent, at whatever moment a write fails."""

import errno
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from llmkit.core import files
from llmkit.core.errors import UsageError
from llmkit.core.files import (
    describe_files,
    hash_file,
    hash_small_file,
    new_file,
    new_folder,
    read_json,
    verify_file,
    write_json,
    write_text,
)


class FailureError(Exception):
    """Comes at a named moment of writing."""


def write_file(path: Path, text: str) -> None:
    write_text(path, text)


def write_folder(path: Path, text: str) -> None:
    with new_folder(path) as folder:
        (folder / "inner").mkdir()
        (folder / "one").write_text(text)
        (folder / "inner/two").write_text(text)


def read_whole(path: Path) -> set[str]:
    """The different texts in it: one, where it is whole."""
    if path.is_file():
        return {path.read_text()}
    return {(path / name).read_text() for name in ("one", "inner/two")}


def list_points(write: Callable[[Path, str], None], path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The named moments of replacing `path`."""
    points: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(files, "failpoint", points.append)
        write(path, "old")
    return points


@pytest.mark.parametrize("write", [write_file, write_folder])
def test_failure_at_any_moment_leaves_the_old_or_the_new_and_the_next_write_clears_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path, str], None]
) -> None:
    path = tmp_path / "out"
    write(path, "old")
    points = list_points(write, path, monkeypatch)
    assert len(points) == len(set(points)) >= 2
    left = []
    for point in points:

        def fail(now: str, point: str = point) -> None:
            if now == point:
                raise FailureError(point)

        with monkeypatch.context() as patch, pytest.raises(FailureError):
            patch.setattr(files, "failpoint", fail)
            write(path, "new")
        [text] = read_whole(path)
        left.append(text)
        write(path, "old")
        assert read_whole(path) == {"old"}
        assert [each.name for each in tmp_path.iterdir()] == ["out"], point
    assert left == sorted(left, reverse=True), "new only after the rename"
    assert left[0] == "old"


@pytest.mark.parametrize("write", [write_file, write_folder])
def test_failure_before_there_was_anything_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path, str], None]
) -> None:
    def fail(point: str) -> None:
        if point == "out: before rename":
            raise FailureError

    monkeypatch.setattr(files, "failpoint", fail)
    with pytest.raises(FailureError):
        write(tmp_path / "out", "new")
    assert not (tmp_path / "out").exists()
    if write is write_file:  # of a folder, the next write clears away what was begun
        assert list(tmp_path.iterdir()) == []


def test_file_becomes_visible_only_when_its_block_ends_well(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    with new_file(path) as file:
        file.write("a\n")
        file.flush()
        assert not path.exists()
    assert path.read_bytes() == b"a\n"
    with pytest.raises(FailureError), new_file(path) as file:
        file.write("half")
        raise FailureError
    assert (path.read_bytes(), [each.name for each in tmp_path.iterdir()]) == (b"a\n", ["rows.csv"])


def test_json_is_read_back_as_it_was_and_nan_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    value = {"却说": [1, 0.1, None, "a\u2028b\n"], "b": {}}
    write_json(path, value)
    assert read_json(path) == value
    assert "却说" in path.read_text(encoding="utf-8")
    write_json(path, value, indent=None)
    assert path.read_text(encoding="utf-8").count("\n") == 1
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"loss": float("nan")})
    assert read_json(path) == value


def test_each_kind_of_damage_is_found_and_reported(tmp_path: Path) -> None:
    data = bytes(range(256)) * 40
    (tmp_path / "part").mkdir()
    path = tmp_path / "part/a.bin"
    path.write_bytes(data)
    described = describe_files(tmp_path / "part", tmp_path)
    expected = described["part/a.bin"]
    assert expected == {"bytes": 10_240, "sha256": hashlib.sha256(data).hexdigest()}
    assert json.loads(json.dumps(described)) == described
    assert verify_file(path, expected) is None
    path.write_bytes(data[:-1] + b"\x00")
    assert "SHA-256" in str(verify_file(path, expected))
    assert verify_file(path, expected, hashes=False) is None
    path.write_bytes(data[:-1])
    assert verify_file(path, expected, hashes=False) == "has 10,239 bytes instead of 10,240"
    path.unlink()
    assert verify_file(path, expected) == "is missing"


def test_hash_of_a_small_file_is_that_of_any_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\r\n\xff" * 999)
    assert hash_small_file(str(tmp_path / "a.txt")) == hash_file(tmp_path / "a.txt")


def test_kill_between_the_two_renames_loses_nothing(tmp_path: Path) -> None:
    with new_folder(tmp_path / "model") as folder:
        (folder / "weights").write_text("old")
    (tmp_path / "model").rename(tmp_path / ".model.old")
    with pytest.raises(KeyboardInterrupt), new_folder(tmp_path / "model"):
        raise KeyboardInterrupt
    assert (tmp_path / "model/weights").read_text() == "old"


def test_concurrent_writers_of_one_file_are_independent_and_leftovers_of_killed_ones_are_deleted(
    tmp_path: Path,
) -> None:
    path = tmp_path / "out.csv"
    (tmp_path / ".out.csv.1-abcdef.partial").write_text("of a killed process")
    (tmp_path / ".out.csv.mine.partial").write_text("of the user")
    with new_file(path) as first:
        first.write("first")
        with new_file(path) as second:
            second.write("second")
        assert path.read_text() == "second"
    assert path.read_text() == "first"
    assert sorted(each.name for each in tmp_path.iterdir()) == [".out.csv.mine.partial", "out.csv"]


def test_long_name_has_a_temporary_one_too(tmp_path: Path) -> None:
    write_text(tmp_path / ("猫" * 84), "whole")
    assert (tmp_path / ("猫" * 84)).read_text() == "whole"


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_private_files_of_libraries_get_the_permissions_of_the_umask(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        with new_folder(tmp_path / "model") as folder:
            (folder / "model.safetensors").touch(0o600)
            (folder / "config.json").touch()
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "model").iterdir()} == {0o666 & ~umask}


def test_device_is_never_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="device, pipe or socket"), new_file(tmp_path / "pipe"):
        pass
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize(("number", "name"), [(errno.ENOSPC, "result.csv"), (errno.EIO, None)])
def test_write_to_a_full_disk_names_the_file(tmp_path: Path, number: int, name: str | None) -> None:
    with pytest.raises(OSError) as caught, new_file(tmp_path / "result.csv"):
        raise OSError(number, os.strerror(number))
    assert caught.value.filename == (str(tmp_path / name) if name else None)
    assert not list(tmp_path.iterdir())
