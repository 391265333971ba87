"""Check the paths that a command writes to, and delete only files that llmkit wrote.

The caller says which paths llmkit writes (`IsOurs`). Files of users are never deleted or replaced.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

from llmkit.core.console import list_some
from llmkit.core.errors import EnvironmentFault, UsageError

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
    """Delete the files that llmkit wrote in `folder`, those in `last` at the end; and the folder if it is then empty.

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
    """Check that no input is in the folder to replace, with links resolved.

    Names that do not exist as a path, such as `hf:NAME`, are skipped.

    Raises:
        UsageError: an input is in the folder; the error names the first such input.
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
