"""This machine: the cores, memory and threads that the process may use, and a description for the run's record.

torch counts the physical cores of the affinity mask (`taskset`) but does not read the CPU quotas of control groups:
with a quota of 1.5 CPUs on 64 cores it would start 64 threads. `limit_threads` therefore sets OMP_NUM_THREADS to a
smaller quota before torch loads. A value that the user has set is checked and never changed.

Names of host and user are never recorded. Limits are read below `root`, so that a test can describe another machine.
"""

import os
import platform
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from math import ceil
from pathlib import Path
from typing import Any, Literal

import llmkit
from llmkit.core.console import redact
from llmkit.core.errors import EnvironmentFault, UsageError

PACKAGES = ("torch", "transformers", "accelerate", "datasets", "tokenizers", "numpy", "pyarrow")


def describe_machine() -> dict[str, Any]:
    """Describe CPU, cores, torch's threads (and the reason for their number), memory, accelerator and platform."""
    import torch  # imported here, because `prepare` needs only `describe_versions`

    from llmkit.core.devices import describe_gpu

    return {
        "cpu": _cpu_name(),
        "cores": len(allowed_cores()),
        "threads": torch.get_num_threads(),
        "threads_source": thread_count().source,
        "memory_gb": None if (n_bytes := total_memory()) is None else round(n_bytes / 2**30, 1),
        "accelerator": describe_gpu(),
        "platform": f"{platform.system()} {platform.machine()}",
    }


def describe_versions() -> dict[str, str]:
    """Return versions of llmkit, Python and the libraries on which a result can depend."""
    versions = {"llmkit": llmkit.__version__, "python": platform.python_version()}
    return versions | {name: found for name in PACKAGES if (found := find_version(name)) is not None}


def find_version(package: str) -> str | None:
    """Return the version of an installed package; None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def describe_command() -> list[str]:
    """Return the command line without the path of the program and without secrets."""
    program = Path(sys.argv[0]).name
    return ["llmkit" if program == "__main__.py" else program, *map(redact, sys.argv[1:])]


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def read_memory() -> int | None:
    """Return the bytes of memory that this process may use, limited by its control groups; None if unknown."""
    return min((size for size in (total_memory(), read_limits()[1]) if size is not None), default=None)


def total_memory() -> int | None:
    """Return the bytes of memory of the machine; None if unknown."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


MIN_ADDRESS_SPACE = 400 << 20
"""Bytes of address space that a library needs for its threads, each of which reserves its own part."""


def require_address_space(n_bytes: int, what: str) -> None:
    """Check that a library may allocate `n_bytes` under the limit that `ulimit -v` sets.

    A library in Rust ends the process if an allocation fails, and Python can neither prevent nor report that.

    Raises:
        EnvironmentFault: the limit leaves too little address space.
    """
    try:
        import resource  # not on Windows

        if (limit := resource.getrlimit(resource.RLIMIT_AS)[0]) == resource.RLIM_INFINITY:
            return
        n_used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except (ImportError, OSError, ValueError):  # not Linux
        return
    if limit - n_used < (n_needed := MIN_ADDRESS_SPACE + n_bytes):
        n_left = max(0, limit - n_used)
        raise EnvironmentFault(
            f"{what} needs {n_needed / 1e9:.1f} GB of address space, and {n_left / 1e9:.1f} GB are left",
            where=f"limit of the address space: {limit / 1e9:.1f} GB (ulimit -v)",
            hint="raise the limit, or remove it: ulimit -v unlimited",
        )


VARIABLES = ("MKL_NUM_THREADS", "OMP_NUM_THREADS")
"""Variables that torch's kernels read; the first one that is set applies."""
MAX_THREADS = 65_536
"""Maximum number of threads: a larger one is a mistake, and starting so many threads would end the process."""

Source = Literal["MKL_NUM_THREADS", "OMP_NUM_THREADS", "quota", "cores"]


@dataclass(frozen=True, slots=True)
class ThreadCount:
    """Number of threads of torch's kernels, and the reason; `n` is None if torch decides."""

    n: int | None
    source: Source
    quota: float | None = None
    """Cores that a control group allows."""


def count_cores(root: Path = Path("/"), allowed: frozenset[int] | None = None) -> int:
    """Return the number of logical cores of the affinity mask, at most the quota rounded up, at least 1."""
    n_allowed = len(allowed_cores() if allowed is None else allowed)
    quota = read_limits(root)[0]
    return n_allowed if quota is None else max(1, min(n_allowed, ceil(quota)))


