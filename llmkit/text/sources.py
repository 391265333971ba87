"""Find what the user named, open it, and keep the record of each source for the manifest.

A folder gives its readable files, sorted, without hidden ones; a file that the user names is read whatever it
is called, as text where its ending says nothing. A name that does not exist is bad input (exit code 3), not
bad usage: recipes and scripts name inputs too.

Knows nothing of formats; see readers.py.
"""

import errno
import glob
import gzip
import hashlib
import io
import logging
import lzma
import os
import shutil
import stat
import struct
import sys
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

from llmkit.core.errors import DataError, EnvironmentFault, did_you_mean
from llmkit.text.documents import StepCounts

log = logging.getLogger(__name__)

FORMATS = (".txt", ".md", ".html", ".htm", ".xhtml", ".epub", ".jsonl", ".json", ".csv", ".tsv", ".parquet")
COMPRESSIONS = (".gz", ".zst")
SPECIAL = ("hf:", "builtin:")


@dataclass(slots=True)
class Source:
    """One source as read: a file, a member of an archive, a hub data set or a built-in corpus."""

    path: str
    """As the user would write it; inside an archive `books.zip!a.txt`."""
    n_bytes: int = 0
    """Raw bytes: as on the disk, so compressed where the file is; of a member of a .zip, unpacked."""
    sha256: str = ""
    """Of the raw bytes, in hex; of the UTF-8 texts for `hf:` and `builtin:` sources."""
    encoding: str = ""
    """Python codec name; empty where the format has its own (parquet, epub, hf)."""
    documents: int = 0
    characters: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    """Files, rows or members left out, by reason."""

    def skip(self, reason: str, where: str) -> None:
        """Count something that is left out, and say so."""
        self.skipped[reason] += 1
        if self.skipped[reason] <= 5:  # the count is in the manifest; the log stays readable
            log.warning("skipped: %s (%s)", where, reason)


def find_files(inputs: Sequence[str]) -> list[str]:
    """Files, in a fixed order, for a list of files, folders (recursive), globs, `-`, `hf:NAME`, `builtin:NAME`.

    The order is that of the inputs, sorted within a folder or glob; a file named twice is taken once.
    """
    found: dict[str, None] = {}
    for name in inputs:
        if name == "-" or name.startswith(SPECIAL):
            found[name] = None
            continue
        path = Path(name).expanduser()
        if path.is_dir():
            found.update(dict.fromkeys(_find_in_folder(path)))
        elif path.exists():
            found[str(path)] = None
        elif glob.has_magic(name):
            found.update(dict.fromkeys(_find_by_glob(str(path))))
        else:
            raise _not_found(path)
    return list(found)


def split_endings(name: str) -> tuple[str, str]:
    """("x.jsonl.gz" -> (".jsonl", ".gz")): what the text is, and how it is packed; each may be empty."""
    rest = name.lower()
    packing = ""
    if rest.endswith(COMPRESSIONS):
        packing = _suffix(rest)
        rest = rest.removesuffix(packing)
    elif rest.endswith(".zip"):
        return "", ".zip"
    ending = _suffix(rest)
    return (ending if ending in FORMATS else ""), packing


def _suffix(name: str) -> str:
    """As `Path(name).suffix`, whose parsing of a path takes longer than reading a small file."""
    base = os.path.basename(name)  # noqa: PTH119
    dot = base.rfind(".")
    return base[dot:] if 0 < dot < len(base) - 1 else ""


def file_size(name: str) -> int | None:
    """In bytes; None where there is no file of this name."""
    try:
        found = os.stat(name)  # noqa: PTH116 - a Path takes longer than the call
    except (OSError, ValueError):
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def is_readable(name: str) -> bool:
    """Whether the name's ending is one that llmkit reads."""
    ending, packing = split_endings(name)
    return bool(ending) or packing == ".zip"


