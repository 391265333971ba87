"""`llmkit doctor` and its checks of software: every check reports, and the exit code says whether llmkit works."""

import json
import socket
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import constants

import llmkit
from llmkit.cli import app
from llmkit.core.console import show_size
from llmkit.core.errors import EnvironmentFault
from llmkit.doctor import doctor
from llmkit.doctor import storage as doctor_storage
from llmkit.doctor.doctor import (
    check_extras,
    check_imports,
    check_libraries,
    check_python,
    check_torch,
    examine,
    raise_faults,
    read_ranges,
    summarize,
)
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


def test_every_check_reports_and_the_disk_stays_unchanged(tmp_path: Path) -> None:
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


def test_json_is_complete_and_the_only_output(
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
def test_only_a_fault_gives_exit_code_4_and_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], found: Any, code: int
) -> None:
    monkeypatch.setattr(doctor, "examine", lambda out, offline: iter([ok("python", "3.11"), found]))
    ended, out, err = run(monkeypatch, capsys)
    assert ended == code
    assert out.splitlines()[0] == f"ok     {'python':<18} 3.11"
    assert out.splitlines()[2].strip() == f"-> {found.advice}"
    assert ("error: is 1\nwhere: library x\nhint:  pip install x" in err) == (code == 4)


def test_all_faults_are_raised_together() -> None:
    with pytest.raises(EnvironmentFault) as caught:
        raise_faults([fault("a", "is gone", "get it"), warn("b", "slow", "wait"), fault("c", "is old", "update it")])
    assert [problem.where for problem in caught.value.problems] == ["a", "c"]
    raise_faults([warn("b", "slow", "wait")])


def test_check_that_raises_becomes_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(*_: object) -> Any:
        raise KeyError("cpu family")

    monkeypatch.setattr(doctor, "check_memory", break_down)
    monkeypatch.setattr(doctor, "check_threads", break_down)
    found = {each.name: each for each in examine(tmp_path, offline=True)}
    assert found["memory"].status == found["threads"].status == "warn"
    assert "KeyError" in found["memory"].value
    assert "precision" in found


def test_torch_that_does_not_load_is_a_fault_and_other_checks_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_import", lambda name: OSError("libgomp.so.1: cannot open shared object file"))
    found = {each.name: each for each in examine(tmp_path, offline=True)}
    assert found["torch"].status == "fault"
    assert {"libraries", "memory", "disk speed", "hub"} <= set(found)


def test_offline_makes_no_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*_: object) -> None:
        raise AssertionError("a connection was made")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)
    found = {each.name: each for each in examine(tmp_path, offline=True)}
    assert (found["hub"].status, found["hub"].figures) == ("ok", {"reached": None})


def test_summary_has_the_worst_status() -> None:
    assert summarize([ok("a", "b")])["status"] == "ok"
    assert summarize([ok("a", "b"), warn("c", "d", "e")])["status"] == "warn"
    both = summarize([warn("c", "d", "e"), fault("f", "g", "h"), ok("a", "b")])
    assert (both["status"], both["counts"]) == ("fault", {"ok": 1, "warn": 1, "fault": 1})


def test_sizes_are_shown_in_fitting_units() -> None:
    assert [show_size(n) for n in (0, 64e6, 1.5e9, 2e12)] == ["0 bytes", "64 MB", "1.5 GB", "2 TB"]


PROJECT = tomllib.loads((Path(llmkit.__file__).parents[1] / "pyproject.toml").read_text())["project"]


def versions(**known: str) -> Callable[[str], str]:
    def version_of(name: str) -> str:
        if name not in known:
            raise PackageNotFoundError(name)
        return known[name]

    return version_of


