"""How many cores this process may use and how many threads torch gets: affinity, quota, the user's variables.

torch counts the physical cores of the affinity mask (`taskset`) but does not read quotas: with 1.5 CPUs of 64 cores it
would start 64 threads. `limit_threads` therefore sets OMP_NUM_THREADS where a quota is smaller, before torch loads.
A value that the user has set is checked and never changed.

Knows nothing of torch, and reads everything below `root`, so that a test can describe another machine.
"""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Literal

from llmkit.core.errors import UsageError

VARIABLES = ("MKL_NUM_THREADS", "OMP_NUM_THREADS")
"""What torch's kernels read, in the order in which they count."""
MAX_THREADS = 65_536
"""More than any machine has cores: such a number is a mistake, and starting that many threads ends the process."""

Source = Literal["MKL_NUM_THREADS", "OMP_NUM_THREADS", "quota", "cores"]


@dataclass(frozen=True, slots=True)
class ThreadCount:
    """Threads of torch's kernels, and what decided it; `n` is None where it is left to torch."""

    n: int | None
    source: Source
    quota: float | None = None
    """Cores, where a control group sets a limit."""


def count_cores(root: Path = Path("/"), allowed: frozenset[int] | None = None) -> int:
    """Logical cores of the affinity mask, at most the quota rounded up; at least 1."""
    n_allowed = len(allowed_cores() if allowed is None else allowed)
    quota = read_limits(root)[0]
    return n_allowed if quota is None else max(1, min(n_allowed, ceil(quota)))


def decide_threads(
    environ: Mapping[str, str], root: Path = Path("/"), allowed: frozenset[int] | None = None
) -> ThreadCount:
    """The user's number, else the quota where it is smaller than the number of physical cores, else torch's own count.

    Raises:
        UsageError: a variable holds what is no number of threads.
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
"""What `limit_threads` found before it changed the environment."""


def limit_threads() -> None:
    """Set OMP_NUM_THREADS where a quota asks for fewer threads than torch would start. Call it before torch loads.

    Raises:
        UsageError: OMP_NUM_THREADS or MKL_NUM_THREADS holds what is no number of threads.
    """
    global _decided
    _decided = decide_threads(os.environ)
    for name in VARIABLES:  # an empty one is as good as none, and libgomp complains of it
        if not os.environ.get(name, "-").strip():
            del os.environ[name]
    if _decided.source == "quota":
        os.environ["OMP_NUM_THREADS"] = str(_decided.n)


def thread_count() -> ThreadCount:
    """What `limit_threads` decided; without it (llmkit as a library) what holds now."""
    return _decided or decide_threads(os.environ)


def parse_threads(text: str, name: str) -> int:
    """The number of threads that OpenMP takes from a value; of nested levels ("4,2") it is the first.

    Raises:
        UsageError: not a positive number, or for OMP_NUM_THREADS a list of them.
    """
    levels = text.split(",") if name == "OMP_NUM_THREADS" else [text]
    if all(re.fullmatch(r"\s*\+?[0-9]+\s*", level) and 0 < int(level) <= MAX_THREADS for level in levels):
        return int(levels[0])
    hint = f"export {name}=4, with the number of threads that you want, or unset {name}"
    raise UsageError(f"{name}={text!r} is not a number of threads", where=f"environment, {name}", hint=hint)


def allowed_cores() -> frozenset[int]:
    """The logical cores of this process's affinity mask."""
    return frozenset(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1))


def read_limits(root: Path = Path("/")) -> tuple[float | None, int | None]:
    """Cores and bytes of memory that the control groups of this process allow; None where they set no limit.

    The strictest of a group and all groups around it holds. Versions 1 and 2 name their files differently.
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
                if len(quota) == 2 and quota[0].isdigit():  # "max" and "-1" mean none
                    cores.append(int(quota[0]) / int(quota[1]))
                limit = (read_text(folder / "memory.max") or read_text(folder / "memory.limit_in_bytes")).strip()
                if limit.isdigit() and int(limit) < 2**60:  # version 1 writes none as nearly 2**63
                    n_bytes.append(int(limit))
    return min(cores, default=None), min(n_bytes, default=None)


def read_text(path: Path) -> str:
    """A file of /proc or /sys; nothing where the system has none."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _count_physical(root: Path, allowed: Iterable[int]) -> int:
    """Two threads of one core share its multipliers; where the system does not say, each stands for a core."""
    folder = root / "sys/devices/system/cpu"
    return len({read_text(folder / f"cpu{n}/topology/thread_siblings_list") or n for n in allowed})