def require_documents(sources: Iterable[Source], counts: Mapping[str, StepCounts], n_documents: int) -> None:
    """Raise DataError with every count where nothing usable is left."""
    if n_documents:
        return
    records = list(sources)
    n_read = sum(source.documents for source in records)
    reasons = sum((source.skipped for source in records), Counter())
    lines = [f"{reason}: {n}" for reason, n in sorted(reasons.items())]
    for step, count in counts.items():
        lines += [f"{step}: {reason}: {n}" for reason, n in sorted(count.dropped.items())]
    names = ", ".join(source.path for source in records[:5]) + (", ..." if len(records) > 5 else "")
    raise DataError(
        f"no usable document: {n_read} read from {len(records)} sources, 0 left ({'; '.join(lines) or 'all empty'})",
        where=names or "the inputs",
        hint="look at the counts above: give other files, or loosen the filter that dropped them",
    )


def _find_in_folder(folder: Path) -> list[str]:
    def refuse(error: OSError) -> None:
        raise EnvironmentFault(
            f"cannot list {error.filename}: {error.strerror}",
            where=str(error.filename),
            hint="check its rights, or name the files instead of the folder",
        ) from None

    names: list[str] = []
    for parent, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        prefix = "" if parent == "." else parent
        names += [os.path.join(prefix, name) for name in files if not name.startswith(".")]  # noqa: PTH118
    return _keep_readable(sorted(names), str(folder))


def _find_by_glob(pattern: str) -> list[str]:
    names: list[str] = []
    for name in sorted(glob.glob(pattern, recursive=True)):  # noqa: PTH207 - Path.glob takes no absolute pattern
        if not Path(name).is_dir():
            names.append(name)
        elif "**" not in pattern:  # "**" finds the files inside by itself
            names += _find_in_folder(Path(name))
    if not names:
        raise DataError(
            f"nothing matches {pattern}", where=pattern, hint="quote the pattern, and try it with ls; ** goes deeper"
        )
    return _keep_readable(names, pattern)


def _keep_readable(names: list[str], where: str) -> list[str]:
    kept = [name for name in names if is_readable(name)]
    are_kept = set(kept)
    others = Counter(_suffix(name) or "no ending" for name in names if name not in are_kept)
    listed = ", ".join(f"{ending} {n}" for ending, n in others.most_common(5))
    if not kept:
        raise DataError(
            f"no file that can be read: {listed or 'the folder is empty'}",
            where=where,
            hint=f"llmkit reads {' '.join(FORMATS)}, also in .gz .zst .zip; a file named by itself is read as text",
        )
    if others:
        log.warning("left out in %s, by ending: %s", where, listed)
    return kept


def _not_found(path: Path) -> DataError:
    parent = path.parent
    while not parent.is_dir() and parent != parent.parent:
        path, parent = parent, parent.parent
    names = sorted(entry.name for entry in parent.iterdir() if not entry.name.startswith("."))[:200]
    hint = did_you_mean(path.name, names) if names else f"{parent} is empty"
    if len(hint) > 300:
        hint = hint[:300] + " ..."
    return DataError(f"no such file or folder: {path}", where=str(parent), hint=hint)


_COPY_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """A byte stream that can be opened, and what its name says about it."""

    path: str
    ending: str
    """`.txt` and so on, without the packing; empty if the name says nothing."""
    packing: str
    open_raw: Callable[[], BinaryIO]
    """Opens the bytes as they are stored; works again and again."""

    @contextmanager
    def open(self, source: Source) -> Iterator[BinaryIO]:
        """The unpacked bytes; once all are read and the block ends, `source` has size and hash of the raw ones."""
        with _faults_named(self.path), self.open_raw() as raw:
            counted = _CountedFile(raw)
            with _unpack(io.BufferedReader(counted, _COPY_BYTES), self.packing) as file:
                yield file
            source.n_bytes, source.sha256 = counted.n_bytes, counted.sha256.hexdigest()

    @contextmanager
    def open_seekable(self, source: Source) -> Iterator[BinaryIO]:
        """The unpacked bytes in a temporary file, for formats that are read from the end."""
        with tempfile.TemporaryFile() as copy:
            with self.open(source) as file:
                shutil.copyfileobj(file, copy, _COPY_BYTES)
            copy.seek(0)
            with _faults_named(self.path):
                yield cast(BinaryIO, copy)


