"""Locks: one writer at a time, named in the error; released when its process ends."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from llmkit.core.errors import EnvironmentFault
from llmkit.core.lock import create_locked, delete_unlocked, lock_output

HOLD = """
import sys, pathlib, llmkit.core.lock
with llmkit.core.lock.lock_output(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    input()
"""


def start_holder(folder: Path, program: str = HOLD) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", program, str(folder)]
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, start_new_session=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_second_process_is_refused_and_the_error_names_the_holder_of_the_lock(tmp_path: Path) -> None:
    holder = start_holder(tmp_path / "run")
    try:
        with (
            pytest.raises(EnvironmentFault, match=rf"process {holder.pid} on .*since 20") as caught,
            lock_output(tmp_path / "run"),
        ):
            pass
        assert caught.value.exit_code == 4
    finally:
        holder.communicate("\n")
    assert list(tmp_path.iterdir()) == []


def test_killed_holder_frees_the_folder(tmp_path: Path) -> None:
    holder = start_holder(tmp_path / "run")
    holder.kill()
    holder.communicate()
    with lock_output(tmp_path / "run"):
        assert (tmp_path / ".run.lock").exists()
    assert list(tmp_path.iterdir()) == []


FORK = """
import sys, os, pathlib, llmkit.core.lock, time
with llmkit.core.lock.lock_output(pathlib.Path(sys.argv[1])):
    if os.fork() == 0:
        print("held", flush=True)  # by the child: only now has it run what comes after a fork
        time.sleep(60)
    input()
"""


def test_child_that_outlives_the_killed_holder_does_not_keep_the_lock(tmp_path: Path) -> None:
    with start_holder(tmp_path / "run", FORK) as holder:
        try:
            holder.kill()
            holder.wait()
            with lock_output(tmp_path / "run"):
                pass
        finally:
            os.killpg(holder.pid, signal.SIGKILL)


def test_folder_may_be_deleted_and_renamed_while_it_is_held(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with lock_output(folder):
        folder.rename(tmp_path / "old")
        with pytest.raises(EnvironmentFault), lock_output(folder):
            pass


def test_lock_of_another_user_holds_whether_or_not_it_can_be_written(tmp_path: Path) -> None:
    holder = start_holder(tmp_path / "run")
    try:
        with (
            as_nobody(tmp_path),
            pytest.raises(EnvironmentFault, match="is in use by process"),
            lock_output(tmp_path / "run"),
        ):
            pass
        (tmp_path / ".run.lock").chmod(0o600)
        with as_nobody(tmp_path), pytest.raises(EnvironmentFault, match="may be in use"), lock_output(tmp_path / "run"):
            pass
    finally:
        holder.communicate("\n")


def test_lock_that_another_user_left_is_taken(tmp_path: Path) -> None:
    (tmp_path / ".run.lock").write_text("process 1")
    with as_nobody(tmp_path), lock_output(tmp_path / "run"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_path_that_cannot_be_locked_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with as_nobody(tmp_path, mode=0o755), lock_output(tmp_path / "run"):
        pass
    assert "cannot lock" in capsys.readouterr().err


def test_temporary_file_of_a_running_process_is_kept_and_that_of_a_killed_one_deleted(tmp_path: Path) -> None:
    path = tmp_path / "temporary"
    with create_locked(path):
        delete_unlocked(path)
        assert path.exists()
    delete_unlocked(path)
    assert not path.exists()


@contextmanager
def as_nobody(folder: Path, mode: int = 0o777) -> Iterator[None]:
    """Run the block as another user, to whom `folder` has `mode`."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    folder.chmod(mode)
    changed = [parent for parent in folder.parents if parent.stat().st_mode & 0o055 != 0o055]
    for parent in changed:
        parent.chmod(parent.stat().st_mode | 0o055)
    os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(0)
        for parent in changed:
            parent.chmod(0o700)
