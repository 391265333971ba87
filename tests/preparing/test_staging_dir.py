"""`prepare` that is killed, stopped or started twice: no partial folder, no repeated work, the same bytes."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny import digests

SERVER = """
import json, os, shutil, signal, sys, threading, time
import pandas, pyarrow.compute  # which pyarrow loads late; so it is loaded once
import llmkit.core.files
from llmkit.cli.app import main
from llmkit.preparing import shards, stages, staging_dir

def arm(points, signals, stderr, **_):
    begun = []

    def wait_for_the_first_signal_to_count():
        time.sleep(2)  # what comes sooner is the first one, sent twice
        ends = time.monotonic() + 60
        if threading.current_thread() is not threading.main_thread():  # a library's, and another one reports the signal
            while "repeat the signal to stop" not in open(stderr).read() and time.monotonic() < ends:
                time.sleep(0.05)

    def failpoint(name):
        if name in points:
            begun.append(name)
            for n, number in enumerate(signals):
                wait_for_the_first_signal_to_count() if n else None
                os.kill(os.getpid(), number)
            if len(signals) > 1:
                time.sleep(60)
                os._exit(99)

    def counted(documents, meter):
        for n, document in enumerate(documents):
            failpoint(f"{meter.what}: document {n}")
            yield document

    def sampled(documents, share):
        for n, text in enumerate(sample(documents, share)):
            failpoint(f"training: chunk {n}")
            yield text

    def cleared(path):
        failpoint("clearing") if begun else None
        clear(path)

    sample, clear = stages._sample_texts, staging_dir.clear_staging_dir
    shards.count_bytes, stages._sample_texts, llmkit.core.files.failpoint = counted, sampled, failpoint
    staging_dir.clear_staging_dir = cleared

