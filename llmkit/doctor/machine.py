"""The machine that the system says is there: processor, threads, memory and the limits that a container sets.

Everything is read below `root`, so that a test can show another machine. What a system does not tell (macOS has no
/proc) is left out, never guessed.
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
"""The words of /proc/cpuinfo that decide how fast products run, x86 and ARM."""

FREE_MEMORY_BYTES = 4e9
"""Below this not even the small recipes run well beside a browser."""

SHARED_MEMORY_BYTES = 1e9
"""Data workers and NCCL pass batches and buffers through it; Docker's default is 64 MB."""

OPEN_FILES = 1024
"""The usual soft limit on Linux; macOS has 256, and data workers with their queues can use that up."""


@dataclass(frozen=True, slots=True)
class Cpu:
    """The processor as this process may use it; `quota` is a container's limit, in cores."""

    name: str
    vendor: str
    family: int
    flags: frozenset[str]
    n_logical: int
    n_physical: int
    megahertz: float | None
    quota: float | None


def read_cpu(root: Path = Path("/"), allowed: frozenset[int] | None = None) -> Cpu:
    """Only the logical processors that this process is `allowed` count."""
    if allowed is None:
        allowed = allowed_cores()
    blocks = [dict(_pairs(block)) for block in read_text(root / "proc/cpuinfo").split("\n\n") if block.strip()]
    blocks = [block for block in blocks if block.get("processor", "").isdigit()]
    mine = [block for block in blocks if int(block["processor"]) in allowed]
    first = mine[0] if mine else {}
    # Several threads of one core have the same numbers; ARM names no cores, and has no such threads.
    cores = {(block.get("physical id"), block.get("core id", block["processor"])) for block in mine}
    return Cpu(
        name=first.get("model name") or platform.processor() or platform.machine(),
        vendor=first.get("vendor_id", ""),
        family=int(first.get("cpu family", "0")),
        flags=frozenset((first.get("flags") or first.get("Features") or "").split()),
        n_logical=len(allowed),
        n_physical=len(cores) or len(allowed),
        megahertz=_read_megahertz(root, mine),
        quota=read_limits(root)[0],
    )


def _read_megahertz(root: Path, blocks: list[dict[str, str]]) -> float | None:
    """The highest rate that the system knows of: the governor's limit, else what /proc/cpuinfo shows now."""
    kilohertz = read_text(root / "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq").strip()
    if kilohertz.isdigit():
        return int(kilohertz) / 1000
    return max((float(block["cpu MHz"]) for block in blocks if "cpu MHz" in block), default=None)


def describe_cpu(cpu: Cpu) -> Finding:
    """What the processor has for products."""
    has = [feature for feature in FEATURES if feature in cpu.flags]
    clock = f", {cpu.megahertz / 1000:.2g} GHz" if cpu.megahertz else ""
    value = f"{cpu.name}, {cpu.n_physical} cores ({cpu.n_logical} threads){clock}; {' '.join(has) or 'flags unknown'}"
    return ok("cpu", value, flags=has, cores=cpu.n_physical, threads=cpu.n_logical, megahertz=cpu.megahertz)


def check_threads(cpu: Cpu, torch_threads: int, count: ThreadCount) -> Finding:
    """torch's threads and what decided them. One a physical core is best: two on one core share its multipliers, and
    beyond a quota all wait."""
    best = cpu.n_physical if cpu.quota is None else max(1, min(cpu.n_physical, ceil(cpu.quota)))
    room = f"{cpu.n_physical} cores" + ("" if cpu.quota is None else f" and a quota of {cpu.quota:g}")
    by_user = count.source.endswith("_NUM_THREADS")
    reasons = {"quota": "by the container's quota", "cores": "by the cores that this process may use"}
    why = f"by {count.source}={count.n}" if by_user else reasons[count.source]
    value = f"torch computes with {torch_threads}, {why}; {room}"
    figures = {"torch_threads": torch_threads, "source": count.source, "quota_cores": cpu.quota, "best": best}
    variable = count.source if by_user else "OMP_NUM_THREADS"
    if torch_threads > best:
        return warn("threads", f"{value}: too many", f"export {variable}={best}", **figures)
    if torch_threads < best:
        way = f"unset {variable}, or " if by_user else ""
        advice = f"{way}export {variable}={best}, unless other processes shall have the other cores"
        return warn("threads", f"{value}: too few", advice, **figures)
    return ok("threads", value, **figures)


def check_memory(root: Path = Path("/")) -> Iterator[Finding]:
    """Memory that this process may have, and whether the machine is swapping."""
    table = {key: int(value.split()[0]) * 1024 for key, value in _pairs(read_text(root / "proc/meminfo")) if value}
    total = table.get("MemTotal") or total_memory()
    limit = read_limits(root)[1]
    if total is None:
        yield ok("memory", "the system does not say")
        return
    available = min(table.get("MemAvailable", total), limit or total)
    of = (
        f"{show_size(total)}"
        if limit is None or limit >= total
        else f"{show_size(limit)} (the container's limit; {show_size(total)})"
    )
    figures = {"total_bytes": total, "available_bytes": available, "limit_bytes": limit}
    if available < FREE_MEMORY_BYTES:
        advice = "close other programs or raise the limit; else a small model.size, train.micro_batch_size=1"
        yield warn("memory", f"{show_size(available)} of {of} to be had", advice, **figures)
    else:
        yield ok("memory", f"{show_size(available)} of {of} to be had", **figures)
    swap, swap_free = table.get("SwapTotal", 0), table.get("SwapFree", 0)
    used = swap - swap_free
    if used > 0.05 * total:
        advice = "close other programs; a training that is swapped out runs at the disk's speed"
        yield warn("swap", f"{show_size(used)} of {show_size(swap)} in use", advice, used_bytes=used, total_bytes=swap)
    else:
        yield ok(
            "swap",
            f"{show_size(used)} of {show_size(swap)} in use" if swap else "none",
            used_bytes=used,
            total_bytes=swap,
        )


def check_shared_memory(folder: Path = Path("/dev/shm")) -> Finding:
    """/dev/shm, which only Linux has."""
    if not folder.is_dir():
        return ok("shared memory", f"no {folder} on this system")
    state = os.statvfs(folder)
    total, free = state.f_frsize * state.f_blocks, state.f_frsize * state.f_bavail
    value = f"{show_size(free)} of {show_size(total)} free in {folder}"
    if total < SHARED_MEMORY_BYTES:
        advice = "docker run --shm-size=8g (Kubernetes: an emptyDir with medium: Memory there), or train.num_workers=0"
        return warn("shared memory", value, advice, free_bytes=free, total_bytes=total)
    if free < SHARED_MEMORY_BYTES / 4:
        advice = f"remove what ended programs have left in {folder}, or train.num_workers=0"
        return warn("shared memory", value, advice, free_bytes=free, total_bytes=total)
    return ok("shared memory", value, free_bytes=free, total_bytes=total)


def check_open_files(soft: int | None = None) -> Finding:
    """How many files a process may have open."""
    if soft is None:
        if os.name == "nt":
            return ok("open files", "no such limit on this system")
        import resource

        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        soft = 2**31 if soft == resource.RLIM_INFINITY else soft
    if soft < OPEN_FILES // 4:
        return fault("open files", f"at most {soft:,}", "ulimit -n 4096", soft_limit=soft)
    if soft < OPEN_FILES:
        return warn("open files", f"at most {soft:,}", "ulimit -n 4096", soft_limit=soft)
    return ok("open files", f"at most {soft:,}", soft_limit=soft)


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    """The lines `key : value` of a file in /proc."""
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            yield key.strip(), value.strip()
