"""Look at this machine as `llmkit doctor` does: what is missing, wrong or slow, and what to do about each.

No check can keep the others from running: a machine on which one of them breaks is the very one to look at. Nothing is
changed, and nothing is left on the disk.
"""

import importlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from llmkit.core.errors import EnvironmentFault, Problem
from llmkit.core.machine import thread_count
from llmkit.doctor.accelerators import ask_driver, check_accelerators, check_gpu_speed
from llmkit.doctor.finding import Finding, fault, warn
from llmkit.doctor.machine import (
    check_memory,
    check_open_files,
    check_shared_memory,
    check_threads,
    describe_cpu,
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
    """Every finding, as soon as it is there; the order is that in which one would mend them."""
    python, needed, extras = read_ranges()
    yield check_python(python)
    yield from _guard("libraries", lambda: check_libraries(needed))
    yield from _guard("extras", lambda: check_extras(extras))
    torch = _import("torch")
    if isinstance(torch, Exception):
        what = (str(torch).splitlines() or [type(torch).__name__])[0]
        yield fault("torch", f"cannot be loaded: {what}", "pip install --force-reinstall torch")
    else:
        yield from _guard("torch", lambda: check_torch(torch))
        yield from _guard("imports", lambda: [check_imports()])
    cpu = read_cpu()
    yield describe_cpu(cpu)
    if not isinstance(torch, Exception):
        yield from _guard("threads", lambda: [check_threads(cpu, torch.get_num_threads(), thread_count())])
    yield from _guard("memory", check_memory)
    yield from _guard("shared memory", lambda: [check_shared_memory()])
    yield from _guard("open files", lambda: [check_open_files()])
    folder = nearest_folder(out)
    yield from _guard("disk space", lambda: [check_space(folder)])
    yield from _guard("disk", lambda: check_disk(folder))
    yield from _guard("hub", lambda: _check_hub(offline))
    if not isinstance(torch, Exception):
        driver = ask_driver()
        yield from _guard("accelerator", lambda: check_accelerators(torch, driver))
        yield from _guard("gpu speed", lambda: check_gpu_speed(torch, driver))
        yield from _guard("cpu speed", lambda: check_cpu_speed(torch, cpu))
        yield from _guard("precision", lambda: [check_precision()])


def summarise(findings: list[Finding]) -> dict[str, Any]:
    """For JSON: the worst status, how many of each, and all findings."""
    counts = {status: sum(each.status == status for each in findings) for status in ("ok", "warn", "fault")}
    worst = next((status for status in ("fault", "warn") if counts[status]), "ok")
    return {"status": worst, "counts": counts, "findings": [each.as_dict() for each in findings]}


def refuse_faults(findings: list[Finding]) -> None:
    """Say what would keep llmkit from working.

    Raises:
        EnvironmentFault: with one problem for each fault.
    """
    problems = [Problem(each.value, each.name, each.advice) for each in findings if each.status == "fault"]
    if problems:
        raise EnvironmentFault.from_problems(problems)


def _guard(name: str, check: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """What a check finds; that it broke is a finding too."""
    try:
        yield from check()
    except Exception as error:  # odd machines are what this command is for
        what = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
        yield warn(name, f"could not be looked at: {what}", "please report it, with this line and your system")


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except Exception as error:  # a broken library can raise anything
        return error


def _check_hub(offline: bool) -> Iterator[Finding]:
    from huggingface_hub import constants

    yield check_hub(constants.ENDPOINT, ask_hub, offline or constants.HF_HUB_OFFLINE)
    yield check_cache(Path(constants.HF_HUB_CACHE))
