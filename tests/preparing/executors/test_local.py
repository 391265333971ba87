"""`prepare` on several cores gives the bytes of one process, even if workers die, and leaves no process behind."""

import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from books import SMALL, settings, write_books
from tiny import digests

import llmkit.preparing.prepare
from llmkit.core.errors import DataError
from llmkit.preparing import shards
from llmkit.preparing.executors import local
from llmkit.preparing.executors.local import count_workers, open_local
from llmkit.preparing.prepare import prepare
from llmkit.preparing.staging_dir import WorkersLost

VARIANTS = {
    "near copies, by document": ("prepare.dedup.near=true", "prepare.split.by=document"),
    "sentences and words of BERT": ("prepare.tokenizer.kind=wordpiece",),
    "lines": ("prepare.read.documents=line",),
}


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_books(tmp_path_factory.mktemp("books"))


@pytest.fixture
def two_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two for the smallest text, in many shards."""
    monkeypatch.setattr(llmkit.preparing.prepare, "MIN_BYTES", 0)
    monkeypatch.setattr(llmkit.preparing.prepare, "count_workers", lambda: 2)
    monkeypatch.setattr(shards, "SHARD_BYTES", 12_000)


@pytest.fixture
def in_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, books: Path) -> Path:
    """What a single process makes of the books."""
    monkeypatch.setattr(llmkit.preparing.prepare, "count_workers", lambda: 1)
    prepare([str(books)], tmp_path / "one", settings())
    return tmp_path / "one"


@pytest.mark.parametrize("variant", VARIANTS)
def test_workers_give_the_bytes_of_one_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, books: Path, two_workers: None, variant: str
) -> None:
    wanted = settings(*VARIANTS[variant])
    prepare([str(books)], tmp_path / "many", wanted)
    monkeypatch.setattr(llmkit.preparing.prepare, "count_workers", lambda: 1)
    prepare([str(books)], tmp_path / "one", wanted)
    assert digests(tmp_path / "many") == digests(tmp_path / "one")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["many", "one"]


def test_members_of_archives_give_the_bytes_of_one_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, books: Path, two_workers: None
) -> None:
    (tmp_path / "in").mkdir()
    files = sorted(books.iterdir())
    for number in range(3):
        with tarfile.open(tmp_path / f"in/{number}.tar.gz", "w:gz") as archive:
            for file in files[number::3]:
                archive.add(file, file.name)
    prepare([str(tmp_path / "in")], tmp_path / "many", settings())
    monkeypatch.setattr(llmkit.preparing.prepare, "count_workers", lambda: 1)
    prepare([str(tmp_path / "in")], tmp_path / "one", settings())
    assert digests(tmp_path / "many") == digests(tmp_path / "one")


def test_own_tokenizer_and_splits_give_the_bytes_of_one_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, books: Path, in_one: Path, two_workers: None
) -> None:
    given = {"validation": str(books / "01.txt"), "test": str(books / "02.txt")}
    own = settings(f"prepare.tokenizer.path={in_one / 'tokenizer'}")
    prepare([str(books)], tmp_path / "many", own, **given)
    monkeypatch.setattr(llmkit.preparing.prepare, "count_workers", lambda: 1)
    prepare([str(books)], tmp_path / "alone", own, **given)
    assert digests(tmp_path / "many") == digests(tmp_path / "alone")


def test_workers_are_started_only_where_there_is_enough_for_them(
    monkeypatch: pytest.MonkeyPatch, books: Path, two_workers: None
) -> None:
    files = sorted(map(str, books.iterdir()))
    count = llmkit.preparing.prepare._count_local
    assert count(files) == 2
    assert count(files[:1]) == 1, "one small file"
    monkeypatch.setattr(llmkit.preparing.prepare, "MIN_BYTES_ONE_SHARD", 0)
    assert count(files[:1]) == 2, "one large file"
    assert count([*files, "-"]) == 1, "standard input is this process's alone"
    monkeypatch.setattr(llmkit.preparing.prepare, "MIN_BYTES", 10**6)
    assert count(files) == 1


def test_repair_with_workers_rebuilds_damaged_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, books: Path, in_one: Path, two_workers: None
) -> None:
    before = digests(in_one)
    (in_one / "train/data-00000.arrow").unlink()
    prepare([str(books)], in_one, settings(), repair=True)
    assert digests(in_one) == before


def test_first_bad_file_is_the_error_and_no_worker_is_left(tmp_path: Path, books: Path, two_workers: None) -> None:
    shutil.copytree(books, tmp_path / "books")
    for name in ("29.txt", "05.txt"):
        (tmp_path / "books" / name).write_bytes(b"\x89PNG" + bytes(2000))
    with pytest.raises(DataError, match=r"05\.txt"):
        prepare([str(tmp_path / "books")], tmp_path / "data", settings())
    assert not (tmp_path / ".data.partial").exists()
    assert not workers_of(os.getpid())


@pytest.mark.parametrize(("cores", "gigabytes", "expected"), [(8, 64, 8), (8, None, 8), (8, 3, 3), (4, 0.5, 1)])
def test_workers_are_as_many_as_cores_and_memory_allow(
    monkeypatch: pytest.MonkeyPatch, cores: int, gigabytes: float | None, expected: int
) -> None:
    monkeypatch.setattr(local, "count_cores", lambda: cores)
    monkeypatch.setattr(local, "read_memory", lambda: gigabytes and int(gigabytes * 1e9))
    assert count_workers() == expected


# The executor itself, with functions that a worker can import.

FUNCTIONS = """
import os, signal, sys, time
from pathlib import Path