def find_entries(path: str, source_of_zip: Source) -> Iterator[Entry]:
    """The entry of a file, or those of the members of a .zip, sorted by name."""
    ending, packing = split_endings(path)
    if path == "-":
        yield Entry("-", "", "", lambda: cast(BinaryIO, io.FileIO(sys.stdin.fileno(), closefd=False)))
    elif packing != ".zip":
        yield Entry(path, ending, packing, lambda: Path(path).open("rb"))  # noqa: SIM115 - opened in Entry.open
    else:
        yield from _find_members(path, source_of_zip)


def _find_members(path: str, source: Source) -> Iterator[Entry]:
    with _faults_named(path), Path(path).open("rb") as file, open_archive(file) as archive:
        for info in sorted(archive.infolist(), key=lambda info: info.filename):
            name = info.filename
            if not name or name.endswith("/") or any(piece.startswith((".", "__MACOSX")) for piece in name.split("/")):
                continue
            if not is_readable(name) or name.lower().endswith(".zip"):
                log.warning("left out: %s!%s (its ending is none that can be read)", path, name)
                source.skipped["ending"] += 1
                continue
            if info.flag_bits & 1:
                raise DataError(
                    f"{name} is encrypted", where=f"{path}!{name}", hint="unpack it with its password first"
                )
            ending, packing = split_endings(name)
            yield Entry(f"{path}!{name}", ending, packing, partial(open_member, archive, info))


def open_archive(file: BinaryIO) -> zipfile.ZipFile:
    """A .zip; BadZipFile also for names, places and sizes that cannot be, which zipfile meets with any error."""
    try:
        return zipfile.ZipFile(file)
    except (ValueError, LookupError, struct.error) as error:
        raise zipfile.BadZipFile(str(error)) from None


def open_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> BinaryIO:
    """A member of it, unpacked; otherwise as `open_archive`."""
    try:
        return cast(BinaryIO, archive.open(info))
    except (ValueError, LookupError, RuntimeError, struct.error) as error:  # RuntimeError: it wants a password
        raise zipfile.BadZipFile(str(error)) from None


class _CountedFile(io.RawIOBase):
    """Counts and hashes all bytes that are read through it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.n_bytes = 0
        self.sha256 = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # io asks for any buffer
        view = memoryview(buffer)
        n_read = self._file.readinto(view)  # type: ignore[attr-defined]  # all files that we open have it
        self.n_bytes += n_read
        self.sha256.update(view[:n_read])
        return int(n_read)


@contextmanager
def _unpack(file: io.BufferedReader, packing: str) -> Iterator[BinaryIO]:
    if packing == ".gz":
        with gzip.GzipFile(fileobj=file) as unpacked:
            yield cast(BinaryIO, unpacked)
    elif packing == ".zst":
        import pyarrow

        # pyarrow's stream, unlike zstandard's, says when the file ends before the frame does.
        with pyarrow.CompressedInputStream(pyarrow.PythonFile(file, mode="r"), "zstd") as stream:
            yield cast(BinaryIO, stream)
    else:
        yield cast(BinaryIO, file)


@contextmanager
def _faults_named(path: str) -> Iterator[None]:
    """Damage becomes a DataError, a refusing machine an EnvironmentFault; both name the file."""
    try:
        yield
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, zipfile.BadZipFile, NotImplementedError) as error:
        raise _damaged(path, error) from None
    except PermissionError:
        raise EnvironmentFault(f"may not read {path}", where=path, hint="check the file's rights") from None
    except OSError as error:
        # None is pyarrow's way to say that compressed data is bad; EINVAL a place before the file's beginning.
        if error.errno in (None, errno.EINVAL):
            raise _damaged(path, error) from None
        raise EnvironmentFault(f"cannot read {path}: {error.strerror}", where=path, hint="check the disk") from None


def _damaged(path: str, error: Exception) -> DataError:
    return DataError(
        f"damaged or cut off: {error}", where=path, hint="fetch the file again, or leave such files out with --skip-bad"
    )
