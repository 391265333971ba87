"""Keep memory that was freed, so that the next step need not ask the kernel for it again."""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


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