def die_once(path):
    if not Path(path).exists():
        Path(path).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"

def die(task):
    os.kill(os.getpid(), signal.SIGKILL)

def talk(task):
    print("to standard output", flush=True)
    os.write(1, b"and below Python")
    return task

def fail(task):
    raise ZeroDivisionError("of ours")

def sleep(seconds):
    time.sleep(seconds)

def modules(task):
    import pyarrow
    pyarrow.array(["a list, for which pyarrow would load pandas"])
    import llmkit.preparing.shards
    return sorted(sys.modules)

def variables(task):
    return dict(os.environ)
"""


@pytest.fixture
def functions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[object]:
    (tmp_path / "functions_of_a_test.py").write_text(FUNCTIONS)
    monkeypatch.syspath_prepend(tmp_path)
    import functions_of_a_test  # type: ignore[import-not-found]  # the test wrote it

    yield functions_of_a_test
    del sys.modules["functions_of_a_test"]


def workers_of(pid: int) -> list[psutil.Process]:
    """Other tests of this process may have left children of their own, such as multiprocessing's tracker."""
    found = []
    for child in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if any(local.__name__ in word for word in child.cmdline()):
                found.append(child)
    return found


def test_results_come_in_order_and_what_is_printed_is_no_result(functions: object, tmp_path: Path) -> None:
    with open_local(2) as run:
        assert list(run(functions.talk, range(20))) == list(range(20))
        assert list(run(functions.talk, [])) == []
        assert {each["OMP_NUM_THREADS"] for each in run(functions.variables, [1, 2])} == {"1"}
        groups = {os.getpgid(worker.pid) for worker in workers_of(os.getpid())}
        assert os.getpgid(0) not in groups, "Ctrl-C on a terminal would stop them in the middle of anything"
    assert not workers_of(os.getpid())


def test_worker_that_is_killed_is_replaced_and_its_task_is_done_again(functions: object, tmp_path: Path) -> None:
    with open_local(2) as run:
        tasks = [str(tmp_path / str(n)) for n in range(5)]
        assert list(run(functions.die_once, tasks)) == ["done"] * 5
        assert len(workers_of(os.getpid())) == 2
    assert not workers_of(os.getpid())


def test_task_that_kills_every_worker_is_an_error_that_says_how(functions: object, tmp_path: Path) -> None:
    with (
        open_local(2) as run,
        pytest.raises(WorkersLost, match="workers died 4 times at task 1 of 3: SIGKILL"),
    ):
        list(run(functions.die, [1, 2, 3]))
    assert not workers_of(os.getpid())


def test_bug_in_a_worker_is_shown_with_its_traceback(functions: object, tmp_path: Path) -> None:
    with open_local(2) as run, pytest.raises(RuntimeError, match=r"in fail\n.*\nZeroDivisionError: of ours"):
        list(run(functions.fail, [1, 2, 3]))


def test_workers_load_none_of_the_large_packages_that_they_do_not_need(functions: object, tmp_path: Path) -> None:
    with open_local(2) as run:
        loaded = set(next(run(functions.modules, [1])))
    assert "llmkit.datasets.rows" in loaded
    assert not loaded & {"torch", "transformers", "datasets", "pandas", "huggingface_hub"}