def test_library_that_is_missing_too_old_or_too_new_is_a_fault_with_the_pip_command() -> None:
    needed = ["torch>=2.13", "transformers>=5.23,<5.24", "numpy>=2.0", "typer>=0.29"]
    found = list(check_libraries(needed, versions(torch="2.12.1", transformers="5.24.0", numpy="2.4.6")))
    assert [(each.name, each.status) for each in found] == [
        ("library torch", "fault"),
        ("library transformers", "fault"),
        ("library typer", "fault"),
        ("libraries", "ok"),
    ]
    assert found[0].value == "is 2.12.1; >=2.13 is required"
    assert found[0].advice == "pip install 'torch>=2.13'"
    assert "is not installed" in found[2].value
    assert found[3].figures == {"versions": {"numpy": "2.4.6"}}


def test_local_builds_and_release_candidates_satisfy_the_range() -> None:
    found = list(check_libraries(["torch>=2.13", "numpy>=2.0"], versions(torch="2.13.0+cu130", numpy="2.5.0rc1")))
    assert [each.status for each in found] == ["ok"]


def test_missing_extra_is_ok_and_an_extra_out_of_range_is_a_warning() -> None:
    extras = {"lora": ["peft>=0.21,<0.22"], "dedup": ["rensa>=0.5"], "other": ["some>=1"], "dev": ["pytest>=9"]}
    lora, rest = check_extras(extras, versions(peft="0.19.0", some="1.2"))
    assert (lora.status, lora.advice) == ("warn", "pip install 'llmkit[lora]'")
    assert (rest.status, rest.figures) == ("ok", {"installed": ["other"], "missing": ["dedup"]})
    assert rest.value == "installed: other; not installed: dedup (pip install 'llmkit[NAME]')"


def test_ranges_are_those_of_pyproject_in_a_clone() -> None:
    assert read_ranges() == (
        PROJECT["requires-python"], PROJECT["dependencies"], PROJECT["optional-dependencies"]
    )  # fmt: skip


def test_ranges_of_an_installed_package_are_those_of_its_metadata(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "llmkit-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.4\nName: llmkit\nVersion: 0.1.0\nRequires-Python: >=3.11\nRequires-Dist: torch>=2.13\n"
        "Provides-Extra: lora\nRequires-Dist: peft<0.22,>=0.21; extra == 'lora'\n"
        "Requires-Dist: nothing; python_version < '3'\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    python, needed, extras = read_ranges(tmp_path / "llmkit")
    assert (python, needed) == (">=3.11", ["torch>=2.13"])
    assert [check.status for check in check_extras(extras, versions(peft="0.21.2"))] == ["ok"]
    assert [check.status for check in check_extras(extras, versions(peft="0.22.0"))] == ["warn", "ok"]


def test_python_that_is_too_old_is_a_fault() -> None:
    assert check_python(">=3.11", "3.11.7").status == "ok"
    old = check_python(">=3.11", "3.10.2")
    assert (old.status, ">=3.11" in old.advice) == ("fault", True)


def test_incompatible_libraries_are_a_fault() -> None:
    def refuse(name: str) -> None:
        raise ImportError(f"cannot import name 'x' while loading {name}\nmore")

    broken = check_imports(refuse)
    assert broken.status == "fault"
    assert broken.value.endswith("ImportError: cannot import name 'x' while loading llmkit.runs.train")
    assert check_imports(lambda name: None).status == "ok"


def make_torch(*, onednn: bool = True, capability: str = "AVX512") -> SimpleNamespace:
    return SimpleNamespace(
        __version__="2.13.0",
        version=SimpleNamespace(cuda=None, hip=None),
        backends=SimpleNamespace(
            mps=SimpleNamespace(is_built=lambda: False),
            mkldnn=SimpleNamespace(is_available=lambda: onednn),
            cpu=SimpleNamespace(get_cpu_capability=lambda: capability),
        ),
    )


def test_limited_cpu_kernels_are_a_warning() -> None:
    build, kernels = check_torch(make_torch(), {"ATEN_CPU_CAPABILITY": "avx2"})
    assert build.value == "2.13.0, built for CPU only"
    assert (kernels.status, kernels.advice) == ("warn", "unset ATEN_CPU_CAPABILITY")
    assert [each.status for each in check_torch(make_torch(), {})] == ["ok", "ok"]
    assert [each.status for each in check_torch(make_torch(onednn=False), {})] == ["ok", "warn"]
