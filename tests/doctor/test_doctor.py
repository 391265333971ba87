"""`llmkit doctor` as a whole: every check has its say, and the exit code says whether llmkit works."""

import json
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from llmkit.cli import app
from llmkit.core.errors import EnvironmentFault
from llmkit.core.files import show_size
from llmkit.doctor import doctor
from llmkit.doctor import storage as doctor_storage
from llmkit.doctor.doctor import examine, raise_faults, summarize
from llmkit.doctor.finding import fault, ok, warn
from llmkit.training import speed as training_speed


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_speed, "measure_matmul", lambda dtype, device: 5e10)
    monkeypatch.setattr(doctor_storage, "TIMED_BYTES", 4 << 20)


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["llmkit", "doctor", *arguments])
    monkeypatch.setattr(app.signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit) as caught:
        app.main()
    return int(caught.value.code or 0), *capsys.readouterr()


def test_every_check_has_its_say_and_the_disk_is_left_as_it_was(tmp_path: Path) -> None:
    found = list(examine(tmp_path / "runs/mine", offline=True))
    assert [each.name for each in found if each.status == "fault"] == []
    expected = {
        "python", "libraries", "extras", "torch", "cpu kernels", "imports", "cpu", "threads", "memory", "shared memory",
        "open files", "disk space", "disk speed", "file locks", "hub", "hub cache", "accelerator", "cpu speed",
        "precision",
    }  # fmt: skip
    assert expected <= {each.name for each in found}
    assert not [each for each in found if "the check failed" in each.value]
    assert all(bool(each.advice) == (each.status != "ok") for each in found)
    assert list(tmp_path.iterdir()) == []


def test_json_is_whole_and_alone_on_stdout(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(doctor, "check_cpu_speed", lambda *_: ok("cpu speed", "fast"))
    code, out, _ = run(monkeypatch, capsys, "--out", str(tmp_path), "--offline", "--json")
    result = json.loads(out)
    assert (code, result["status"] in ("ok", "warn")) == (0, True)
    assert sum(result["counts"].values()) == len(result["findings"])
    assert {tuple(each) for each in result["findings"]} == {("name", "value", "status", "advice", "figures")}
    assert {each["name"]: each for each in result["findings"]}["disk space"]["figures"]["free_bytes"] > 0


@pytest.mark.parametrize(
    ("found", "code"), [(warn("swap", "in use", "close programs"), 0), (fault("library x", "is 1", "pip install x"), 4)]
)
def test_only_a_fault_makes_the_exit_code_4_and_names_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], found: Any, code: int
) -> None:
    monkeypatch.setattr(doctor, "examine", lambda out, offline: iter([ok("python", "3.11"), found]))
    ended, out, err = run(monkeypatch, capsys)
    assert ended == code
    assert out.splitlines()[0] == f"ok     {'python':<18} 3.11"
    assert out.splitlines()[2].strip() == f"-> {found.advice}"
    assert ("error: is 1\nwhere: library x\nhint:  pip install x" in err) == (code == 4)


def test_faults_are_all_named_at_once() -> None:
    with pytest.raises(EnvironmentFault) as caught:
        raise_faults([fault("a", "is gone", "get it"), warn("b", "slow", "wait"), fault("c", "is old", "update it")])
    assert [problem.where for problem in caught.value.problems] == ["a", "c"]
    raise_faults([warn("b", "slow", "wait")])


def test_broken_check_is_a_finding_and_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(*_: object) -> Any:
        raise KeyError("cpu family")

    monkeypatch.setattr(doctor, "check_memory", break_down)
    monkeypatch.setattr(doctor, "check_threads", break_down)
    found = {each.name: each for each in examine(tmp_path, offline=True)}
    assert found["memory"].status == found["threads"].status == "warn"
    assert "KeyError" in found["memory"].value
    assert "precision" in found


def test_torch_that_does_not_load_is_a_fault_and_the_rest_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_import", lambda name: OSError("libgomp.so.1: cannot open shared object file"))
    found = {each.name: each for each in examine(tmp_path, offline=True)}
    assert found["torch"].status == "fault"
    assert {"libraries", "memory", "disk speed", "hub"} <= set(found)


def test_offline_touches_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*_: object) -> None:
        raise AssertionError("the network was touched")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)
    found = {each.name: each for each in examine(tmp_path, offline=True)}
    assert (found["hub"].status, found["hub"].figures) == ("ok", {"reached": None})


def test_summary_is_as_bad_as_the_worst() -> None:
    assert summarize([ok("a", "b")])["status"] == "ok"
    assert summarize([ok("a", "b"), warn("c", "d", "e")])["status"] == "warn"
    both = summarize([warn("c", "d", "e"), fault("f", "g", "h"), ok("a", "b")])
    assert (both["status"], both["counts"]) == ("fault", {"ok": 1, "warn": 1, "fault": 1})


def test_sizes_are_said_in_units_that_fit() -> None:
    assert [show_size(n) for n in (0, 64e6, 1.5e9, 2e12)] == ["0 bytes", "64 MB", "1.5 GB", "2 TB"]
