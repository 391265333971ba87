"""Write files and folders so that they are complete or absent after a crash; check for disk space.

Everything is written to a temporary path next to the target, flushed to disk and then renamed. The temporary file of a
file (`.NAME.PROCESS.partial`) belongs to one process and is locked while it is written, so several processes can write
the same file. Temporary files of killed processes are deleted. The temporary folder of a folder is `.NAME.partial`; the
caller must hold the lock of the folder.
"""

import atexit
import errno
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TextIO

from llmkit.core.console import list_some
from llmkit.core.errors import EnvironmentFault, UsageError
from llmkit.core.lock import create_locked, delete_unlocked

PARTIAL = ".partial"
PROCESS = re.compile(r"\.[0-9]+-[0-9a-f]{6}(?=\.partial$)")
"""The part of a temporary name that belongs to one process."""
MAX_NAME_BYTES = 200
"""Maximum bytes of the name in a temporary name; most file systems allow 255 bytes in total."""
FULL_DISK_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FULL_DISK_MESSAGES = ("No space left", "File too large", "Disk quota", "file write failed", "unexpected pos")
"""Messages of safetensors and torch, which raise no OSError on a full disk."""


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
            error.filename = str(path)  # a failed write does not know it
        raise
    sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Replace `path` with `text`, atomically."""
    with new_file(path) as file:
        file.write(text)


def write_json(path: Path, value: Any, *, indent: int | None = 2) -> None:
    """Replace `path` with `value` as JSON, atomically. NaN is refused, because JSON has no NaN.

    `indent=None` writes one line, ten times as fast.
    """
    write_text(path, json.dumps(value, ensure_ascii=False, indent=indent, allow_nan=False) + "\n")


def nan_to_null(value: Any) -> Any:
    """Return a result with None for numbers that are not finite, as JSON has neither NaN nor infinity."""
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

    Files that a killed process left there are deleted first.
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
    except BaseException:  # a signal too
        _restore_old(path, old)
        raise
    failpoint(f"{path.name}: after rename")
    sync_folder(path.parent)
    delete(old)


def restore_folder(path: Path, delete: Callable[[Path], None] = _delete_tree) -> None:
    """Restore the old `path` if a process was killed between the two renames; otherwise `delete` its remains."""
    old = path.with_name(f".{path.name}.old")
    _restore_old(path, old)
    delete(old)


def _restore_old(path: Path, old: Path) -> None:
    if old.exists() and not path.exists():
        old.rename(path)


# ---- files of others ----


IsOurs = Callable[[str], bool]
"""Returns whether llmkit wrote a path. Paths are relative with forward slashes; a folder, but not a link to one, ends
in a slash."""


def find_foreign(folder: Path, is_ours: IsOurs) -> list[str]:
    """Return the paths in `folder` that llmkit did not write, sorted; a user's subfolder is one path."""
    return sorted(name for name in _list_paths(folder, is_ours) if not is_ours(name))


def refuse_foreign(folder: Path, is_ours: IsOurs, where: str = "--out") -> None:
    """Check that a folder to replace or delete has no files that llmkit did not write.

    Raises:
        UsageError: there are such files; the error names the first three.
    """
    if foreign := find_foreign(folder, is_ours):
        what = f"{str(folder)!r} has files that llmkit did not write: {list_some(foreign)}"
        raise UsageError(what, where=where, hint="move them to another folder, or give another --out")


def delete_ours(folder: Path, is_ours: IsOurs, last: Iterable[str] = ()) -> None:
    """Delete the files that llmkit wrote in `folder`, with `last` at the end, and the folder if it is then empty.

    Links are deleted, not followed.
    """
    paths = sorted((name for name in _list_paths(folder, is_ours) if is_ours(name)), reverse=True)
    late = [name for name in last if name in paths]
    for name in [*(name for name in paths if name not in late), *late]:
        path = folder / name
        if not name.endswith("/"):
            path.unlink(missing_ok=True)
        elif not any(path.iterdir()):
            path.rmdir()
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _list_paths(folder: Path, is_ours: IsOurs) -> list[str]:
    """Return all paths in `folder`; a subfolder that llmkit did not write is listed without its contents."""
    found: list[str] = []
    for parent, folders, files in os.walk(folder):
        root = Path(parent).relative_to(folder)
        for name in list(folders):
            path = (root / name).as_posix()
            is_link = (folder / path).is_symlink()
            found.append(path if is_link else f"{path}/")
            if is_link or not is_ours(f"{path}/"):
                folders.remove(name)
        found += [(root / name).as_posix() for name in files]
    return found


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """Make a hard link to a file, or a copy on a file system without hard links."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


def expand_home(path: str | Path) -> Path:
    """Return the path with a leading `~` expanded; unchanged if there is no such user."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path.expanduser raises RuntimeError


def refuse_special(path: Path, where: str = "--out") -> None:
    """Check that `path` is a regular file or does not exist.

    Raises:
        UsageError: `path` is a folder, device, pipe or socket.
    """
    if path.exists() and not path.is_file():
        if path.is_dir():
            raise UsageError(f"{str(path)!r} is a folder", where=where, hint="give the name of a file")
        hint = "give the name of a file, or leave it out to write to stdout"
        raise UsageError(f"{str(path)!r} is not a regular file but a device, pipe or socket", where=where, hint=hint)


def refuse_inputs_inside(out: Path, inputs: Iterable[str]) -> None:
    """Check that no input is in the folder to replace, with links resolved; names that are not files are skipped.

    Raises:
        UsageError: an input is in it; the error names the first one.
    """
    folder = out.resolve()

    @cache
    def is_inside(path: str) -> bool:
        return Path(os.path.realpath(path)).is_relative_to(folder)

    for name in inputs:
        path = expand_home(name.removeprefix("pickle:"))
        try:
            is_file = stat.S_ISREG(path.lstat().st_mode)
        except (OSError, ValueError):
            continue
        # Resolve the folder once for all of its files.
        if (is_file or path.exists()) and is_inside(str(path.parent if is_file else path)):
            hint = "move the input to another folder, or give another --out"
            raise UsageError(f"the input {name!r} is in the output folder {str(out)!r}", where="--out", hint=hint)


# ---- flush and probe ----


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


def check_writable(folder: Path, *, dry_run: bool = False) -> None:
    """Create the parents of `folder` and write a probe file before long work; a dry run only checks permissions.

    Raises:
        EnvironmentFault: the folder is not writable; the error gives the system's reason.
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
        hint = "choose another --out, or change the folder's permissions"
        raise EnvironmentFault(
            f"cannot write to {str(folder)!r}: {error.strerror}", where=str(parent), hint=hint
        ) from None


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


# ---- disk space ----


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


def temporary_folder() -> Path:
    """Return a new folder, which is deleted when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="llmkit-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


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


def show_size(n_bytes: float) -> str:
    """Format bytes in powers of 1000: 64 MB, 1.5 GB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} TB" if n_bytes < 1000 else f"{n_bytes:,.0f} TB"
