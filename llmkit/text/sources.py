"""Find the files that the user named, open plain, compressed and archived ones, and record each source.

A folder stands for its readable files, sorted, without hidden ones. A file that the user names is always read, as plain
text if its suffix is unknown. A name that does not exist is bad input (exit code 3), not bad usage, because recipes and
scripts name inputs too.

The members of a .zip are separate entries, named `books.zip!a.txt`; nothing is unpacked to a path that the archive
chooses. A truncated or damaged archive is an error, never a shorter text. Raw bytes are counted and hashed while they
are read.

Knows nothing of encodings and formats; see readers.py.
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
    """Raw bytes: compressed as on disk, but unpacked for a member of a .zip."""
    sha256: str = ""
    """Of the raw bytes, in hex; of the UTF-8 texts for `hf:` and `builtin:` sources."""
    encoding: str = ""
    """Python codec name; empty for formats with an encoding of their own (parquet, epub, hf)."""
    example: str = ""
    """A line of text in `encoding`, if that is neither ASCII nor UTF-8."""
    documents: int = 0
    characters: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    """Skipped files, rows or members, by reason."""

    def skip(self, reason: str, where: str) -> None:
        """Count a skipped item and log it."""
        self.skipped[reason] += 1
        if self.skipped[reason] <= 5:  # all are counted in the manifest
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
    """(format, compression) by the name's suffixes, each may be empty: "x.jsonl.gz" -> (".jsonl", ".gz")."""
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
    """As `Path(name).suffix`, which takes longer than reading a small file."""
    base = os.path.basename(name)  # noqa: PTH119
    dot = base.rfind(".")
    return base[dot:] if 0 < dot < len(base) - 1 else ""


def file_size(name: str) -> int | None:
    """In bytes; None if there is no such file."""
    try:
        found = os.stat(name)  # noqa: PTH116 - Path is slower than the call
    except (OSError, ValueError):
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def is_readable(name: str) -> bool:
    """Whether llmkit reads files with this suffix."""
    ending, packing = split_endings(name)
    return bool(ending) or packing == ".zip"


def require_documents(sources: Iterable[Source], counts: Mapping[str, StepCounts], n_documents: int) -> None:
    """Raise DataError with all counts if no document is left."""
    if n_documents:
        return
    records = list(sources)
    n_read = sum(source.documents for source in records)
    skipped = sum((source.skipped for source in records), Counter())
    lines = [f"{reason}: {n}" for reason, n in sorted(skipped.items())]
    for step, count in counts.items():
        lines += [f"{step}: {reason}: {n}" for reason, n in sorted(count.dropped.items())]
    names = ", ".join(source.path for source in records[:5]) + (", ..." if len(records) > 5 else "")
    raise DataError(
        f"no usable document: {n_read} read from {len(records)} sources, 0 left ({'; '.join(lines) or 'all empty'})",
        where=names or "the inputs",
        hint="give other files, or loosen the filter that dropped the documents",
    )


