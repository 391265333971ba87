"""The device that models run on and its memory: NVIDIA GPUs, Apple GPUs and CPUs.

Only this module chooses devices. Only a run with one process uses an Apple GPU (`mps`), because torch cannot exchange
gradients between Apple GPUs. llmkit has not run on an Apple GPU yet; tests mock the list of devices.
"""

import ctypes
import sys
from contextlib import suppress
from pathlib import Path

import torch
from torch import nn

from llmkit.core import distributed


def pick_device() -> torch.device:
    """Return the current NVIDIA GPU, else Apple's GPU if there is only one rank, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() and distributed.expected_ranks() == 1 else "cpu")


def widest_float(device: torch.device) -> torch.dtype:
    """Return the dtype for sums: fp64, or fp32 on MPS, which has no fp64."""
    return torch.float32 if device.type == "mps" else torch.float64


def synchronize(device: torch.device) -> None:
    """Wait for the device to finish its work before a clock is read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def free_bytes(device: torch.device) -> int | None:
    """Return the free GPU memory; on an Apple GPU, Metal's recommended maximum less the allocated; None on a CPU."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "mps":
        return max(0, torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    return None


def release_memory(device: torch.device) -> None:
    """Release torch's cached memory to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def describe_gpu() -> str | None:
    """Return the GPU's name; None without a GPU."""
    device = pick_device()
    if device.type == "cuda":
        return torch.cuda.get_device_name()
    return "Apple GPU (MPS)" if device.type == "mps" else None


if sys.platform != "win32":
    import resource

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_ALIGNMENT = 64
"""Alignment in bytes of torch's allocations on a CPU (c10/core/alignment.h)."""


def tune_malloc() -> None:
    """Let glibc keep freed tensors for the next step. Does nothing without glibc.

    By default, glibc returns each freed tensor above 32 MB to the kernel, which zeroes the pages at the next
    allocation. With a large vocabulary on a CPU, this takes a fifth of a step (docs/log.md).
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None and mallopt(_M_MMAP_THRESHOLD, 1 << 30):
        mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def trim_malloc() -> None:
    """Return memory that training no longer uses to the operating system.

    Otherwise the tensors of the final evaluation, too large for the freed blocks, would raise the peak (docs/log.md).
    """
    if sys.platform.startswith("linux") and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)


def align_weights(model: nn.Module) -> None:
    """Copy weights on the CPU that are not aligned as torch allocates them, such as weights mapped from a file.

    The order of sums in a matrix product may depend on the alignment of its operands, so a resumed run would differ
    in the last bits from an uninterrupted one. Tied weights stay tied if they are one parameter.
    """
    for weight in (*model.parameters(), *model.buffers()):
        if weight.device.type == "cpu" and weight.data_ptr() % _ALIGNMENT:
            weight.data = weight.data.clone()


def measure_memory() -> dict[str, int]:
    """Return peak memory in bytes for the log. All ranks must call this function, which gathers their values.

    `peak_memory` is the highest value of any rank; with several ranks, `peak_memory_total` is their sum. On a CPU,
    memory means the resident memory of a process.
    """
    peaks = distributed.gather(peak_bytes())
    return {"peak_memory": max(peaks), **({"peak_memory_total": sum(peaks)} if len(peaks) > 1 else {})}


def peak_bytes() -> int:
    """Return the peak memory in bytes: torch's on a GPU, this process's on a CPU; 0 if unknown.

    Torch reports no peak for Apple GPUs; the value is then the current use.
    """
    device = pick_device()
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()
    with suppress(OSError, IndexError):  # getrusage would include the parent process's peak
        return 1024 * int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
    if sys.platform == "win32":
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
