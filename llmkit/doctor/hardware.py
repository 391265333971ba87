"""Check CPU, memory, limits and GPUs: what the system reports, whether each device works, and how fast it is.

System files are read below `root`, so that a test can describe another machine. Values that a system does not report
(macOS has no /proc) are left out. nvidia-smi and torch are asked separately, because most GPU faults show as a
difference between them.
"""

import os
import platform
import re
import subprocess
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from llmkit.core.console import count, first_line, show_size
from llmkit.core.machine import ThreadCount, allowed_cores, read_limits, read_text, total_memory
from llmkit.doctor.finding import Finding, fault, ok, warn

FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve", "bf16", "i8mm")
"""Flags of /proc/cpuinfo that determine the speed of matrix products, on x86 and ARM."""
MIN_MEMORY_BYTES = 4e9
MIN_SHARED_MEMORY_BYTES = 1e9
"""Data workers and NCCL use /dev/shm; Docker's default is 64 MB."""
MIN_OPEN_FILES = 1024
"""The usual soft limit on Linux. The limit of macOS, 256, is too low for data workers and their queues."""


@dataclass(frozen=True, slots=True)
class Cpu:
    """The processors that this process may use; `quota` is the limit of a container, in cores."""

    name: str
    vendor: str
    flags: frozenset[str]
    n_logical: int
    n_physical: int
    megahertz: float | None
    quota: float | None


def read_cpu(root: Path = Path("/"), allowed: frozenset[int] | None = None) -> Cpu:
    """Read the CPU; counts only logical processors that this process is `allowed` to use."""
    allowed = allowed_cores() if allowed is None else allowed
    blocks = [dict(_pairs(block)) for block in read_text(root / "proc/cpuinfo").split("\n\n") if block.strip()]
    blocks = [each for each in blocks if each.get("processor", "").isdigit() and int(each["processor"]) in allowed]
    first = blocks[0] if blocks else {}
    # Hyper-threads of one core have the same numbers. ARM lists no core numbers and has no hyper-threads.
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
    """Report name, cores, clock and instruction sets."""
    flags = [feature for feature in FEATURES if feature in cpu.flags]
    clock = f", {cpu.megahertz / 1000:.2g} GHz" if cpu.megahertz else ""
    cores = f"{count(cpu.n_physical, 'core')}, {count(cpu.n_logical, 'thread')}"
    value = f"{cpu.name}, {cores}{clock}, {' '.join(flags) or 'flags unknown'}"
    return ok("cpu", value, flags=flags, cores=cpu.n_physical, threads=cpu.n_logical, megahertz=cpu.megahertz)


def check_threads(cpu: Cpu, torch_threads: int, decided: ThreadCount) -> Finding:
    """Check torch's threads and report what sets them. The best number is one per physical core, within the quota."""
    best = cpu.n_physical if cpu.quota is None else max(1, min(cpu.n_physical, ceil(cpu.quota)))
    by_user = decided.source.endswith("_NUM_THREADS")
    source = {"quota": "the container's quota"}.get(decided.source, "cores")
    if by_user:
        source = f"{decided.source}={decided.n}"
    quota = "" if cpu.quota is None else f", quota of {cpu.quota:g}"
    value = f"torch uses {torch_threads} (set by {source}); {count(cpu.n_physical, 'core')}{quota}"
    figures = {"torch_threads": torch_threads, "source": decided.source, "quota_cores": cpu.quota, "best": best}
    variable = decided.source if by_user else "OMP_NUM_THREADS"
    if torch_threads > best:
        return warn("threads", f"{value}: too many", f"export {variable}={best}", **figures)
    if torch_threads < best:
        unset = f"unset {variable}, or " if by_user else ""
        advice = f"{unset}export {variable}={best}, unless other processes need the other cores"
        return warn("threads", f"{value}: too few", advice, **figures)
    return ok("threads", value, **figures)


def check_memory(root: Path = Path("/")) -> Finding:
    """Check the memory that this process can use, within the limit of a container."""
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
    """Check the free space of /dev/shm, which only Linux has."""
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
    """Check how many files a process may open."""
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
    """Yield the `key : value` lines of a file in /proc."""
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            yield key.strip(), value.strip()


MIN_SHARE = 1 / 3
"""Matrix products reach 60 to 95 % of the theoretical peak, and half of this in a virtual machine, whose cores may be
hyper-threads."""
MIN_BUSY_LOAD = 0.5
"""Load per core above which other programs explain slow matrix products."""


def peak_fp32_flops(cpu: Cpu, n_threads: int) -> float | None:
    """Return cores x clock x 2 FMA units x 2 operations x vector width; None if the clock or the width is unknown.

    AMD's vectors are counted as 256 bits wide, which is true up to Zen 4.
    """
    if cpu.megahertz is None or not {"avx2", "avx512f"} & cpu.flags:
        return None
    per_cycle = 64 if "avx512f" in cpu.flags and cpu.vendor != "AuthenticAMD" else 32
    cores = min(n_threads, cpu.n_physical, cpu.quota or cpu.n_physical)
    return per_cycle * cores * cpu.megahertz * 1e6


def check_cpu_speed(torch: Any, cpu: Cpu) -> Finding:
    """Check that fp32 products reach a third of the theoretical peak, or a sixth in a virtual machine."""
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
    """Report the choice of `train.precision: auto`, from the function that training calls."""
    from llmkit.core.devices import pick_device
    from llmkit.training.speed import choose_precision

    precision, reason = choose_precision("auto", pick_device())
    return ok("precision", f"train.precision auto chooses {precision}: {reason}", precision=precision)


