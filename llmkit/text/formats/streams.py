"""Unpack compressed streams with a limit on the size, and count or prefix the bytes of a stream.

A truncated stream is an error, never a shorter text. A file that unpacks to more than MIN_BOUNDED_BYTES and to more
than MAX_RATIO times its size is refused as a decompression bomb.

Raises the errors of gzip, bz2, lzma and pyarrow; entries.py turns them into errors that name the file.
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
    """Data that unpacks to more bytes than is plausible for text."""


@contextmanager
def unpack(file: io.BufferedReader, packing: str, n_packed: Callable[[], int]) -> Iterator[BinaryIO]:
    """Open the unpacked bytes of a compressed file; `n_packed` returns the number of bytes read from `file` so far."""
    if not packing:
        yield cast(BinaryIO, file)
        return
    with _open_unpacked(file, packing) as unpacked:
        yield cast(BinaryIO, io.BufferedReader(_Bounded(unpacked, n_packed), 1 << 20))


def _open_unpacked(file: io.BufferedReader, packing: str) -> Any:
    if packing == ".gz":
        return gzip.GzipFile(fileobj=file)
    if packing == ".zst":
        import pyarrow

        # pyarrow's stream, unlike zstandard's, fails if the file ends inside a frame.
        return pyarrow.CompressedInputStream(pyarrow.PythonFile(file, mode="r"), "zstd")
    start = bz2.BZ2Decompressor if packing == ".bz2" else _open_xz
    return io.BufferedReader(_Unpacked(file, start), _READ_BYTES)


def _open_xz() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_AUTO, memlimit=_MAX_XZ_MEMORY)


def skip_bytes(file: BinaryIO, n_bytes: int, problem: str) -> None:
    """Read and discard bytes. Raises EOFError with the problem if the file is shorter."""
    while n_bytes:
        data = file.read(min(n_bytes, 1 << 20))
        if not data:
            raise EOFError(problem)
        n_bytes -= len(data)


class ByteStream(io.RawIOBase):
    """A read-only file object; a subclass defines `take`."""

    def take(self, n_bytes: int) -> bytes:
        """Return at most `n_bytes` bytes; empty at the end."""
        raise NotImplementedError

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # io asks for any buffer
        """Fill the buffer, as `io.RawIOBase` requires."""
        data = self.take(len(buffer))
        memoryview(buffer)[: len(data)] = data
        return len(data)


class _Bounded(ByteStream):
    """Raises Bomb if the file unpacks to far more bytes than its packed size."""

    def __init__(self, file: BinaryIO, n_packed: Callable[[], int]) -> None:
        self._file = file
        self._n_packed = n_packed
        self._n_bytes = 0

    def take(self, n_bytes: int) -> bytes:
        data = self._file.read(n_bytes)
        self._n_bytes += len(data)
        if self._n_bytes > MIN_BOUNDED_BYTES and self._n_bytes > MAX_RATIO * self._n_packed():
            raise Bomb(f"unpacks to more than {MAX_RATIO} times its size, which is not plausible for text")
        return data


class _Unpacked(ByteStream):
    """Concatenated .bz2 or .xz streams; unlike bz2 and lzma, raises an error for trailing data."""

    def __init__(self, file: BinaryIO, start: Callable[[], Any]) -> None:
        self._file = file
        self._start = start
        self._stream = start()
        self._waiting = b""

    def take(self, n_bytes: int) -> bytes:
        data = b""
        while not data:
            if self._stream.eof and not self._start_next():
                return b""
            if self._stream.needs_input and not self._waiting:
                self._waiting = self._file.read(_READ_BYTES)
                if not self._waiting:
                    raise EOFError("the file ends before the end-of-stream marker")
            data = self._stream.decompress(self._waiting, n_bytes)
            self._waiting = b""
        return data

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


class Rejoined(ByteStream):
    """Puts bytes that were already read from a file back in front of it."""

    def __init__(self, head: bytes, file: BinaryIO) -> None:
        self._head = head
        self._file = file

    def close(self) -> None:
        """Close the file too."""
        self._file.close()
        super().close()

    def take(self, n_bytes: int) -> bytes:
        """Return bytes of the head, then of the file."""
        if not self._head:
            return self._file.read(n_bytes)
        data, self._head = self._head[:n_bytes], self._head[n_bytes:]
        return data


class CountedFile(ByteStream):
    """Counts and hashes all bytes that are read through it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.n_bytes = 0
        self.sha256 = hashlib.sha256()

    def take(self, n_bytes: int) -> bytes:
        """Return bytes of the file."""
        data = self._file.read(n_bytes)
        self.n_bytes += len(data)
        self.sha256.update(data)
        return data
