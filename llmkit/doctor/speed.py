"""CPU speed: one fp32 matrix product against the limit of the cores, and the precision that training would choose."""

import os
from typing import Any

from llmkit.doctor.finding import Finding, ok, warn
from llmkit.doctor.machine import Cpu

MIN_SHARE = 1 / 3
"""Products reach 60 to 95 % of the limit. Half of this in a virtual machine, whose cores may be hyper-threads."""
MIN_BUSY_LOAD = 0.5
"""Load per core above which other programs explain a slow product."""


def peak_fp32_flops(cpu: Cpu, n_threads: int) -> float | None:
    """cores x clock x 2 FMA units x 2 operations x vector width; None if the clock or the width is unknown.

    AMD's vectors are counted as 256 bits wide, which is true up to Zen 4.
    """
    if cpu.megahertz is None or not {"avx2", "avx512f"} & cpu.flags:
        return None
    per_cycle = 64 if "avx512f" in cpu.flags and cpu.vendor != "AuthenticAMD" else 32
    cores = min(n_threads, cpu.n_physical, cpu.quota or cpu.n_physical)
    return per_cycle * cores * cpu.megahertz * 1e6


def check_cpu_speed(torch: Any, cpu: Cpu) -> Finding:
    """A warning if fp32 products reach less than a third of the limit."""
    from llmkit.training.speed import measure_matmul

    n_threads = torch.get_num_threads()
    measured, limit = measure_matmul(torch.float32, torch.device("cpu")), peak_fp32_flops(cpu, n_threads)
    value = f"fp32 matrix products run at {measured / 1e9:.3g} GFLOP/s with {n_threads} threads"
    figures = {"flops": measured, "limit": limit}
    if limit is None:
        return ok("cpu speed", value, **figures)
    value = f"{value}, {measured / limit:.0%} of the estimate for {(cpu.megahertz or 0) / 1000:.2g} GHz"
    if measured / limit >= MIN_SHARE / (2 if "hypervisor" in cpu.flags else 1):
        return ok("cpu speed", value, **figures)
    load = os.getloadavg()[0] / cpu.n_logical if hasattr(os, "getloadavg") else 0.0
    if load > MIN_BUSY_LOAD:
        advice = f"other programs use the CPU (load {load:.1f} per core): stop them and run `llmkit doctor` again"
    else:
        advice = "set the power profile to performance; check the temperature, and other virtual machines on the host"
    return warn("cpu speed", value, advice, **figures)


def check_precision() -> Finding:
    """What `train.precision: auto` chooses here, from the function that training calls."""
    from llmkit.core.devices import pick_device
    from llmkit.training.speed import choose_precision

    precision, reason = choose_precision("auto", pick_device())
    return ok("precision", f"train.precision auto chooses {precision}: {reason}", precision=precision)
