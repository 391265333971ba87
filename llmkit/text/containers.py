"""Open plain, compressed and archived files as byte streams, counting and hashing the raw bytes on the way.

A .zip gives its members as separate entries, named `books.zip!a.txt`; nothing is ever unpacked to a path that
the archive chooses. A truncated or damaged archive is an error, never a shorter text.

Knows nothing of encodings and formats.
"""

import errno
import gzip
import hashlib
import io
import lzma
import shutil
import struct
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

from llmkit.core.errors import DataError, EnvironmentFault
from llmkit.text.sources import Source, is_readable, log, split_endings

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
