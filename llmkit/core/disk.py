"""Space on the disk: forecast before a run starts, and told in figures when it has run out."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llmkit.core.errors import EnvironmentFault

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FULL_IN_WORDS = ("No space left", "File too large", "Disk quota", "file write failed", "unexpected pos")
"""What safetensors and torch, which raise no OSError, say then."""


def require_space(folder: Path, n_bytes: int, what: str) -> None:
    """Refuse early what cannot fit.

    Raises:
        EnvironmentFault: with both sizes.
    """
    free = shutil.disk_usage(folder).free
    if free < n_bytes:
        hint = "make space there, or choose another --out"
        raise EnvironmentFault(
            f"{what} needs about {show_size(n_bytes)}, {show_size(free)} are free", where=str(folder), hint=hint
        )


def measure_folder(folder: Path) -> int:
    """Bytes of all files below `folder`."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@contextmanager
def explain_full_disk(folder: Path, what: str, n_bytes: int) -> Iterator[None]:
    """Turn the ways in which writing fails on a full disk into one error.

    Raises:
        EnvironmentFault: the disk, or what the user may have of it, is full.
    """
    try:
        yield
    except Exception as error:
        if not _is_full(error):
            raise
        free = shutil.disk_usage(folder).free
        what = f"the disk is full: {what} needs about {show_size(n_bytes)}, {show_size(free)} are free"
        hint = "what was saved before is whole; make space and go on with: --resume"
        raise EnvironmentFault(what, where=str(folder), hint=hint) from error


def _is_full(error: BaseException | None) -> bool:
    if error is None:
        return False
    if isinstance(error, OSError) and error.errno in FULL:
        return True
    return any(words in str(error) for words in FULL_IN_WORDS) or _is_full(error.__cause__ or error.__context__)


def show_size(n_bytes: float) -> str:
    """Bytes in words, in powers of 1000: 64 MB, 1.5 GB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} TB" if n_bytes < 1000 else f"{n_bytes:,.0f} TB"
