"""Run the checks of `llmkit doctor`. A check that breaks becomes a finding and stops no other; nothing is changed."""

import importlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from llmkit.core.console import first_line
from llmkit.core.errors import EnvironmentFault, Problem
from llmkit.core.machine import thread_count
from llmkit.doctor.accelerators import check_accelerators, read_driver
from llmkit.doctor.finding import Finding, fault, warn
from llmkit.doctor.machine import (
    check_cpu,
    check_memory,
    check_open_files,
    check_shared_memory,
    check_threads,
    read_cpu,
)
from llmkit.doctor.software import (
    check_extras,
    check_imports,
    check_libraries,
    check_python,
    check_torch,
    read_ranges,
)
from llmkit.doctor.speed import check_cpu_speed, check_precision
from llmkit.doctor.storage import ask_hub, check_cache, check_disk, check_hub, check_space, nearest_folder


def examine(out: Path, *, offline: bool = False) -> Iterator[Finding]:
    """Every finding, as soon as it is known, in the order in which one would fix them."""
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
    """For JSON: the worst status, the number of findings by status, and all findings."""
    counts = {status: sum(each.status == status for each in findings) for status in ("ok", "warn", "fault")}
    worst = next((status for status in ("fault", "warn") if counts[status]), "ok")
    return {"status": worst, "counts": counts, "findings": [asdict(each) for each in findings]}


def raise_faults(findings: list[Finding]) -> None:
    """Raises EnvironmentFault with one problem per fault."""
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
