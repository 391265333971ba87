"""The Ray executor with a fake `ray` module, and with the real one if it is installed."""

import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import Any

import psutil
import pytest
from books import NEAR, SMALL, settings, write_books
from tiny import digests

from llmkit.core.errors import EnvironmentFault
from llmkit.preparing import shards
from llmkit.preparing.executors import LOCAL
from llmkit.preparing.prepare import prepare
from llmkit.preparing.staging_dir import WorkersLost


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_books(tmp_path_factory.mktemp("books"))


@pytest.fixture(autouse=True)
def _shards_are_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 12_000)


class FakeRay(types.ModuleType):
    """Does tasks in the opposite order, each once its result is asked for or a later one was."""

    class exceptions:  # noqa: N801 - Ray's name
        class RayError(Exception): ...

        class RayTaskError(RayError): ...

        class WorkerCrashedError(RayError): ...

    def __init__(self) -> None:
        super().__init__("ray")
        self.calls: list[tuple[str, Any]] = []
        self.dies_at: int | None = None

    def init(self, **options: Any) -> None:
        self.calls.append(("init", options))
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def shutdown(self) -> None:
        self.calls.append(("shutdown", None))

    def put(self, value: Any) -> Any:
        return value

    def remote(self, **options: Any) -> Any:
        self.calls.append(("remote", options))

        def of(function: Any) -> Any:
            def later(*arguments: Any) -> Any:
                self.n = getattr(self, "n", 0) + 1
                return [self.n, lambda: function(*arguments)]

            return types.SimpleNamespace(remote=later)

        return of

    def wait(self, results: list[Any], *, timeout: float) -> tuple[list[Any], list[Any]]:
        assert timeout <= 1, "Ray would swallow a signal"
        self.waits = not getattr(self, "waits", False)
        return (results, []) if self.waits else ([], results)

    def get(self, result: Any) -> Any:
        if result[0] == self.dies_at:
            raise self.exceptions.WorkerCrashedError("out of memory")
        return result[1]()

    def cancel(self, result: Any, *, force: bool) -> None:
        self.calls.append(("cancel", result[0]))


@pytest.fixture
def fake_ray(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    fake = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.setattr("llmkit.preparing.executors.ray.find_spec", lambda name: name == "ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    monkeypatch.setenv("RAY_task_oom_retries", "-1")
    return fake


def test_ray_is_asked_for_retries_and_started_without_its_dashboard(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, books: Path, fake_ray: FakeRay
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    for name, engine in (("one", LOCAL), ("ray", "ray")):
        prepare([str(books)], tmp_path / name, settings(*NEAR), engine=engine)
    assert digests(tmp_path / "ray") == digests(tmp_path / "one")
    options = dict(fake_ray.calls)
    assert options["remote"] == {"num_cpus": 1, "max_retries": 3}
    assert dict(os.environ)["RAY_task_oom_retries"] == "3", (
        "Ray tries a task without end that its memory monitor killed"
    )
    assert options["init"]["address"] == "local", "Ray would take any cluster that it finds on this machine"
    assert options["init"]["include_dashboard"] is options["init"]["log_to_driver"] is False
    assert fake_ray.calls[-1] == ("shutdown", None)
    assert signal.getsignal(signal.SIGTERM) == before


def test_running_cluster_is_used_and_one_that_is_not_there_is_reported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, books: Path, fake_ray: FakeRay
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    prepare([str(books)], tmp_path / "data", settings(*NEAR), engine="ray")
    assert fake_ray.calls[0][1]["address"] == "10.0.0.1:6379"
    assert "include_dashboard" not in fake_ray.calls[0][1], "an option of a cluster that is to be started"

    def refuse(**options: Any) -> None:
        raise ConnectionError("could not find any running Ray instance")

    monkeypatch.setattr(fake_ray, "init", refuse)
    with pytest.raises(EnvironmentFault, match=r"RAY_ADDRESS=10\.0\.0\.1:6379"):
        prepare([str(books)], tmp_path / "other", settings(*NEAR), engine="ray")


def test_ray_workers_that_die_repeatedly_keep_finished_stages(tmp_path: Path, books: Path, fake_ray: FakeRay) -> None:
    fake_ray.dies_at = 4
    with pytest.raises(WorkersLost, match="workers died 4 times at task 4 of"):
        prepare([str(books)], tmp_path / "data", settings(*NEAR), engine="ray")
    assert ("cancel", 5) in fake_ray.calls
    assert (tmp_path / ".data.partial/finished/cleaned-main-00002.json").exists()
    fake_ray.dies_at = None
    prepare([str(books)], tmp_path / "data", settings(*NEAR), engine="ray")
    prepare([str(books)], tmp_path / "one", settings(*NEAR))
    assert digests(tmp_path / "data") == digests(tmp_path / "one")


def test_real_ray_gives_the_bytes_of_one_process_though_a_worker_is_killed(tmp_path: Path, books: Path) -> None:
    pytest.importorskip("ray")
    code = """
import os, sys, threading, time
import psutil
from pathlib import Path
from llmkit.config.loading import load_recipe
from llmkit.preparing import shards
from llmkit.preparing.prepare import prepare
shards.SHARD_BYTES = 12_000
killed = []
def kill_one():
    while not killed:
        for child in psutil.Process().children(recursive=True):
            if child.cmdline()[:1] == ["ray::_call"]:
                child.kill()
                killed.append(child.pid)
                break
        time.sleep(0.01)
threading.Thread(target=kill_one, daemon=True).start()
prepare([sys.argv[1]], Path(sys.argv[2]), load_recipe(None, sys.argv[3:]).prepare, engine="ray")
assert killed
"""
    overrides = [*SMALL, *NEAR]
    arguments = [sys.executable, "-c", code, str(books), str(tmp_path / "ray"), *overrides]

    done = subprocess.run(arguments, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    prepare([str(books)], tmp_path / "one", settings(*NEAR))
    assert digests(tmp_path / "ray") == digests(tmp_path / "one")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_real_ray_ends_with_the_command_and_the_next_one_resumes(tmp_path: Path, books: Path, number: int) -> None:
    pytest.importorskip("ray")
    overrides = [*SMALL, *NEAR]
    arguments = [
        sys.executable,
        "-m",
        "llmkit",
        "prepare",
        str(books),
        "--out",
        str(tmp_path / "ray"),
        "--engine",
        "ray",
    ]
    arguments += [word for override in overrides for word in ("-s", override)]
    command = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    work = tmp_path / ".ray.partial"
    while not list(work.glob("finished/cleaned-*")) and command.poll() is None:
        time.sleep(0.05)
    children = [
        child
        for child in psutil.Process(command.pid).children(recursive=True)
        if not child.name().endswith("Agent")  # two of Ray's own, which take a minute to see that they are alone
    ]
    command.send_signal(number)
    output = command.communicate()[0]
    assert command.returncode == (128 + number if number == signal.SIGTERM else -number), output
    assert number == signal.SIGKILL or "to resume from the finished stages: cleaned-main" in output
    assert not psutil.wait_procs(children, timeout=30)[1], "what was started has ended"
    done = subprocess.run(arguments, check=False, capture_output=True, text=True)
    assert "resuming from the finished stages of an earlier run: cleaned-main" in done.stderr
    prepare([str(books)], tmp_path / "one", settings(*NEAR))
    assert digests(tmp_path / "ray") == digests(tmp_path / "one")
