"""Unpack compressed streams with a limit on the size, and count or prefix the bytes of a stream.

A truncated stream is an error, never a shorter text. A file that unpacks to more than MIN_BOUNDED_BYTES and to more
than MAX_RATIO times its size is refused as a decompression bomb.

Raises the errors of gzip, bz2, lzma and pyarrow; sources.py turns them into errors that name the file.
"""

import bz2
import gzip
import hashlib
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

MAX_RATIO = 200
"""Maximum compression ratio. Natural text has 3 to 10; a repeated line of 80 characters has about 100 with gzip."""
MIN_BOUNDED_BYTES = 1 << 29
_MAX_XZ_MEMORY = 1 << 28
"""Decoder memory in bytes; `xz -9` needs 65 MB, a hostile header may request 4 GB."""
_READ_BYTES = 1 << 16


class Bomb(OSError):  # noqa: N818 - a decompression bomb
    """Data that unpacks to implausibly many bytes for text."""


@contextmanager
def unpack(file: io.BufferedReader, packing: str, n_packed: Callable[[], int]) -> Iterator[BinaryIO]:
    """Open the unpacked bytes of a compressed file; `n_packed` returns the number of bytes read from `file` so far."""
    if packing == ".gz":
        with gzip.GzipFile(fileobj=file) as unpacked:
            yield _bounded(cast(BinaryIO, unpacked), n_packed)
    elif packing == ".zst":
        import pyarrow

        # pyarrow's stream, unlike zstandard's, fails if the file ends inside a frame.
        with pyarrow.CompressedInputStream(pyarrow.PythonFile(file, mode="r"), "zstd") as stream:
            yield _bounded(cast(BinaryIO, stream), n_packed)
    elif packing == ".bz2":
        yield _bounded(io.BufferedReader(_Unpacked(file, bz2.BZ2Decompressor), _READ_BYTES), n_packed)
    elif packing == ".xz":
        yield _bounded(io.BufferedReader(_Unpacked(file, _open_xz), _READ_BYTES), n_packed)
    else:
        yield cast(BinaryIO, file)


def _open_xz() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_AUTO, memlimit=_MAX_XZ_MEMORY)


def _bounded(file: Any, n_packed: Callable[[], int]) -> BinaryIO:
    return cast(BinaryIO, io.BufferedReader(_Bounded(file, n_packed), 1 << 20))


class _Bounded(io.RawIOBase):
    """Refuses to read far more bytes than the packed size."""

    def __init__(self, file: BinaryIO, n_packed: Callable[[], int]) -> None:
        self._file = file
        self._n_packed = n_packed
        self._n_bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # io asks for any buffer
        data = self._file.read(len(buffer))
        self._n_bytes += len(data)
        if self._n_bytes > MIN_BOUNDED_BYTES and self._n_bytes > MAX_RATIO * self._n_packed():
            raise Bomb(f"unpacks to more than {MAX_RATIO} times its size, which is implausible for text")
        memoryview(buffer)[: len(data)] = data
        return len(data)


class _Unpacked(io.RawIOBase):
    """Concatenated .bz2 or .xz streams; unlike bz2 and lzma, raises an error for trailing data."""

    def __init__(self, file: BinaryIO, start: Callable[[], Any]) -> None:
        self._file = file
        self._start = start
        self._stream = start()
        self._waiting = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # io asks for any buffer
        data = b""
        while not data:
            if self._stream.eof and not self._start_next():
                return 0
            if self._stream.needs_input and not self._waiting:
                self._waiting = self._file.read(_READ_BYTES)
                if not self._waiting:
                    raise EOFError("the file ends before the end-of-stream marker")
            data = self._stream.decompress(self._waiting, len(buffer))
            self._waiting = b""
        memoryview(buffer)[: len(data)] = data
        return len(data)

    def _start_next(self) -> bool:
        """Begin the next stream; returns False at the end of the file."""
        rest = self._stream.unused_data
        while not (rest := rest.lstrip(b"\0")):  # padding
            if not (rest := self._file.read(_READ_BYTES)):
                return False
        self._stream, self._waiting = self._start(), rest
        return True


def unpack_head(head: bytes, packing: str, n_bytes: int) -> bytes:
    """Return up to `n_bytes` unpacked from the beginning of a compressed file; empty if it is damaged."""
    try:
        if packing == ".gz":
            return zlib.decompressobj(31).decompress(head, n_bytes)
        if packing == ".zst":
            import pyarrow

            return bytes(pyarrow.CompressedInputStream(pyarrow.BufferReader(head), "zstd").read(n_bytes))
        if packing == ".bz2":
            return bz2.BZ2Decompressor().decompress(head, n_bytes)
        return _open_xz().decompress(head, n_bytes)
    except (OSError, EOFError, zlib.error, lzma.LZMAError):
        return b""


def read_head(file: BinaryIO, n_bytes: int) -> bytes:
    """Return up to `n_bytes`; one read of a pipe may return fewer."""
    head = b""
    while len(head) < n_bytes and (more := file.read(n_bytes - len(head))):
        head += more
    return head


class Rejoined(io.RawIOBase):
    """Puts bytes that were already read from a file back in front of it."""

    def __init__(self, head: bytes, file: BinaryIO) -> None:
        self._head = head
        self._file = file

    def close(self) -> None:
        """Close the file too."""
        self._file.close()
        super().close()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # io asks for any buffer
        if not self._head:
            return self._file.readinto(buffer) or 0  # type: ignore[attr-defined]  # all files that we open have it
        data, self._head = self._head[: len(buffer)], self._head[len(buffer) :]
        memoryview(buffer)[: len(data)] = data
        return len(data)


class CountedFile(io.RawIOBase):
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
