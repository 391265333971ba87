"""Disk and hub: what is slow, full or unreachable is reported, and no file is left."""

import os
import socket
import tempfile
import threading
import time
from collections import namedtuple
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from llmkit.core.errors import Interrupted
from llmkit.doctor import storage as doctor_storage
from llmkit.doctor.storage import (
    ask_hub,
    check_cache,
    check_disk,
    check_disk_speed,
    check_hub,
    check_locks,
    check_space,
    nearest_folder,
)

Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def _little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_storage, "TIMED_BYTES", 8 << 20)


def test_missing_folder_is_checked_at_its_nearest_parent(tmp_path: Path) -> None:
    assert nearest_folder(tmp_path / "runs/new/run") == tmp_path
    assert list(tmp_path.iterdir()) == []


def test_disk_is_measured_and_stays_unchanged(tmp_path: Path) -> None:
    speed, locks = check_disk(tmp_path)
    assert speed.figures["write_bytes_per_second"] > 0
    assert locks.figures == {"work": True}
    assert list(tmp_path.iterdir()) == []


def test_slow_disk_is_a_warning_with_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr(doctor_storage.time, "perf_counter", lambda: float(next(clock)))
    found = check_disk_speed(tmp_path)
    assert (found.status, "--out" in found.advice) == ("warn", True)


def test_stopped_measurement_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[Path]] = []

    def stop(file: int) -> None:
        seen.append(list(tmp_path.iterdir()))
        raise Interrupted(2, "stopped")

    monkeypatch.setattr(os, "fsync", stop)
    with pytest.raises(Interrupted):
        check_disk_speed(tmp_path)
    assert seen == [[]], "not even a kill could leave what has no name"
    assert list(tmp_path.iterdir()) == []


def test_disk_that_fills_up_or_cannot_be_written_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "file").write_text("")
    (below,) = check_disk(tmp_path / "file/run")
    assert (below.status, "--out" in below.advice) == ("fault", True)
    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    full = check_disk_speed(tmp_path)
    assert (full.status, "No space left" in full.value) == ("fault", True)


@pytest.mark.parametrize(("free", "status"), [(1e6, "fault"), (1e9, "warn"), (1e12, "ok")])
def test_low_free_space_is_a_warning_or_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: float, status: str
) -> None:
    monkeypatch.setattr(doctor_storage, "disk_usage", lambda _: Usage(2e12, 0, free))
    found = check_space(tmp_path)
    assert (found.status, bool(found.advice)) == (status, status != "ok")


def test_file_system_without_locks_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def hold(folder: Path) -> Iterator[None]:
        yield

    assert check_locks(tmp_path).status == "ok"
    monkeypatch.setattr(doctor_storage, "lock_output", hold)
    found = check_locks(tmp_path)
    assert (found.status, found.figures) == ("warn", {"work": False})


def test_unwritable_or_nearly_full_cache_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    assert check_cache(tmp_path / "hub").status == "ok"
    assert not (tmp_path / "hub").exists()

    def refuse(folder: Path) -> None:
        raise doctor_storage.EnvironmentFault("cannot write", where="x", hint="y")

    monkeypatch.setattr(doctor_storage, "check_writable", refuse)
    assert "export HF_HOME" in check_cache(tmp_path / "hub").advice
    monkeypatch.undo()
    monkeypatch.setattr(doctor_storage, "disk_usage", lambda _: Usage(2e12, 0, 1e9))
    assert "HF_HOME" in check_cache(tmp_path / "hub").advice


def test_closed_port_is_a_warning_that_says_how_to_work_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with socket.socket() as taken:  # so that nobody else listens there
        taken.bind(("127.0.0.1", 0))
        found = check_hub(f"http://127.0.0.1:{taken.getsockname()[1]}", ask_hub, offline=False)
    assert (found.status, found.figures["reached"]) == ("warn", False)
    assert found.figures["seconds"] < 4
    assert "HF_HUB_OFFLINE=1" in found.advice


def test_hub_that_never_answers_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr(doctor_storage, "HUB_SECONDS", 0.05)
    started = time.monotonic()
    found = check_hub("https://hub", lambda _: int(release.wait(60)), offline=False)
    release.set()
    assert time.monotonic() - started < 30
    assert (found.status, "no answer" in found.value) == ("warn", True)


@pytest.mark.parametrize(("answer", "status"), [(200, "ok"), (307, "ok"), (404, "ok"), (407, "warn"), (503, "warn")])
def test_every_answer_of_the_hub_counts_as_reached(answer: int, status: str) -> None:
    asked = []
    found = check_hub("https://mirror", lambda address: asked.append(address) or answer, offline=False)
    assert (found.status, asked) == (status, ["https://mirror"])


def test_offline_makes_no_request_and_passwords_are_redacted() -> None:
    def refuse(_: str) -> int:
        raise AssertionError("the network was touched")

    found = check_hub("https://me:secret@mirror", refuse, offline=True)
    assert (found.status, found.figures) == ("ok", {"reached": None})
    assert "secret" not in found.value
    assert "secret" not in str(check_hub("https://me:secret@mirror", refuse, offline=False))