def _find_in_folder(folder: Path) -> list[str]:
    def refuse(error: OSError) -> None:
        raise EnvironmentFault(
            f"cannot list {error.filename}: {error.strerror}",
            where=str(error.filename),
            hint="check its permissions, or name the files instead of the folder",
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
        elif "**" not in pattern:  # "**" matches the files inside too
            names += _find_in_folder(Path(name))
    if not names:
        raise DataError(
            f"nothing matches {pattern}", where=pattern, hint="quote the pattern; ** also matches subfolders"
        )
    return _keep_readable(names, pattern)


def _keep_readable(names: list[str], where: str) -> list[str]:
    kept = [name for name in names if is_readable(name)]
    are_kept = set(kept)
    others = Counter(_suffix(name) or "no suffix" for name in names if name not in are_kept)
    listed = ", ".join(f"{ending} {n}" for ending, n in others.most_common(5))
    if not kept:
        raise DataError(
            f"no readable file: {listed or 'the folder is empty'}",
            where=where,
            hint=f"llmkit reads {' '.join(FORMATS)}, also in .gz .zst .zip; any file named by itself is read as text",
        )
    if others:
        log.warning("skipped in %s, by suffix: %s", where, listed)
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
    """A byte stream that can be opened, with its format by name."""

    path: str
    ending: str
    """`.txt` and so on, without the compression; empty if unknown."""
    packing: str
    open_raw: Callable[[], BinaryIO]
    """Opens the stored bytes; may be called several times."""

    @contextmanager
    def open(self, source: Source) -> Iterator[BinaryIO]:
        """The unpacked bytes; at the end of the block `source` gets size and hash of the raw bytes that were read."""
        with _translate_errors(self.path), self.open_raw() as raw:
            counted = _CountedFile(raw)
            with _unpack(io.BufferedReader(counted, _COPY_BYTES), self.packing) as file:
                yield file
            source.n_bytes, source.sha256 = counted.n_bytes, counted.sha256.hexdigest()

    @contextmanager
    def open_seekable(self, source: Source) -> Iterator[BinaryIO]:
        """The unpacked bytes in a temporary file, for formats that need seeking."""
        with tempfile.TemporaryFile() as copy:
            with self.open(source) as file:
                shutil.copyfileobj(file, copy, _COPY_BYTES)
            copy.seek(0)
            with _translate_errors(self.path):
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
    with _translate_errors(path), Path(path).open("rb") as file, open_archive(file) as archive:
        for info in sorted(archive.infolist(), key=lambda info: info.filename):
            name = info.filename
            if not name or name.endswith("/") or any(piece.startswith((".", "__MACOSX")) for piece in name.split("/")):
                continue
            if not is_readable(name) or name.lower().endswith(".zip"):
                log.warning("skipped: %s!%s (unknown suffix)", path, name)
                source.skipped["ending"] += 1
                continue
            if info.flag_bits & 1:
                raise DataError(
                    f"{name} is encrypted", where=f"{path}!{name}", hint="unpack it with its password first"
                )
            ending, packing = split_endings(name)
            yield Entry(f"{path}!{name}", ending, packing, partial(open_member, archive, info))


def open_archive(file: BinaryIO) -> zipfile.ZipFile:
    """Open a .zip; the various errors that zipfile raises for invalid names, offsets and sizes become BadZipFile."""
    try:
        return zipfile.ZipFile(file)
    except (ValueError, LookupError, struct.error) as error:
        raise zipfile.BadZipFile(str(error)) from None


def open_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> BinaryIO:
    """Open a member, unpacked; errors as in `open_archive`."""
    try:
        return cast(BinaryIO, archive.open(info))
    except (ValueError, LookupError, RuntimeError, struct.error) as error:  # RuntimeError: encrypted
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

        # pyarrow's stream, unlike zstandard's, fails if the file ends inside a frame.
        with pyarrow.CompressedInputStream(pyarrow.PythonFile(file, mode="r"), "zstd") as stream:
            yield cast(BinaryIO, stream)
    else:
        yield cast(BinaryIO, file)


@contextmanager
def _translate_errors(path: str) -> Iterator[None]:
    """Turn damaged data into DataError and system errors into EnvironmentFault; both name the file."""
    try:
        yield
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, zipfile.BadZipFile, NotImplementedError) as error:
        raise _damaged(path, error) from None
    except PermissionError:
        raise EnvironmentFault(f"may not read {path}", where=path, hint="check the file's permissions") from None
    except OSError as error:
        # errno is None for pyarrow's errors in compressed data, EINVAL for a seek to a negative offset.
        if error.errno in (None, errno.EINVAL):
            raise _damaged(path, error) from None
        raise EnvironmentFault(f"cannot read {path}: {error.strerror}", where=path, hint="check the disk") from None


def _damaged(path: str, error: Exception) -> DataError:
    return DataError(
        f"damaged or cut off: {error}", where=path, hint="fetch the file again, or skip such files with --skip-bad"
    )
