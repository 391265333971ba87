"""Keep memory that was freed, so that the next step need not ask the kernel for it again."""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_POINTER, _SIZE = ctypes.c_void_p, ctypes.c_size_t
SMALL_BYTES, N_SMALL = 4 << 20, 32
"""Of what is set aside for small things; untouched, it takes no memory."""


def keep_freed_memory() -> None:
    """glibc gives back each tensor above 32 MB when it is freed; in the next step the kernel zeroes its pages again,
    one fault for each 4 kB: a fifth of a step with a large vocabulary on a CPU (docs/log.md). Without glibc nothing
    happens.

    A small thing that outlives its step would split the place of a large tensor, which then never fits there again: the
    peak of the same command differed by two fifths (docs/log.md). So there is room for small things first: glibc takes
    the smallest place that will do.
    """
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    mallopt = getattr(libc, "mallopt", None)
    if mallopt is not None and mallopt(_M_MMAP_THRESHOLD, 1 << 30):
        mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)
        libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = _POINTER, [_SIZE], [_POINTER]
        places = []
        for _ in range(N_SMALL):
            places.append(libc.malloc(SMALL_BYTES))
            libc.malloc(64)  # stays, so that two places do not become one
        for place in places:
            libc.free(place)
