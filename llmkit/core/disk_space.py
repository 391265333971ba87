"""Check the space on a disk before a run, and report a disk that has become full."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llmkit.core.console import show_size
from llmkit.core.errors import EnvironmentFault

FULL_DISK_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FULL_DISK_MESSAGES = ("No space left", "File too large", "Disk quota", "file write failed", "unexpected pos")
"""Messages of safetensors and torch, which raise no OSError on a full disk."""


def require_space(folder: Path, n_bytes: int, what: str) -> None:
    """Check that the disk has enough space.

    Raises:
        EnvironmentFault: there is too little space; the error gives both sizes.
    """
    free = shutil.disk_usage(folder).free
    if free < n_bytes:
        hint = "free space there, or choose another --out"
        raise EnvironmentFault(
            f"{what} needs about {show_size(n_bytes)}, but only {show_size(free)} is free", where=str(folder), hint=hint
        )


def measure_folder(folder: Path) -> int:
    """Return the bytes of all files below `folder`."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@contextmanager
def explain_full_disk(folder: Path, what: str, n_bytes: int) -> Iterator[None]:
    """Convert the different errors of a full disk to one error.

    Raises:
        EnvironmentFault: the disk, or the user's quota, is full.
    """
    try:
        yield
    except Exception as error:
        if not _is_full(error):
            raise
        free = shutil.disk_usage(folder).free
        what = f"the disk is full: {what} needs about {show_size(n_bytes)}, but only {show_size(free)} is free"
        hint = "everything that was saved before is complete; free space and continue with: --resume"
        raise EnvironmentFault(what, where=str(folder), hint=hint) from error


def _is_full(error: BaseException | None) -> bool:
    if error is None:
        return False
    if isinstance(error, OSError) and error.errno in FULL_DISK_ERRNOS:
        return True
    return any(words in str(error) for words in FULL_DISK_MESSAGES) or _is_full(error.__cause__ or error.__context__)
