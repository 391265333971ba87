"""How much memory training has used, and how it keeps what was freed for the next step."""

import ctypes
import sys
from contextlib import suppress
from pathlib import Path

from torch import nn

from llmkit.core import distributed
from llmkit.core.devices import used_bytes

if sys.platform != "win32":
    import resource

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_ALIGNMENT = 64
"""Bytes: what torch allocates on a CPU begins at a multiple of them (c10/core/alignment.h)."""


def keep_freed_memory() -> None:
    """glibc gives back each tensor above 32 MB when it is freed; in the next step the kernel zeroes its pages again,
    one fault for each 4 kB: a fifth of a step with a large vocabulary on a CPU (docs/log.md). Without glibc nothing
    happens.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None and mallopt(_M_MMAP_THRESHOLD, 1 << 30):
        mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def give_back_freed_memory() -> None:
    """What training has freed goes back to the kernel before something else begins, whose larger tensors would find no
    place there and come on top: a run of GPT-2 mini then had its peak in the last evaluation (docs/log.md)."""
    if sys.platform.startswith("linux") and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)


def align_weights(model: nn.Module) -> None:
    """Give weights on the CPU memory as torch allocates it; those read from a file lie in its mapping, at any address.

    A matrix product may add up in another order where its operands lie otherwise, so a resumed run would not end with
    the bits of one that was never stopped. Weights that share memory keep sharing it if they are one parameter.
    """
    for weight in (*model.parameters(), *model.buffers()):
        if weight.device.type == "cpu" and weight.data_ptr() % _ALIGNMENT:
            weight.data = weight.data.clone()


def measure_memory() -> dict[str, int]:
    """The highest use so far in bytes, for the log: `peak_memory`, of the device that used most, and with several
    ranks `peak_memory_total`. On a CPU it is the process's resident memory. Every rank calls it."""
    peaks = distributed.gather(peak_bytes())
    return {"peak_memory": max(peaks), **({"peak_memory_total": sum(peaks)} if len(peaks) > 1 else {})}


def peak_bytes() -> int:
    """The most that was taken so far: of a GPU's memory by torch, or by this process; 0 where none says."""
    if (of_gpu := used_bytes()) is not None:
        return of_gpu
    with suppress(OSError, IndexError):  # not getrusage, whose peak a process inherits from the one that started it
        return 1024 * int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
    if sys.platform == "win32":
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
