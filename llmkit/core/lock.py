"""Locks for outputs that only one process may write; the kernel releases them when the process ends or is killed.

The lock of a file or folder is on a file next to it, so that the output itself may be renamed or deleted.
"""

import errno
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from llmkit.core import console
from llmkit.core.errors import EnvironmentFault

if os.name != "nt":
    import fcntl

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def lock_output(out: Path) -> Iterator[None]:
    """Lock a file or folder against other llmkit processes within the block; its parent must exist.

    If the file system or the permissions do not allow a lock, a message says so and the block runs without one.

    Raises:
        EnvironmentFault: another process holds the lock (the error names the process, its machine and the start time),
            or the lock of another user cannot be opened.
    """
    if os.name == "nt":  # Windows has no flock
        yield
        return
    out = out.resolve()  # the lock must not depend on how the path is written
    path = out.with_name(f".{out.name}.lock")
    try:
        file = _open_locked(path, out)
    except OSError as error:
        if path.exists():
            what = f"{str(out)!r} may be in use: its lock cannot be opened: {error.strerror}"
            hint = f"give another --out, or delete the lock if no command of another user writes to {out.name}"
            raise EnvironmentFault(what, where=str(path), hint=hint) from None
        # The parent may be read-only, for example the parent of a container volume.
        console.info(f"cannot lock {str(out)!r} ({error.strerror}): do not run two commands that write to it at once")
        yield
        return
    _held.add(file)
    try:
        with suppress(OSError):  # open for reading only if another user created the lock file
            os.truncate(file, 0)
            os.write(file, f"process {os.getpid()} on {socket.gethostname()}, since {time.strftime('%F %T')}".encode())
        yield
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)
        _held.discard(file)
        os.close(file)


_held: set[int] = set()


def _close_in_child() -> None:
    """Close the lock in a data worker, which may outlive a killed trainer by seconds and must not keep the lock."""
    for file in _held:
        os.close(file)
    _held.clear()


if os.name != "nt":
    os.register_at_fork(after_in_child=_close_in_child)


def _open_locked(path: Path, out: Path) -> int:
    while True:
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except PermissionError:  # another user created the lock file
            file = os.open(path, os.O_RDONLY)
        is_free = _try_lock(file)
        if is_free is None:
            console.info(f"cannot lock {str(out)!r} (no file locks): do not run two commands that write to it at once")
            return file
        if not is_free:
            holder = os.read(file, 200).decode(errors="replace") or "another process"
            os.close(file)
            hint = "wait until it has ended, or give another --out"
            raise EnvironmentFault(f"{str(out)!r} is in use by {holder}", where=str(path), hint=hint)
        if _is_at(file, path):
            return file
        os.close(file)


def _try_lock(file: int) -> bool | None:
    """Lock an open file; returns False if another process holds its lock, None if its file system has no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return None
    return True


def _is_at(file: int, path: Path) -> bool:
    """Whether `path` still refers to an open file, which another process may have deleted before it was locked."""
    with suppress(FileNotFoundError):
        return path.stat().st_ino == os.fstat(file).st_ino
    return False


# ---- temporary files ----


def create_locked(path: Path) -> TextIO:
    """Create a locked text file: `delete_unlocked` in other processes does not delete it while it is open."""
    while True:
        file = path.open("x", encoding="utf-8", newline="\n")
        if os.name == "nt" or _try_lock(file.fileno()) is None or _is_at(file.fileno(), path):
            return file
        file.close()


def delete_unlocked(path: Path) -> None:
    """Delete a file if no process has locked it. On a file system without locks the file is kept."""
    with suppress(OSError):
        if os.name == "nt":  # Windows cannot delete an open file
            path.unlink()
            return
        file = os.open(path, os.O_RDONLY)
        try:
            if _try_lock(file):
                path.unlink()
        finally:
            os.close(file)
