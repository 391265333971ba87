"""Write files and folders so that they are whole or absent, whatever happens in between.

Everything goes to a sibling with a telling name on the same file system, is flushed to the disk, and
is renamed last. Whoever finds such a sibling later knows that it is rubbish.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from llmkit.core.errors import EnvironmentFault

PARTIAL = ".partial"


def reached(point: str) -> None:
    """A named moment in writing. Does nothing; tests put in its place what dies or fails just there."""


def write_text(path: Path, text: str) -> None:
    """Replace `path` by `text`, atomically."""
    partial = path.with_name(f".{path.name}{PARTIAL}")
    reached(f"{path.name}: begin")
    try:
        with partial.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        reached(f"{path.name}: before rename")
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any, *, indent: int | None = 2) -> None:
    """Replace `path` by `value` as readable JSON, atomically. NaN is refused: it is not JSON.

    Without `indent` it is one line, written ten times as fast.
    """
    write_text(path, json.dumps(value, ensure_ascii=False, indent=indent, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """What `write_json` wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


@contextmanager
def new_file(path: Path) -> Iterator[TextIO]:
    """A text file to fill that becomes `path` when the block ends well, and is removed when it does not."""
    partial = path.with_name(f".{path.name}{PARTIAL}")
    try:
        with partial.open("w", encoding="utf-8", newline="\n") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    partial.replace(path)
    sync_folder(path.parent)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill that becomes `path` when the block ends well, and is removed when it does not.

    A former `path` is replaced in one rename. What a killed process left behind is cleared away.
    """
    partial = path.with_name(f".{path.name}{PARTIAL}")
    restore_folder(path)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    reached(f"{path.name}: begin")
    try:
        yield partial
        reached(f"{path.name}: before sync")
        sync_tree(partial)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    replace_folder(partial, path)


def replace_folder(partial: Path, path: Path) -> None:
    """Give `partial`, which is on the disk, the name `path`; a former `path` is replaced, or stays if that fails."""
    old = path.with_name(f".{path.name}.old")
    reached(f"{path.name}: before rename")
    try:
        if path.exists():
            path.rename(old)
            reached(f"{path.name}: between renames")
        partial.rename(path)
    except BaseException:  # a signal too
        _take_back(path, old)
        raise
    reached(f"{path.name}: after rename")
    sync_folder(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def restore_folder(path: Path) -> None:
    """Bring back the former `path` where a process was killed between the two renames, and clear it away elsewhere."""
    old = path.with_name(f".{path.name}.old")
    _take_back(path, old)
    shutil.rmtree(old, ignore_errors=True)


def _take_back(path: Path, old: Path) -> None:
    if old.exists() and not path.exists():
        old.rename(path)


def sync_tree(folder: Path) -> None:
    """Flush every file and folder below `folder` to the disk."""
    for path in sorted(folder.rglob("*")):
        if path.is_dir():
            sync_folder(path)
        else:
            with path.open("r+b") as file:  # Windows flushes only what is open for writing
                os.fsync(file.fileno())
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Flush the folder's own entries, so that a rename in it survives a power cut."""
    if os.name == "nt":  # Windows cannot open a folder, and does not need it
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def check_writable(folder: Path, *, dry_run: bool = False) -> None:
    """Make `folder`'s parents and write a probe file, before any long work; a dry run only asks for the rights.

    Raises:
        EnvironmentFault: with the system's own reason.
    """
    parent = folder if folder.is_dir() else folder.parent
    probe = parent / f".llmkit-probe-{os.getpid()}"
    try:
        if dry_run:
            nearest = next(place for place in (parent, *parent.absolute().parents) if place.exists())
            if not nearest.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            if not os.access(nearest, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return
        parent.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"llmkit")
        probe.unlink()
    except OSError as error:
        hint = "choose another --out, or change the folder's rights"
        raise EnvironmentFault(
            f"cannot write to {str(folder)!r}: {error.strerror}", where=str(parent), hint=hint
        ) from None


def hash_file(path: Path) -> str:
    """SHA-256 of the file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_small_file(path: str) -> str:
    """As `hash_file`, in one read: three times as fast for a kilobyte."""
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - a Path takes longer than the read
        data = file.read()
    return hashlib.sha256(data).hexdigest()


def describe_files(folder: Path, root: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of every file below `folder`, by its path from `root` with forward slashes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(root).as_posix(): {"bytes": path.stat().st_size, "sha256": hash_file(path)} for path in files
    }


def find_fault(path: Path, expected: dict[str, Any], *, hashes: bool = True) -> str | None:
    """What is wrong with a file, held against what `describe_files` said of it; None if nothing is.

    Without `hashes` only existence and size are looked at, which costs nothing.
    """
    if not path.is_file():
        return "is missing"
    if (n_bytes := path.stat().st_size) != expected["bytes"]:
        return f"has {n_bytes:,} bytes instead of {expected['bytes']:,}"
    if hashes and (found := hash_file(path)) != expected["sha256"]:
        return f"has the SHA-256 {found[:12]}... instead of {expected['sha256'][:12]}..."
    return None