@pytest.mark.parametrize("how", ["leaves the block", "is killed"])
def test_workers_end_with_their_caller_in_the_middle_of_a_task(functions: object, tmp_path: Path, how: str) -> None:
    code = """
import sys
from llmkit.preparing.executors import local
import functions_of_a_test
with local.open_local(2) as run:
    results = run(functions_of_a_test.sleep, [0, 0, 60, 60])
    next(results), next(results)
    print("begun", flush=True)
    if sys.argv[1] == "is killed":
        next(results)
    results.close()
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    caller = subprocess.Popen([sys.executable, "-c", code, how], stdout=subprocess.PIPE, env=environment)
    assert caller.stdout is not None
    workers = workers_of(caller.pid) if caller.stdout.readline() == b"begun\n" else []
    if how == "is killed":
        assert len(workers) == 2
        caller.kill()
    assert caller.wait(120) == (-9 if how == "is killed" else 0)
    caller.stdout.close()
    assert not psutil.wait_procs(workers, timeout=120)[1]


COMMAND = """
import pathlib, sys, time
import llmkit.core.files, llmkit.preparing.prepare, llmkit.preparing.shards
from llmkit.__main__ import main
llmkit.preparing.prepare.MIN_BYTES = 0
llmkit.preparing.shards.SHARD_BYTES = 12_000
llmkit.preparing.prepare.count_workers = lambda: 2

def failpoint(point):
    # It stays where all is cleaned, as long as there is a file of this name.
    while point == "staged.json: begin" and pathlib.Path("hold").exists():
        pathlib.Path("held").touch()
        time.sleep(0.01)

llmkit.core.files.failpoint = failpoint
main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_stopped_command_leaves_no_worker_and_the_next_one_resumes(
    tmp_path: Path, books: Path, in_one: Path, number: int
) -> None:
    words = [sys.executable, "-c", COMMAND, "prepare", str(books), "--out", str(tmp_path / "many")]
    words += [word for override in SMALL for word in ("-s", override)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    (tmp_path / "hold").touch()
    command = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, start_new_session=True,
        cwd=tmp_path,
    )  # fmt: skip
    while not (tmp_path / "held").exists() and command.poll() is None:
        time.sleep(0.005)
    workers = workers_of(command.pid)
    os.killpg(command.pid, number)  # as a terminal does
    (tmp_path / "hold").unlink()
    output = command.communicate(timeout=300)[0]
    assert command.returncode == (-number if number == signal.SIGKILL else 128 + number), output
    assert "Traceback" not in output
    assert number == signal.SIGKILL or "resumes from the finished stages: cleaned-main" in output
    assert workers and not psutil.wait_procs(workers, timeout=120)[1]
    again = subprocess.run(words, check=False, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "resuming from the finished stages of an earlier run: cleaned-main" in again.stderr
    assert digests(tmp_path / "many") == digests(in_one)


@pytest.mark.parametrize(("stopped", "then"), [(2, 1), (1, 2)])
def test_any_number_of_workers_resumes_from_the_shards_of_another_number(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, books: Path, in_one: Path, two_workers: None,
    capsys: pytest.CaptureFixture[str], stopped: int, then: int,
) -> None:  # fmt: skip
    def stop(*_: object, **__: object) -> None:
        raise WorkersLost("stopped", where="", hint="")

    with monkeypatch.context() as patch:
        patch.setattr(llmkit.preparing.prepare, "count_workers", lambda: stopped)
        patch.setattr("llmkit.preparing.stages._describe_split", stop)
        with pytest.raises(WorkersLost):
            prepare([str(books)], tmp_path / "data", settings())
    finished = [path.name for path in (tmp_path / ".data.partial/finished").glob("encoded-train-*")]
    capsys.readouterr()
    monkeypatch.setattr(llmkit.preparing.prepare, "count_workers", lambda: then)
    prepare([str(books)], tmp_path / "data", settings())
    assert f"encoded-train ({len(finished)} shards)" in capsys.readouterr().err
    assert digests(tmp_path / "data") == digests(in_one)


def test_caller_that_fails_while_workers_are_busy_ends_at_once_with_its_own_error(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(OSError, match="disk full"), open_local(2) as run:
        results = run(time.sleep, [0.2] * 3000)
        next(results)
        raise OSError(28, "disk full")
    assert time.monotonic() - started < 60, "ten minutes of tasks were waited for"
    assert not workers_of(os.getpid())


def test_worker_that_cannot_be_replaced_is_an_error_and_nobody_waits(
    functions: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_local(2) as run, pytest.raises(WorkersLost, match="no worker could be started"):
        next(run(time.sleep, [0]))
        monkeypatch.setattr(subprocess, "Popen", refuse_processes)
        list(run(functions.die, range(10)))


def refuse_processes(*_: Any, **__: Any) -> Any:
    raise BlockingIOError(11, "Resource temporarily unavailable")


def test_no_thread_waits_for_a_worker_after_all_were_ended() -> None:
    pool = local._Pool(1)
    pool.kill()
    output: list[str] = []

    def ask_twice() -> None:
        for number in (1, 2):
            with suppress(WorkersLost):
                pool.run(time.sleep, 0, f"{number} of 2")
            output.append("no worker is left")

    asking = threading.Thread(target=ask_twice, daemon=True)
    asking.start()
    asking.join(10)
    pool.end()
    assert len(output) == 2
