"""Files and folders are whole or absent, wherever writing them fails.

Space on the disk, before a run and when it has run out.
"""

import errno
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from llmkit.core import files
from llmkit.core.errors import EnvironmentFault, UsageError
from llmkit.core.files import (
    check_writable,
    describe_files,
    expand_home,
    explain_full_disk,
    hash_file,
    hash_small_file,
    measure_folder,
    new_file,
    new_folder,
    read_json,
    require_space,
    show_size,
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


def test_folder_that_cannot_be_written_to_is_an_error_with_the_systems_reason(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for dry_run in (False, True):
        with pytest.raises(EnvironmentFault, match=r"cannot write to .*: (Not a directory|File exists)") as caught:
            check_writable(tmp_path / "file/run", dry_run=dry_run)
        assert "--out" in caught.value.problems[0].hint
    check_writable(tmp_path / "new/run", dry_run=True)
    assert not (tmp_path / "new").exists(), "a dry run makes nothing"
    check_writable(tmp_path / "new/run")
    assert list((tmp_path / "new").iterdir()) == []


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


def test_disk_that_is_too_small_is_refused_with_both_sizes(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match=r"this run needs about 1,000 TB, .* is free"):
        require_space(tmp_path, 10**15, "this run")


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0"),
        RuntimeError("I/O error: No space left on device (os error 28)"),
    ],
)
def test_full_disk_is_told_from_other_failures(tmp_path: Path, error: Exception) -> None:
    with (
        pytest.raises(EnvironmentFault, match="disk is full: a checkpoint needs about 5 MB") as full,
        explain_full_disk(tmp_path, "a checkpoint", 5_000_000),
    ):
        raise error
    assert full.value.exit_code == 4
    with pytest.raises(ValueError, match="ours"), explain_full_disk(tmp_path, "a checkpoint", 1):
        raise ValueError("ours")


def test_full_disk_is_found_behind_the_error_that_hides_it(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="disk is full"), explain_full_disk(tmp_path, "the model", 1):
        try:
            raise OSError(errno.EDQUOT, "Disk quota exceeded")
        except OSError as error:
            raise RuntimeError("the file could not be serialized") from error


def test_folder_that_fits_is_not_refused_and_is_measured_to_the_byte(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/one").write_bytes(b"x" * 1000)
    (tmp_path / "a/b/two").write_bytes(b"x" * 234)
    assert measure_folder(tmp_path / "a") == 1234
    require_space(tmp_path, 1, "this run")


def test_sizes_are_in_the_unit_that_suits_them() -> None:
    sizes = (0, 999, 1.5e3, 64e6, 2e9, 80e9, 3e12, 2e15)
    assert [show_size(n) for n in sizes] == [
        "0 bytes", "999 bytes", "1.5 kB", "64 MB", "2 GB", "80 GB", "3 TB", "2,000 TB"
    ]  # fmt: skip


def test_home_of_nobody_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert expand_home("~/a") == Path("/home/me/a")
    assert expand_home(Path("~nobody-of-this-name/a")) == Path("~nobody-of-this-name/a")


def test_writers_of_one_file_do_not_disturb_each_other_and_what_a_killed_one_left_is_deleted(tmp_path: Path) -> None:
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
