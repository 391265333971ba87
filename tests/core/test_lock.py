"""The lock on a folder: one writer, whom the error names, and released when its process ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from llmkit.core.errors import EnvironmentFault
from llmkit.core.lock import lock_folder

HOLD = """
import sys, pathlib, llmkit.core.lock
with llmkit.core.lock.lock_folder(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    input()
"""


def start_holder(folder: Path, program: str = HOLD) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", program, str(folder)]
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, start_new_session=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_second_process_is_refused_and_told_who_holds_the_folder(tmp_path: Path) -> None:
    holder = start_holder(tmp_path / "run")
    try:
        with (
            pytest.raises(EnvironmentFault, match=rf"process {holder.pid} on .*since 20") as caught,
            lock_folder(tmp_path / "run"),
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
    with lock_folder(tmp_path / "run"):
        assert (tmp_path / ".run.lock").exists()
    assert list(tmp_path.iterdir()) == []


FORK = """
import sys, os, pathlib, llmkit.core.lock, time
with llmkit.core.lock.lock_folder(pathlib.Path(sys.argv[1])):
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
            with lock_folder(tmp_path / "run"):
                pass
        finally:
            os.killpg(holder.pid, signal.SIGKILL)


def test_folder_may_be_deleted_and_renamed_while_it_is_held(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with lock_folder(folder):
        folder.rename(tmp_path / "old")
        with pytest.raises(EnvironmentFault), lock_folder(folder):
            pass
