"""CPU, threads, memory and limits, as the system and its containers report them.

Everything is read below `root`, so that a test can describe another machine. What a system does not report (macOS has
no /proc) is left out, never guessed.
"""

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from llmkit.core.files import show_size
from llmkit.core.machine import ThreadCount, allowed_cores, read_limits, read_text, total_memory
from llmkit.doctor.finding import Finding, fault, ok, warn

FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve", "bf16", "i8mm")
"""Flags of /proc/cpuinfo that decide the speed of matrix products, x86 and ARM."""
MIN_MEMORY_BYTES = 4e9
MIN_SHARED_MEMORY_BYTES = 1e9
"""Data workers and NCCL use /dev/shm; Docker's default is 64 MB."""
MIN_OPEN_FILES = 1024
"""The usual soft limit on Linux; macOS has 256, which data workers and their queues can exceed."""


@dataclass(frozen=True, slots=True)
class Cpu:
    """The processor as this process may use it; `quota` is a container's limit, in cores."""

    name: str
    vendor: str
    flags: frozenset[str]
    n_logical: int
    n_physical: int
    megahertz: float | None
    quota: float | None


def read_cpu(root: Path = Path("/"), allowed: frozenset[int] | None = None) -> Cpu:
    """Counts only the logical processors that this process is `allowed` to use."""
    allowed = allowed_cores() if allowed is None else allowed
    blocks = [dict(_pairs(block)) for block in read_text(root / "proc/cpuinfo").split("\n\n") if block.strip()]
    blocks = [each for each in blocks if each.get("processor", "").isdigit() and int(each["processor"]) in allowed]
    first = blocks[0] if blocks else {}
    # Hyper-threads of one core have the same numbers; ARM names no cores and has no hyper-threads.
    cores = {(block.get("physical id"), block.get("core id", block["processor"])) for block in blocks}
    kilohertz = read_text(root / "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq").strip()
    current = max((float(block["cpu MHz"]) for block in blocks if "cpu MHz" in block), default=None)
    return Cpu(
        name=first.get("model name") or platform.processor() or platform.machine(),
        vendor=first.get("vendor_id", ""),
        flags=frozenset((first.get("flags") or first.get("Features") or "").split()),
        n_logical=len(allowed),
        n_physical=len(cores) or len(allowed),
        megahertz=int(kilohertz) / 1000 if kilohertz.isdigit() else current,
        quota=read_limits(root)[0],
    )


def check_cpu(cpu: Cpu) -> Finding:
    """Name, cores, clock and instructions."""
    flags = [feature for feature in FEATURES if feature in cpu.flags]
    clock = f", {cpu.megahertz / 1000:.2g} GHz" if cpu.megahertz else ""
    value = f"{cpu.name}, {cpu.n_physical} cores, {cpu.n_logical} threads{clock}, {' '.join(flags) or 'flags unknown'}"
    return ok("cpu", value, flags=flags, cores=cpu.n_physical, threads=cpu.n_logical, megahertz=cpu.megahertz)


def check_threads(cpu: Cpu, torch_threads: int, count: ThreadCount) -> Finding:
    """Torch's threads and what sets them. One per physical core is best, and none beyond the quota."""
    best = cpu.n_physical if cpu.quota is None else max(1, min(cpu.n_physical, ceil(cpu.quota)))
    by_user = count.source.endswith("_NUM_THREADS")
    source = f"{count.source}={count.n}" if by_user else "the container's quota" if count.source == "quota" else "cores"
    quota = "" if cpu.quota is None else f", quota of {cpu.quota:g}"
    value = f"torch uses {torch_threads} (set by {source}); {cpu.n_physical} cores{quota}"
    figures = {"torch_threads": torch_threads, "source": count.source, "quota_cores": cpu.quota, "best": best}
    variable = count.source if by_user else "OMP_NUM_THREADS"
    if torch_threads > best:
        return warn("threads", f"{value}: too many", f"export {variable}={best}", **figures)
    if torch_threads < best:
        unset = f"unset {variable}, or " if by_user else ""
        advice = f"{unset}export {variable}={best}, unless other processes need the other cores"
        return warn("threads", f"{value}: too few", advice, **figures)
    return ok("threads", value, **figures)


def check_memory(root: Path = Path("/")) -> Finding:
    """Memory that this process can get, within a container's limit."""
    table = {key: int(value.split()[0]) * 1024 for key, value in _pairs(read_text(root / "proc/meminfo")) if value}
    total, limit = table.get("MemTotal") or total_memory(), read_limits(root)[1]
    if total is None:
        return ok("memory", "this system does not report it")
    available = min(table.get("MemAvailable", total), limit or total)
    swapped = table.get("SwapTotal", 0) - table.get("SwapFree", 0)
    value = f"{show_size(available)} of {show_size(total)} available"
    value += f", container limit {show_size(limit)}" if limit is not None and limit < total else ""
    value += f", {show_size(swapped)} swapped out" if swapped else ""
    figures = {"total_bytes": total, "available_bytes": available, "limit_bytes": limit, "swapped_bytes": swapped}
    if available < MIN_MEMORY_BYTES or swapped > 0.05 * total:
        advice = "close other programs or raise the limit; or use a smaller model.size and train.micro_batch_size=1"
        return warn("memory", value, advice, **figures)
    return ok("memory", value, **figures)


def check_shared_memory(folder: Path = Path("/dev/shm")) -> Finding:
    """/dev/shm, which only Linux has."""
    if not folder.is_dir():
        return ok("shared memory", f"this system has no {folder}")
    state = os.statvfs(folder)
    total, free = state.f_frsize * state.f_blocks, state.f_frsize * state.f_bavail
    value = f"{show_size(free)} of {show_size(total)} free in {folder}"
    if total < MIN_SHARED_MEMORY_BYTES:
        advice = "docker run --shm-size=8g (Kubernetes: mount an emptyDir with medium: Memory), or train.num_workers=0"
    elif free < MIN_SHARED_MEMORY_BYTES / 4:
        advice = f"delete old files in {folder}, or set train.num_workers=0"
    else:
        return ok("shared memory", value, free_bytes=free, total_bytes=total)
    return warn("shared memory", value, advice, free_bytes=free, total_bytes=total)


def check_open_files(soft: int | None = None) -> Finding:
    """How many files a process may have open."""
    if soft is None:
        if os.name == "nt":
            return ok("open files", "this system has no limit")
        import resource

        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        soft = 2**31 if soft == resource.RLIM_INFINITY else soft
    value = f"at most {soft:,}"
    if soft < MIN_OPEN_FILES:
        make = fault if soft < MIN_OPEN_FILES // 4 else warn
        return make("open files", value, "ulimit -n 4096", soft_limit=soft)
    return ok("open files", value, soft_limit=soft)


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    """The lines `key : value` of a file in /proc."""
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            yield key.strip(), value.strip()
