"""Run the checks of `llmkit doctor`, and check Python, libraries and extras.

A check that raises an exception becomes a finding, and the other checks continue. Checks change nothing. The ranges of
versions come from pyproject.toml in a clone, otherwise from the installed package.
"""

import importlib
import os
import platform
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import llmkit
from llmkit.core.console import first_line
from llmkit.core.errors import EnvironmentFault, Problem
from llmkit.core.machine import thread_count
from llmkit.doctor.finding import Finding, fault, ok, warn
from llmkit.doctor.hardware import (
    check_accelerators,
    check_cpu,
    check_cpu_speed,
    check_memory,
    check_open_files,
    check_precision,
    check_shared_memory,
    check_threads,
    read_cpu,
    read_driver,
)
from llmkit.doctor.storage import ask_hub, check_cache, check_disk, check_hub, check_space, nearest_folder


def examine(out: Path, *, offline: bool = False) -> Iterator[Finding]:
    """Yield each finding as soon as it is known, in the order in which a user would fix problems."""
    python, needed, extras = read_ranges()
    yield check_python(python)
    yield from _guard("libraries", lambda: check_libraries(needed))
    yield from _guard("extras", lambda: check_extras(extras))
    torch = _import("torch")
    has_torch = not isinstance(torch, Exception)
    cpu = read_cpu()
    if has_torch:
        yield from _guard("torch", lambda: check_torch(torch))
        yield from _guard("imports", lambda: [check_imports()])
        yield from _guard("threads", lambda: [check_threads(cpu, torch.get_num_threads(), thread_count())])
    else:
        yield fault("torch", f"cannot be loaded: {first_line(torch)}", "pip install --force-reinstall torch")
    yield check_cpu(cpu)
    yield from _guard("memory", lambda: [check_memory()])
    yield from _guard("shared memory", lambda: [check_shared_memory()])
    yield from _guard("open files", lambda: [check_open_files()])
    folder = nearest_folder(out)
    yield from _guard("disk space", lambda: [check_space(folder)])
    yield from _guard("disk", lambda: check_disk(folder))
    yield from _guard("hub", lambda: _check_hub(offline))
    if has_torch:
        yield from _guard("accelerator", lambda: check_accelerators(torch, read_driver()))
        yield from _guard("cpu speed", lambda: [check_cpu_speed(torch, cpu)])
        yield from _guard("precision", lambda: [check_precision()])


def summarize(findings: list[Finding]) -> dict[str, Any]:
    """Return a record for JSON: the worst status, the number of findings by status, and all findings."""
    counts = {status: sum(each.status == status for each in findings) for status in ("ok", "warn", "fault")}
    worst = next((status for status in ("fault", "warn") if counts[status]), "ok")
    return {"status": worst, "counts": counts, "findings": [asdict(each) for each in findings]}


def raise_faults(findings: list[Finding]) -> None:
    """Raise EnvironmentFault with one problem per fault."""
    problems = [Problem(each.value, each.name, each.advice) for each in findings if each.status == "fault"]
    if problems:
        raise EnvironmentFault.from_problems(problems)


def _guard(name: str, check: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    try:
        yield from check()
    except Exception as error:  # any library may fail on an unusual machine
        what = f"{type(error).__name__}: {first_line(error)}"
        yield warn(name, f"the check failed: {what}", "please report this line, and your operating system")


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except Exception as error:  # a broken library can raise anything
        return error


def _check_hub(offline: bool) -> Iterator[Finding]:
    from huggingface_hub import constants

    yield check_hub(constants.ENDPOINT, ask_hub, offline or constants.HF_HUB_OFFLINE)
    yield check_cache(Path(constants.HF_HUB_CACHE))


NOT_INSTALLED = "is not installed"


def read_ranges(package: Path = Path(llmkit.__file__).parent) -> tuple[str, list[str], dict[str, list[str]]]:
    """Return Python's version range, the requirements, and the requirements of each extra, as in pyproject.toml."""
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
    """Check the version of Python."""
    found = found or platform.python_version()
    value = f"{found} on {platform.system()} {platform.machine()}"
    if found in SpecifierSet(required, prereleases=True):
        return ok("python", value, version=found)
    return fault("python", f"{value}; {required} is required", f"create a new environment with Python {required}")


def check_libraries(requirements: Sequence[str], version_of: Callable[[str], str] = version) -> Iterator[Finding]:
    """Yield one fault per library that is missing or out of range, followed by one finding for the other libraries."""
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
    """Yield one warning per extra with a version out of range, and one finding that lists installed extras.

    A missing extra is not a problem.
    """
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
    """Describe the problem of the installed version; empty if there is none."""
    try:
        found = version_of(requirement.name)
    except PackageNotFoundError:
        return NOT_INSTALLED
    return "" if requirement.specifier.contains(found, prereleases=True) else f"is {found}"


def check_imports(load: Callable[[str], Any] = importlib.import_module) -> Finding:
    """Check that the libraries load together."""
    try:
        load("llmkit.runs.train")
        load("llmkit.preparing.prepare")
    except Exception as error:  # a broken library can raise anything
        value = f"the training code cannot be loaded: {type(error).__name__}: {first_line(error)[:200]}"
        return fault("imports", value, "create a new environment and install again: two libraries are incompatible")
    return ok("imports", "the training code loads")


def check_torch(torch: Any, environ: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """Yield the hardware that torch was built for, and the CPU kernels that it uses."""
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
        yield warn("cpu kernels", value, "install torch with oneDNN: pip install --force-reinstall torch", **figures)
    else:
        yield ok("cpu kernels", value, **figures)