for line in sys.stdin:
    order = json.loads(line)
    if "pid" in order:
        print(os.waitstatus_to_exitcode(os.waitpid(order["pid"], 0)[1]), flush=True)
        continue
    if pid := os.fork():
        print(pid, flush=True)
        continue
    for handle, path, mode in ((0, order["stdin"], os.O_RDONLY), (1, os.devnull, os.O_WRONLY),
                               (2, order["stderr"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)):
        os.dup2(os.open(path, mode), handle)
    sys.argv = ["llmkit", *order["arguments"]]
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if order["parallel"] else "false"
    arm(**order)
    try:
        main()
    except SystemExit as end:
        sys.stderr.flush()
        os._exit(end.code)
    except BaseException:
        import traceback
        traceback.print_exc()
        os._exit(1)
"""
"""Imports llmkit once, and runs each command that it is sent in a process of its own. Signals come at named points."""

SMALL = ["-s", "prepare.tokenizer.vocab_size=300", "-s", "prepare.split.validation=0.2", "-s", "prepare.split.test=0.1"]


class Commands:
    """Commands started by the server, and their messages."""

    def __init__(self, folder: Path) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        self._server = subprocess.Popen(
            [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self._folder = folder
        self.books = folder / "books"
        self.books.mkdir()
        for n in range(5):
            text = "".join(
                f"It was the {n * 100 + line}th of times.\n却说曹操大喜，遂引兵追之。\n\n" for line in range(30)
            )
            (self.books / f"{n}.txt").write_text(text, encoding="utf-8")
        self.clean_folder = folder / "clean"
        assert self.run(self.clean_folder, str(self.books))[0] == 0
        self.clean = digests(self.clean_folder)

    def start(
        self,
        out: Path,
        *inputs: str,
        points: tuple[str, ...] = (),
        signals: tuple[int, ...] = (),
        stdin: str = "/dev/null",
        parallel: bool = True,
    ) -> int:
        arguments = ["prepare", *inputs, "--out", str(out), *SMALL]
        error = str(self._folder / "stderr")
        order = {"arguments": arguments, "points": points, "signals": signals, "parallel": parallel}
        return self._ask(order | {"stdin": stdin, "stderr": error})

    def wait(self, pid: int) -> tuple[int, str]:
        code = self._ask({"pid": pid})
        return code, (self._folder / "stderr").read_text(encoding="utf-8")

    def run(self, out: Path, *inputs: str, **more: Any) -> tuple[int, str]:
        return self.wait(self.start(out, *inputs, **more))

    def close(self) -> None:
        self._server.kill()  # it would take its time to leave torch
        self._server.communicate()

    def _ask(self, order: dict[str, Any]) -> int:
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.write(json.dumps(order) + "\n")
        self._server.stdin.flush()
        return int(self._server.stdout.readline())


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    commands = Commands(tmp_path_factory.mktemp("commands"))
    yield commands
    commands.close()


def finished(folder: Path) -> list[str]:
    marks = (folder / ".data.partial/finished").glob("*.json")
    return sorted(mark.stem for mark in marks)


def places(folder: Path, parts: list[str]) -> dict[str, tuple[int, int]]:
    """Inode and modification time, which differ for files that were rewritten."""
    files = [path for part in parts for path in (folder / part).rglob("*")]
    return {str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


FIRST = {
    "cleaned-main-00000": "reading and cleaning: document 0",
    "tokenizer": "training: chunk 0",
    "encoded-train-00000": "tokenizing train: document 0",
    "encoded-validation-00000": "tokenizing validation: document 0",
    "encoded-test-00000": "tokenizing test: document 0",
}
"""What making a stage or shard cannot go without."""
CLEANED = ["cleaned-main-00000", "staged"]
TRAIN = [*CLEANED, "tokenizer", "encoded-train-00000", "train"]
ALL = [*TRAIN, "encoded-validation-00000", "validation", "encoded-test-00000", "test", "overlap"]
POINTS = [
    ("reading and cleaning: document 2", []),
    ("staged.json: before rename", CLEANED[:1]),
    ("training: chunk 1", CLEANED),
    ("tokenizing train: document 1", TRAIN[:3]),
    ("train.json: before rename", TRAIN[:4]),
    ("tokenizing validation: document 0", TRAIN),
    ("manifest.json: before rename", ALL),
    ("data: before rename", ALL),
]


@pytest.mark.parametrize(("point", "parts"), POINTS)
def test_killed_prepare_resumes_from_finished_stages_to_the_same_bytes(
    commands: Commands, tmp_path: Path, point: str, parts: list[str]
) -> None:
    code, _ = commands.run(tmp_path / "data", str(commands.books), points=(point,), signals=(signal.SIGKILL,))
    assert code == -signal.SIGKILL
    assert not (tmp_path / "data").exists()
    assert finished(tmp_path) == sorted(parts)
    before = places(tmp_path / ".data.partial/folder", parts)
    # Whatever is done again that was finished already dies at once.
    never = tuple(FIRST[part] for part in parts if part in FIRST)
    code, err = commands.run(tmp_path / "data", str(commands.books), points=never, signals=(signal.SIGKILL,))
    assert code == 0, err
    assert ("resuming from the finished stages of an earlier run" in err) == bool(parts)
    assert digests(tmp_path / "data") == commands.clean
    assert before.items() <= places(tmp_path / "data", parts).items()
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_prepare_killed_after_the_rename_has_nothing_left_to_do_but_clear_up(
    commands: Commands, tmp_path: Path
) -> None:
    commands.run(tmp_path / "data", str(commands.books), points=("data: after rename",), signals=(signal.SIGKILL,))
    assert digests(tmp_path / "data") == commands.clean
    assert "nothing to do" in commands.run(tmp_path / "data", str(commands.books))[1]
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_finished_stage_that_was_damaged_meanwhile_is_rebuilt(commands: Commands, tmp_path: Path) -> None:
    point = "tokenizing validation: document 0"
    commands.run(tmp_path / "data", str(commands.books), points=(point,), signals=(signal.SIGKILL,))
    path = tmp_path / ".data.partial/folder/train/data-00000.arrow"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    _, err = commands.run(tmp_path / "data", str(commands.books))
    assert "data-00000.arrow has the SHA-256" in err
    assert digests(tmp_path / "data") == commands.clean


def test_other_request_reuses_nothing_of_a_killed_run(commands: Commands, tmp_path: Path) -> None:
    point = "tokenizing validation: document 0"
    commands.run(tmp_path / "data", str(commands.books), points=(point,), signals=(signal.SIGKILL,))
    code, err = commands.run(tmp_path / "data", str(commands.books / "0.txt"))
    assert (code, "going on" in err) == (0, False)
    manifest = json.loads((tmp_path / "data/manifest.json").read_text(encoding="utf-8"))
    assert [Path(source["path"]).name for source in manifest["sources"]] == ["0.txt"]


def test_input_that_cannot_be_compared_keeps_no_finished_stages(commands: Commands, tmp_path: Path) -> None:
    more: dict[str, Any] = {"points": ("tokenizing train: document 0",), "stdin": str(commands.books / "0.txt")}
    code, err = commands.run(tmp_path / "data", "-", signals=(signal.SIGTERM,), **more)
    assert (code, "the same command resumes" in err) == (143, False)
    assert list(tmp_path.iterdir()) == []
    assert commands.run(tmp_path / "data", "-", signals=(signal.SIGKILL,), **more)[0] == -signal.SIGKILL
    more["stdin"] = str(commands.books / "1.txt")
    code, err = commands.run(tmp_path / "data", "-", **more | {"points": ()})
    assert (code, "going on" in err) == (0, False)


@pytest.mark.parametrize(("point", "parts"), POINTS)
def test_signal_in_prepare_ends_it_in_order_and_the_next_run_resumes(
    commands: Commands, tmp_path: Path, point: str, parts: list[str]
) -> None:
    number = signal.SIGINT if len(point) % 2 else signal.SIGTERM
    code, err = commands.run(tmp_path / "data", str(commands.books), points=(point,), signals=(number,))
    assert code == 128 + number, err
    assert "Traceback" not in err
    (line,) = (line for line in err.splitlines() if line.startswith(f"stopped by {number.name}; "))
    # The Rust trainer comes back first, and what it has trained is not thrown away half saved.
    names = [part.replace("-00000", " (1 shard)") for part in parts]
    assert line.rpartition(": ")[2].split(", ") == names if parts else "no partial result was kept" in line
    assert [path.name for path in tmp_path.iterdir()] == ([".data.partial"] if parts else [])
    assert finished(tmp_path) == sorted(parts)
    if parts:
        assert commands.run(tmp_path / "data", str(commands.books))[0] == 0
        assert digests(tmp_path / "data") == commands.clean


def test_signal_between_the_renames_leaves_the_former_folder(commands: Commands, tmp_path: Path) -> None:
    shutil.copytree(commands.clean_folder, tmp_path / "data")
    more: dict[str, Any] = {"points": ("data: between renames",), "signals": (signal.SIGTERM,)}
    code, err = commands.run(tmp_path / "data", str(commands.books / "0.txt"), "--overwrite", **more)
    assert (code, "the same command resumes" in err) == (143, True)
    assert digests(tmp_path / "data") == commands.clean


def test_former_folder_comes_back_after_a_kill_between_the_renames(commands: Commands, tmp_path: Path) -> None:
    shutil.copytree(commands.clean_folder, tmp_path / "data")
    more: dict[str, Any] = {"points": ("data: between renames",), "signals": (signal.SIGKILL,)}
    assert commands.run(tmp_path / "data", str(commands.books / "0.txt"), "--overwrite", **more)[0] == -signal.SIGKILL
    assert not (tmp_path / "data").exists()
    assert "nothing to do" in commands.run(tmp_path / "data", str(commands.books))[1]
    assert digests(tmp_path / "data") == commands.clean
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize("points", [("training: chunk 1",), ("reading and cleaning: document 2", "clearing")])
def test_second_signal_ends_prepare_at_once(commands: Commands, tmp_path: Path, points: tuple[str, ...]) -> None:
    signals = (signal.SIGTERM, signal.SIGTERM)
    code, err = commands.run(tmp_path / "data", str(commands.books), points=points, signals=signals)
    assert code == 143, "99: it went on for a minute"
    assert "stopped by" not in err, "the second signal leaves no time for it"
    assert ("repeat the signal to stop immediately" in err) == (len(points) == 1)
    assert not (tmp_path / "data").exists()


def test_signal_in_training_without_threads_of_the_library_ends_it_at_once(commands: Commands, tmp_path: Path) -> None:
    """The main thread reads the texts here, and Python handles the signal between two of them."""
    more: dict[str, Any] = {"points": ("training: chunk 1",), "signals": (signal.SIGTERM,), "parallel": False}
    code, err = commands.run(tmp_path / "data", str(commands.books), **more)
    assert (code, finished(tmp_path)) == (143, sorted(CLEANED))
    assert err.splitlines()[1:] == [
        "stopped by SIGTERM; the same command resumes from the finished stages: cleaned-main (1 shard), staged"
    ]


def test_second_prepare_into_the_same_folder_is_refused_and_the_error_names_the_process(
    commands: Commands, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "slow.txt")
    held = os.open(tmp_path / "slow.txt", os.O_RDWR)  # a writer, so that opening it to read does not wait
    first = commands.start(tmp_path / "data", "-", stdin=str(tmp_path / "slow.txt"))
    deadline = time.perf_counter() + 120
    while not (tmp_path / ".data.partial").exists() and time.perf_counter() < deadline:
        time.sleep(0.01)
    code, err = commands.run(tmp_path / "data", str(commands.books))
    assert code == 4
    assert f"in use by process {first} on {socket.gethostname()}" in err
    assert [line.split(":")[0] for line in err.splitlines()] == ["error", "where", "hint"]
    (tmp_path / "slow.txt").write_text("It was the best of times.\n" * 50)
    os.close(held)
    assert commands.wait(first)[0] == 0
    assert (tmp_path / "data/manifest.json").is_file()
    assert not (tmp_path / ".data.lock").exists()
