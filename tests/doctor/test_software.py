"""Versions, extras and kernels: what is said of a machine where something does not fit."""

import tomllib
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import pytest

import llmkit
from llmkit.doctor.software import (
    check_extras,
    check_imports,
    check_libraries,
    check_python,
    check_torch,
    read_ranges,
)

PROJECT = tomllib.loads((Path(llmkit.__file__).parents[1] / "pyproject.toml").read_text())["project"]


def versions(**known: str) -> Callable[[str], str]:
    def version_of(name: str) -> str:
        if name not in known:
            raise PackageNotFoundError(name)
        return known[name]

    return version_of


def test_library_that_is_missing_too_old_or_too_new_is_a_fault_with_the_command() -> None:
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


def test_builds_and_release_candidates_count_as_their_version() -> None:
    found = list(check_libraries(["torch>=2.13", "numpy>=2.0"], versions(torch="2.13.0+cu130", numpy="2.5.0rc1")))
    assert [each.status for each in found] == ["ok"]


def test_extra_that_is_not_installed_is_no_mistake_and_an_untested_version_is() -> None:
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


def test_libraries_that_do_not_fit_one_another_are_a_fault() -> None:
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


def test_kernels_that_the_environment_holds_back_are_said() -> None:
    build, kernels = check_torch(make_torch(), {"ATEN_CPU_CAPABILITY": "avx2"})
    assert build.value == "2.13.0, built for CPU only"
    assert (kernels.status, kernels.advice) == ("warn", "unset ATEN_CPU_CAPABILITY")
    assert [each.status for each in check_torch(make_torch(), {})] == ["ok", "ok"]
    assert [each.status for each in check_torch(make_torch(onednn=False), {})] == ["ok", "warn"]
