"""Write files and folders so that they are complete or absent after a crash; record and verify their hashes.

Everything is written to a temporary path next to the target, flushed to disk and then renamed. The temporary file of a
file (`.NAME.PROCESS.partial`) belongs to one process and is locked while it is written, so several processes can write
the same file. Temporary files of killed processes are deleted. The temporary folder of a folder is `.NAME.partial`; the
caller must hold the lock of the folder.
"""

import atexit
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from llmkit.core.disk_space import FULL_DISK_ERRNOS
from llmkit.core.lock import create_locked, delete_unlocked
from llmkit.core.output_paths import refuse_special

PARTIAL = ".partial"
PROCESS = re.compile(r"\.[0-9]+-[0-9a-f]{6}(?=\.partial$)")
"""The part of a temporary file's name that identifies the process."""
MAX_NAME_BYTES = 200
"""Maximum bytes of the target's name in a temporary name; most file systems allow 255 bytes in total."""


def failpoint(name: str) -> None:
    """Mark a moment during a write. Does nothing; tests replace it to kill the process or fail at that moment."""


# ---- files ----


@contextmanager
def new_file(path: Path) -> Iterator[TextIO]:
    """Open a text file that replaces `path` when the block succeeds, and is removed when it raises.

    If `path` is a link, its target is replaced.

    Raises:
        UsageError: `path` is a folder or a device.
    """
    path = path.resolve() if path.is_symlink() else path
    refuse_special(path)
    start = os.fsencode(f".{path.name}")[:MAX_NAME_BYTES].decode(errors="ignore")
    for leftover in path.parent.iterdir():
        if PROCESS.sub("", leftover.name) == f"{start}{PARTIAL}":
            delete_unlocked(leftover)
    partial = path.with_name(f"{start}.{os.getpid()}-{secrets.token_hex(3)}{PARTIAL}")
    failpoint(f"{path.name}: begin")
    try:
        with create_locked(partial) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        failpoint(f"{path.name}: before rename")
        partial.replace(path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in FULL_DISK_ERRNOS and error.filename is None:
            error.filename = str(path)  # the error of a failed write has no file name
        raise
    sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Replace `path` with `text`, atomically."""
    with new_file(path) as file:
        file.write(text)


def write_json(path: Path, value: Any, *, indent: int | None = 2) -> None:
    """Replace `path` with `value` as JSON, atomically. NaN and infinity are a ValueError, because JSON has neither.

    `indent=None` writes one line, ten times as fast.
    """
    write_text(path, json.dumps(value, ensure_ascii=False, indent=indent, allow_nan=False) + "\n")


def nan_to_null(value: Any) -> Any:
    """Return a copy of a result with None instead of NaN and infinity, which JSON lacks."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: nan_to_null(each) for key, each in value.items()}
    return [nan_to_null(each) for each in value] if isinstance(value, list | tuple) else value


def read_json(path: Path) -> Any:
    """Return the value that `write_json` wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


# ---- folders ----


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Create a folder that replaces `path` when the block succeeds, and is removed when it raises.

    The temporary folder that a killed process left is deleted first.
    """
    partial = path.with_name(f".{path.name}{PARTIAL}")
    restore_folder(path)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    failpoint(f"{path.name}: begin")
    try:
        yield partial
        failpoint(f"{path.name}: before sync")
        sync_tree(partial)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    replace_folder(partial, path)


def _delete_tree(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def replace_folder(partial: Path, path: Path, delete: Callable[[Path], None] = _delete_tree) -> None:
    """Rename `partial`, already flushed to the disk, to `path`; replace an existing `path`, or keep it if that fails.

    `delete` deletes the replaced folder; pass another function for folders in which users may have put files.
    """
    old = path.with_name(f".{path.name}.old")
    failpoint(f"{path.name}: before rename")
    try:
        if path.exists():
            path.rename(old)
            failpoint(f"{path.name}: between renames")
        partial.rename(path)
    except BaseException:  # also Interrupted, which a signal raises
        _restore_old(path, old)
        raise
    failpoint(f"{path.name}: after rename")
    sync_folder(path.parent)
    delete(old)


def restore_folder(path: Path, delete: Callable[[Path], None] = _delete_tree) -> None:
    """Undo a `replace_folder` that was killed between its renames; otherwise `delete` the old folder that it left."""
    old = path.with_name(f".{path.name}.old")
    _restore_old(path, old)
    delete(old)


def _restore_old(path: Path, old: Path) -> None:
    if old.exists() and not path.exists():
        old.rename(path)


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """Make a hard link to a file, or a copy on a file system without hard links."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


# ---- flush ----


def sync_tree(folder: Path) -> None:
    """Flush every file and folder below `folder` to the disk.

    Files that only their owner may read, such as those of safetensors and tempfile, get the permissions that the umask
    gives to new files.
    """
    mode = folder.stat().st_mode & 0o666
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            continue
        if path.is_file() and path.stat().st_mode & 0o777 == 0o600:
            path.chmod(mode)
        if path.is_dir():
            sync_folder(path)
        else:
            with path.open("r+b" if os.name == "nt" else "rb") as file:  # Windows flushes only writable files
                os.fsync(file.fileno())
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Flush the folder's entries to the disk, so a rename in the folder survives a power failure."""
    if os.name == "nt":  # Windows cannot open a folder, and does not need it
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# ---- hashes ----


def hash_file(path: Path) -> str:
    """Return the SHA-256 of the file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_small_file(path: str) -> str:
    """Like `hash_file`, with one read: three times as fast for a kilobyte."""
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - a Path takes longer than the read
        data = file.read()
    return hashlib.sha256(data).hexdigest()


def describe_files(folder: Path, root: Path) -> dict[str, dict[str, Any]]:
    """Return size and SHA-256 of every file below `folder`, by path relative to `root` with forward slashes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(root).as_posix(): {"bytes": path.stat().st_size, "sha256": hash_file(path)} for path in files
    }


def verify_file(path: Path, expected: dict[str, Any], *, hashes: bool = True) -> str | None:
    """Return the difference between a file and the record of `describe_files`; None if there is none.

    Without `hashes` only existence and size are checked, which is fast.
    """
    if not path.is_file():
        return "is missing"
    if (n_bytes := path.stat().st_size) != expected["bytes"]:
        return f"has {n_bytes:,} bytes instead of {expected['bytes']:,}"
    if hashes and (found := hash_file(path)) != expected["sha256"]:
        return f"has the SHA-256 {found[:12]}... instead of {expected['sha256'][:12]}..."
    return None


def temporary_folder() -> Path:
    """Return a new folder, which is deleted when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="llmkit-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
