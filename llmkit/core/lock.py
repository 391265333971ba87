"""A lock for a folder that only one process may write; the kernel releases it when the process ends or is killed.

The lock is on a file next to the folder, so that the folder itself may be renamed or deleted.
"""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from llmkit.core.errors import EnvironmentFault

if os.name != "nt":
    import fcntl


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Lock `folder` against other llmkit processes within the block; its parent must exist.

    Raises:
        EnvironmentFault: another process holds the lock; names it, its machine and the time.
    """
    if os.name == "nt":  # has no flock
        yield
        return
    folder = folder.resolve()  # the lock must not depend on how the path is written
    path = folder.with_name(f".{folder.name}.lock")
    try:
        file = _open_locked(path, folder)
    except OSError:  # the parent is not writable, such as for a volume of a container
        yield
        return
    _held.add(file)
    try:
        os.truncate(file, 0)
        os.write(file, f"process {os.getpid()} on {socket.gethostname()}, since {time.strftime('%F %T')}".encode())
        yield
    finally:
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


def _open_locked(path: Path, folder: Path) -> int:
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(file, 200).decode(errors="replace") or "another process"
            os.close(file)
            hint = "wait until it has ended, or give another --out"
            raise EnvironmentFault(f"{str(folder)!r} is in use by {holder}", where=str(path), hint=hint) from None
        except OSError:  # a file system without locks, such as some network ones: continue without
            return file
        # The previous holder deletes the file, so another process may have created a new one: only use the file that
        # the path refers to now.
        with suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(file).st_ino:
                return file
        os.close(file)