def decide_threads(
    environ: Mapping[str, str], root: Path = Path("/"), allowed: frozenset[int] | None = None
) -> ThreadCount:
    """Return the user's number, else a quota below the number of physical cores, else torch's own count.

    Raises:
        UsageError: a variable is not a number of threads.
    """
    given = {name: parse_threads(environ[name], name) for name in VARIABLES if environ.get(name, "").strip()}
    quota = read_limits(root)[0]
    for name, n in given.items():
        return ThreadCount(n, "MKL_NUM_THREADS" if name == "MKL_NUM_THREADS" else "OMP_NUM_THREADS", quota)
    if quota is not None:
        cores = _count_physical(root, allowed_cores() if allowed is None else allowed)
        if ceil(quota) < cores:
            return ThreadCount(max(1, ceil(quota)), "quota", quota)
    return ThreadCount(None, "cores", quota)


_decided: ThreadCount | None = None
"""The decision of `limit_threads`, made before it changed the environment."""


def limit_threads() -> None:
    """Set OMP_NUM_THREADS if a quota allows fewer threads than torch would start. Call it before torch loads.

    Raises:
        UsageError: OMP_NUM_THREADS or MKL_NUM_THREADS is not a number of threads.
    """
    global _decided
    _decided = decide_threads(os.environ)
    for name in VARIABLES:  # libgomp rejects an empty variable
        if not os.environ.get(name, "-").strip():
            del os.environ[name]
    if _decided.source == "quota":
        os.environ["OMP_NUM_THREADS"] = str(_decided.n)


def thread_count() -> ThreadCount:
    """Return the decision of `limit_threads`; without that call (llmkit as a library), the number that applies now."""
    return _decided or decide_threads(os.environ)


def parse_threads(text: str, name: str) -> int:
    """Return the number of threads in a variable's value; the first number of nested levels ("4,2").

    Raises:
        UsageError: the value is neither a positive number nor, for OMP_NUM_THREADS, a list of positive numbers.
    """
    levels = text.split(",") if name == "OMP_NUM_THREADS" else [text]
    if all(re.fullmatch(r"\s*\+?[0-9]+\s*", level) and 0 < int(level) <= MAX_THREADS for level in levels):
        return int(levels[0])
    hint = f"export {name}=4, with the number of threads that you want, or unset {name}"
    raise UsageError(f"{name}={text!r} is not a number of threads", where=f"environment, {name}", hint=hint)


def allowed_cores() -> frozenset[int]:
    """Return the logical cores of this process's affinity mask."""
    return frozenset(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1))


def read_limits(root: Path = Path("/")) -> tuple[float | None, int | None]:
    """Return the cores and bytes of memory that the control groups of this process allow; None without a limit.

    The strictest limit of a group and its parents applies. Versions 1 and 2 name their files differently.
    """
    cores: list[float] = []
    n_bytes: list[int] = []
    for line in read_text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            base = root / "sys/fs/cgroup" / controller
            group = base / path.lstrip("/")
            for folder in (group, *(each for each in group.parents if each.is_relative_to(base))):
                quota = read_text(folder / "cpu.max").split() or [
                    *read_text(folder / "cpu.cfs_quota_us").split(),
                    *read_text(folder / "cpu.cfs_period_us").split(),
                ]
                if len(quota) == 2 and quota[0].isdigit():  # "max" and "-1" mean no limit
                    cores.append(int(quota[0]) / int(quota[1]))
                limit = (read_text(folder / "memory.max") or read_text(folder / "memory.limit_in_bytes")).strip()
                if limit.isdigit() and int(limit) < 2**60:  # version 1 writes no limit as nearly 2**63
                    n_bytes.append(int(limit))
    return min(cores, default=None), min(n_bytes, default=None)


def read_text(path: Path) -> str:
    """Read a file of /proc or /sys; an empty string if the system has no such file."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _count_physical(root: Path, allowed: Iterable[int]) -> int:
    """Count physical cores among the allowed logical ones; without topology files each logical core counts."""
    folder = root / "sys/devices/system/cpu"
    return len({read_text(folder / f"cpu{n}/topology/thread_siblings_list") or n for n in allowed})