MIN_FREE_SHARE = 0.85
"""Minimum fraction of free GPU memory. If less is free, another program uses the GPU; the driver alone takes a few
hundred MB."""


@dataclass(frozen=True, slots=True)
class Driver:
    """Report of nvidia-smi: names of the GPUs, version of the driver, newest CUDA that the driver supports."""

    names: list[str]
    version: str = ""
    cuda: str | None = None


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def read_driver(run: Callable[[list[str]], str] = _run) -> Driver:
    """Read the driver; there are no names without nvidia-smi, or if nvidia-smi cannot reach the driver."""
    output = run(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"])
    rows = [line.split(", ") for line in output.splitlines() if ", " in line]
    if not rows:
        return Driver([])
    cuda = re.search(r"CUDA Version\s*:\s*([\d.]+)", run(["nvidia-smi"]))
    return Driver([row[0] for row in rows], rows[0][1], cuda and cuda[1])


def check_accelerators(torch: Any, driver: Driver, root: Path = Path("/")) -> Iterator[Finding]:
    """Yield one finding per GPU that torch can use, or the reason why torch can use none."""
    with warnings.catch_warnings(record=True) as caught:  # torch warns here if a GPU cannot be used
        warnings.simplefilter("always")
        usable = torch.cuda.is_available()
    if usable:
        n_gpus = torch.cuda.device_count()
        yield from (_check_gpu(torch, index) for index in range(n_gpus))
        if n_gpus > 1 and not torch.distributed.is_nccl_available():
            value = "missing: training on several GPUs is not possible"
            yield warn("nccl", value, "install a torch build with CUDA and NCCL, on Linux")
        return
    names = ", ".join(sorted(set(driver.names)))
    if driver.names and not torch.version.cuda:
        value = f"{names} found, but torch was built without CUDA"
        yield warn("accelerator", value, "install a torch build with CUDA: see pytorch.org/get-started")
    elif driver.names:
        yield _explain_driver(torch, driver, names, str(caught[0].message).splitlines()[0] if caught else "")
    elif (root / "dev/kfd").exists() and not torch.version.hip:
        value = "AMD GPU found, but torch was built without ROCm"
        yield warn("accelerator", value, "install a torch build with ROCm: see pytorch.org/get-started")
    elif torch.backends.mps.is_available():
        yield ok("accelerator", "Apple GPU found; llmkit uses it in single processes, but was not tested on one")
    else:
        yield ok("accelerator", "none; llmkit uses the CPU")


def _explain_driver(torch: Any, driver: Driver, names: str, warning: str) -> Finding:
    """Explain why torch cannot use GPUs that the driver sees, although torch has CUDA."""
    major = driver.cuda and driver.cuda.split(".")[0]
    if major and int(major) < int(torch.version.cuda.split(".")[0]):
        value = f"{names}: driver {driver.version} supports CUDA {driver.cuda}, torch needs {torch.version.cuda}"
        advice = f"update the driver, or install a torch build for CUDA {major}: see pytorch.org/get-started"
        return fault("accelerator", value, advice)
    value = f"{names} found, but torch cannot use it{': ' if warning else ''}{warning}"
    return fault("accelerator", value, "check CUDA_VISIBLE_DEVICES, `--gpus all` of a container, and nvidia-smi")


def _check_gpu(torch: Any, index: int) -> Finding:
    """Check kernels, free memory and precisions of one GPU, and a computation on it."""
    name = f"gpu {index}"
    properties = torch.cuda.get_device_properties(index)
    free, total = torch.cuda.mem_get_info(index)
    has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    bf16 = "bf16" if has_bf16 else "no bf16 (train.precision auto chooses fp32)"
    value = f"{properties.name}, {show_size(free)} of {show_size(total)} free, {bf16}"
    figures = {"device": properties.name, "free_bytes": free, "total_bytes": total, "bf16": has_bf16}
    architectures = torch.cuda.get_arch_list()
    if torch.version.hip is None and not has_kernels(properties.major, properties.minor, architectures):
        value = f"{value}; torch has no kernels for it ({', '.join(architectures)})"
        target = f"sm_{properties.major}{properties.minor}"
        advice = f"install a torch build for {target} (for an old GPU: an older build, or one for CUDA 12)"
        return fault(name, value, advice, **figures)
    try:
        torch.ones(256, 256, device=f"cuda:{index}").matmul(torch.ones(256, 256, device=f"cuda:{index}")).sum().item()
    except Exception as error:  # a wrong installation fails at the first kernel, with any type of error
        advice = "see nvidia-smi; free memory of the GPU, or install a torch build for its driver"
        return fault(name, f"{value}; cannot compute: {first_line(error)}", advice, **figures)
    if free < MIN_FREE_SHARE * total:
        advice = f"stop the programs that nvidia-smi lists, or set CUDA_VISIBLE_DEVICES without {index}"
        return warn(name, value, advice, **figures)
    return ok(name, value, **figures)


def has_kernels(major: int, minor: int, architectures: list[str]) -> bool:
    """Whether torch's kernels run on this compute capability.

    Machine code (sm_) runs on the same major version with an equal or later minor version. PTX (compute_) also runs on
    all later versions (CUDA programming guide, "Application compatibility"). The result for an empty list is true.
    """
    for architecture in architectures:
        target, _, number = architecture.rstrip("af").partition("_")
        built = (int(number[:-1]), int(number[-1]))
        if built <= (major, minor) and (target == "compute" or (target == "sm" and built[0] == major)):
            return True
    return not architectures
