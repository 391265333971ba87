"""One process at a time may write a folder; death of any kind gives the lock back.

The lock is the kernel's on a file beside the folder, so that the folder itself may be renamed or deleted.
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
def hold_folder(folder: Path) -> Iterator[None]:
    """Keep other llmkit processes from writing `folder` until the block ends; its parent must exist.

    Raises:
        EnvironmentFault: another process holds it; names process, machine and since when.
    """
    if os.name == "nt":  # which has no such lock
        yield
        return
    folder = folder.resolve()  # two names of one folder have one lock
    path = folder.with_name(f".{folder.name}.lock")
    try:
        file = _open_locked(path, folder)
    except OSError:  # only the folder itself can be written, as with a volume of a container
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
    """A data worker that outlives a killed trainer by seconds must not keep its lock."""
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
        except OSError:  # a file system without locks, as some network ones are: work without, as all other tools do
            return file
        # The former holder deletes the file: what was opened may no longer be the one that others will open.
        with suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(file).st_ino:
                return file
        os.close(file)
