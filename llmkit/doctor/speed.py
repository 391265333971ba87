"""Does the hardware compute as fast as it should? A matrix product and a copy, timed, beside the hardware's own limit.

The best of many repetitions in TIMED_SECONDS counts: other work on the machine can only make one slower.
"""

import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from llmkit.doctor.finding import Finding, ok, warn
from llmkit.doctor.machine import Cpu

TIMED_SECONDS = 0.4
MIN_SHARE = 1 / 3
"""Products of a good size reach 60 to 95 % of the limit; below a third something is wrong. Half of that in a virtual
machine, where what is called a core may be one of the two threads of one."""

CPU_SIDE, GPU_SIDE = 1024, 8192
"""Least side of the square matrices on a CPU, 2 GFLOP; on a GPU 1.1 TFLOP, beside which starting it costs nothing."""
MIN_SECONDS = 2e-3
"""Of a product on a CPU: a large server with AMX would be through with 2 GFLOP before its threads have begun."""

CPU_COPY_BYTES, GPU_COPY_BYTES = 128 << 20, 1 << 30
"""Far beyond the caches."""

AMD_FAMILY_ZEN4 = 25


@dataclass(frozen=True, slots=True)
class Limit:
    """What a part of the hardware can do at most in a second, by which `source`, and what share of it is too little."""

    rate: float
    source: str
    min_share: float = MIN_SHARE


def cpu_flops(cpu: Cpu, n_threads: int) -> dict[str, float]:
    """At most so many FLOP/s, by precision; empty where the clock or the width is not known.

    cores x clock x operations a cycle. A fused multiply-add is two operations, and a core has two units for it: 2 x 2
    x 8 fp32 with AVX2, twice that with AVX-512, but not on AMD before Zen 5, whose units stay 256 bits wide. AVX-512
    BF16 does twice what fp32 does; AMX multiplies 16x32 by 32x16 in 16 cycles (Intel 64 and IA-32 optimization manual,
    "Intel AMX instructions throughput and latency").
    """
    narrow = cpu.vendor == "AuthenticAMD" and cpu.family <= AMD_FAMILY_ZEN4
    if cpu.megahertz is None or not {"avx2", "avx512f"} & cpu.flags:
        return {}
    a_cycle = {"fp32": 64.0 if "avx512f" in cpu.flags and not narrow else 32.0}
    if "amx_bf16" in cpu.flags:
        a_cycle["bf16"] = 2 * 16 * 32 * 16 / 16
    elif "avx512_bf16" in cpu.flags:
        a_cycle["bf16"] = 2 * a_cycle["fp32"]
    cycles = min(n_threads, cpu.n_physical) * cpu.megahertz * 1e6
    if cpu.quota is not None:
        cycles *= min(1.0, cpu.quota / min(n_threads, cpu.n_physical))
    return {precision: operations * cycles for precision, operations in a_cycle.items()}


def time_best(work: Callable[[], object], wait: Callable[[], object] = lambda: None) -> float:
    """Seconds of the fastest of the repetitions; the first, in which libraries set themselves up, does not count."""
    work()
    wait()
    best = float("inf")
    end = time.perf_counter() + TIMED_SECONDS
    while time.perf_counter() < end:
        started = time.perf_counter()
        work()
        wait()
        best = min(best, time.perf_counter() - started)
    return best


def choose_side(limit: float | None) -> int:
    """Of the matrices on a CPU that does at most so many FLOP/s."""
    if limit is None:
        return CPU_SIDE
    return max(CPU_SIDE, 256 * math.ceil(math.cbrt(MIN_SECONDS * limit / 2) / 256))


def measure_product(torch: Any, device: Any, precision: str, limit: float | None = None) -> float:
    """FLOP/s of the product of two square matrices."""
    side = GPU_SIDE if device.type == "cuda" else choose_side(limit)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b, out = (torch.full((side, side), 0.5, dtype=dtype, device=device) for _ in range(3))
    return 2 * float(side) ** 3 / time_best(lambda: torch.mm(a, b, out=out), _waiter(torch, device))


def measure_copy(torch: Any, device: Any) -> float:
    """Bytes a second read and written, together, by a copy within the device's memory."""
    n_bytes = GPU_COPY_BYTES if device.type == "cuda" else CPU_COPY_BYTES
    source = torch.ones(n_bytes // 4, dtype=torch.float32, device=device)
    target = torch.empty_like(source)
    return 2 * n_bytes / time_best(lambda: target.copy_(source), _waiter(torch, device))


def measure_transfer(torch: Any, device: Any) -> float:
    """Bytes a second from pinned memory of the host to a GPU."""
    source = torch.ones(GPU_COPY_BYTES // 16, dtype=torch.float32, pin_memory=True)
    target = torch.empty_like(source, device=device)
    return GPU_COPY_BYTES / 4 / time_best(lambda: target.copy_(source, non_blocking=True), _waiter(torch, device))


def _waiter(torch: Any, device: Any) -> Callable[[], object]:
    return (lambda: torch.cuda.synchronize(device)) if device.type == "cuda" else (lambda: None)


def judge_speed(name: str, reached: float, unit: str, limit: Limit | None, advice: str, busy: float = 0.0) -> Finding:
    """Hold a measured rate against the hardware's limit. With a load of `busy` a core a low one is no wonder."""
    scale, prefix = (1e12, "T") if reached >= 1e12 else (1e9, "G")
    value = f"{reached / scale:.3g} {prefix}{unit}"
    figures = {"reached": reached, "limit": limit and limit.rate}
    if limit is None:
        return ok(name, f"{value}; what this hardware should reach is not known", **figures)
    share = reached / limit.rate
    value = f"{value}, {share:.0%} of the {limit.rate / scale:.3g} {prefix}{unit} by {limit.source}"
    if share >= limit.min_share:
        return ok(name, value, **figures)
    if busy > 0.5:
        advice = f"other programs are at work (load {busy:.1f} a core): run `llmkit doctor` again when they have ended"
    return warn(name, value, advice, **figures)


CPU_ADVICE = "see threads and cpu kernels above; else the power profile (performance), heat, or neighbours on the host"
GPU_ADVICE = "nvidia-smi -q -d PERFORMANCE,CLOCK: is it hot, capped, or shared with another process?"


def check_cpu_speed(torch: Any, cpu: Cpu) -> Iterator[Finding]:
    """Products in both precisions, and a copy, with the threads that torch has."""
    device = torch.device("cpu")
    busy = os.getloadavg()[0] / cpu.n_logical if hasattr(os, "getloadavg") else 0.0
    n_threads = torch.get_num_threads()
    limits = cpu_flops(cpu, n_threads)
    source = f"{n_threads} threads, vector width and {(cpu.megahertz or 0) / 1000:.2g} GHz (which many exceed)"
    min_share = MIN_SHARE / (2 if "hypervisor" in cpu.flags else 1)
    for precision in ("fp32", "bf16"):
        reached = measure_product(torch, device, precision, limits.get(precision))
        limit = Limit(limits[precision], source, min_share) if precision in limits else None
        yield judge_speed(f"cpu {precision} product", reached, "FLOP/s", limit, CPU_ADVICE, busy)
    yield judge_speed("memory copy", measure_copy(torch, device), "B/s", None, CPU_ADVICE, busy)


def check_precision() -> Finding:
    """What `train.precision: auto` would take here, by the very function that training asks."""
    from llmkit.core.devices import pick_device
    from llmkit.training.speed import choose_precision

    precision, reason = choose_precision("auto", pick_device())
    return ok("precision", f"train.precision auto is {precision}: {reason}", precision=precision)
