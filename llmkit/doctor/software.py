"""Python, libraries and extras: whether their versions are in range, and whether they load.

The ranges are those of pyproject.toml in a clone, else those of the installed package.
"""

import importlib
import os
import platform
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import llmkit
from llmkit.core.console import first_line
from llmkit.doctor.finding import Finding, fault, ok, warn

NOT_INSTALLED = "is not installed"


def read_ranges(package: Path = Path(llmkit.__file__).parent) -> tuple[str, list[str], dict[str, list[str]]]:
    """Python's range, the requirements, and the requirements of each extra, as pyproject.toml writes them."""
    project = package.parent / "pyproject.toml"
    if project.is_file():
        table = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
        return table["requires-python"], table["dependencies"], table["optional-dependencies"]
    installed = distribution("llmkit")
    needed: list[str] = []
    extras: dict[str, list[str]] = {name: [] for name in installed.metadata.get_all("Provides-Extra") or []}
    for text in installed.requires or []:
        marker = Requirement(text).marker
        if marker is None or marker.evaluate({"extra": ""}):
            needed.append(text)
            continue
        for name in extras:
            if marker.evaluate({"extra": name}):
                extras[name].append(text)
    return installed.metadata["Requires-Python"] or "", needed, extras


def check_python(required: str, found: str | None = None) -> Finding:
    """The version of Python."""
    found = found or platform.python_version()
    value = f"{found} on {platform.system()} {platform.machine()}"
    if found in SpecifierSet(required, prereleases=True):
        return ok("python", value, version=found)
    return fault("python", f"{value}; {required} is required", f"create a new environment with Python {required}")


def check_libraries(requirements: Sequence[str], version_of: Callable[[str], str] = version) -> Iterator[Finding]:
    """One fault per library that is missing or out of range, then the others."""
    good = {}
    for requirement in map(Requirement, requirements):
        problem = _find_problem(requirement, version_of)
        if problem:
            advice = f"pip install '{requirement.name}{requirement.specifier}'"
            yield fault(f"library {requirement.name}", f"{problem}; {requirement.specifier} is required", advice)
        else:
            good[requirement.name] = version_of(requirement.name)
    listed = ", ".join(f"{name} {good[name]}" for name in sorted(good))
    yield ok("libraries", f"{len(good)} in range: {listed}", versions=good)


def check_extras(extras: dict[str, list[str]], version_of: Callable[[str], str] = version) -> Iterator[Finding]:
    """One warning per extra with a version out of range, then what is installed; a missing extra is no mistake."""
    installed, missing = [], []
    for extra in (name for name in extras if name != "dev"):
        problems = {r.name: _find_problem(r, version_of) for r in map(Requirement, extras[extra])}
        wrong = [f"{name} {problem}" for name, problem in problems.items() if problem not in ("", NOT_INSTALLED)]
        if wrong:
            yield warn(f"extra {extra}", ", ".join(wrong), f"pip install 'llmkit[{extra}]'")
        elif NOT_INSTALLED in problems.values():
            missing.append(extra)
        else:
            installed.append(extra)
    value = f"installed: {', '.join(installed) or 'none'}"
    value += f"; not installed: {', '.join(missing)} (pip install 'llmkit[NAME]')" if missing else ""
    yield ok("extras", value, installed=installed, missing=missing)


def _find_problem(requirement: Requirement, version_of: Callable[[str], str]) -> str:
    """What is wrong with the installed version; empty if nothing is."""
    try:
        found = version_of(requirement.name)
    except PackageNotFoundError:
        return NOT_INSTALLED
    return "" if requirement.specifier.contains(found, prereleases=True) else f"is {found}"


def check_imports(load: Callable[[str], Any] = importlib.import_module) -> Finding:
    """Whether the libraries load together."""
    try:
        load("llmkit.runs.train")
        load("llmkit.preparing.prepare")
    except Exception as error:  # a broken library can raise anything
        value = f"the training code cannot be loaded: {type(error).__name__}: {first_line(error)[:200]}"
        return fault("imports", value, "create a new environment and install again: two libraries do not fit together")
    return ok("imports", "the training code loads")


def check_torch(torch: Any, environ: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """The hardware that torch was built for, and the CPU kernels that it uses."""
    version = torch.version
    build = f"CUDA {version.cuda}" if version.cuda else f"ROCm {version.hip}" if version.hip else ""
    build = build or ("Metal" if torch.backends.mps.is_built() else "CPU only")
    yield ok("torch", f"{torch.__version__}, built for {build}", build=build)
    kernels, onednn = torch.backends.cpu.get_cpu_capability(), torch.backends.mkldnn.is_available()
    value = f"{kernels}, {'oneDNN' if onednn else 'no oneDNN'}"
    figures = {"kernels": kernels, "onednn": onednn}
    limits = [name for name in ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA") if environ.get(name)]
    if limits:
        value += f", limited by {', '.join(f'{name}={environ[name]}' for name in limits)}"
        yield warn("cpu kernels", value, f"unset {' '.join(limits)}", **figures)
    elif not onednn and kernels != "DEFAULT":
        yield warn("cpu kernels", value, "install a torch with oneDNN: pip install --force-reinstall torch", **figures)
    else:
        yield ok("cpu kernels", value, **figures)
