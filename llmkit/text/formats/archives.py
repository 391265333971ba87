"""Read the members of .zip and .tar archives, with bounds on their number and size.

Nothing is unpacked to a path that an archive chooses. A truncated archive is an error, never a shorter text. A .tar
without its closing blocks counts as truncated.

Raises the errors of zipfile and tarfile, and Bomb; entries.py turns them into errors that name the file.
"""

import struct
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, cast

from llmkit.text.decoding.encoding_detection import detect_legacy
from llmkit.text.formats.streams import MAX_RATIO, MIN_BOUNDED_BYTES, Bomb, ByteStream, skip_bytes

MAX_MEMBERS = 1_000_000
_MAX_NAME_BYTES = 1 << 20
_BLOCK = 512
_IS_UTF8 = 0x800
"""Flag of a member of a .zip whose name is UTF-8."""


# ---- .zip ----


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


def read_mimetype(archive: zipfile.ZipFile) -> bytes:
    """Return the member `mimetype` of an EPUB or OpenDocument file; empty if it is missing or cannot be read."""
    try:
        with open_member(archive, archive.getinfo("mimetype")) as member:
            return member.read(200)
    except (KeyError, OSError, EOFError, zipfile.BadZipFile, NotImplementedError):
        return b""


def decode_names(archive: zipfile.ZipFile) -> dict[str, str]:
    """Map names in a legacy encoding, as Windows writes them, to the most likely names; zipfile decodes them as cp437.

    For messages and the record of sources only: the guess may be wrong.
    """
    names = (info.filename for info in archive.infolist() if not info.flag_bits & _IS_UTF8)
    raw = {name: name.encode("cp437", "replace") for name in names if not name.isascii()}
    if not raw:
        return {}
    encoding = detect_legacy(b"\n".join(raw.values()), complete=True).encodings[0]
    return {name: data.decode(encoding, "replace") for name, data in raw.items()}


def check_zip_sizes(archive: zipfile.ZipFile, n_bytes: int) -> None:
    """Raise Bomb if an archive of `n_bytes` has too many members, or unpacks to too many bytes for text."""
    members = archive.infolist()
    if len(members) > MAX_MEMBERS:
        raise Bomb(f"has {len(members):,} members; {MAX_MEMBERS:,} is the maximum")
    n_unpacked = sum(info.file_size for info in members)
    if n_unpacked > MIN_BOUNDED_BYTES and n_unpacked > MAX_RATIO * n_bytes:
        raise Bomb(f"unpacks to more than {MAX_RATIO} times its size, which is not plausible for text")


# ---- .tar ----


@dataclass(frozen=True, slots=True)
class TarMember:
    """One member of a .tar; read its `file` before requesting the next member."""

    name: str
    member_type: str
    """`file`, or the kind of a member that is not a regular file: a folder, a link, a device, a sparse file."""
    file: BinaryIO


_KINDS = {b"1": "link", b"2": "link", b"3": "device", b"4": "device", b"5": "folder", b"6": "device", b"S": "sparse"}


def read_tar(file: BinaryIO) -> Iterator[TarMember]:
    """Yield the members in archive order, in constant memory.

    Used instead of `tarfile.open`, which ends silently at a damaged header, keeps all members in memory and reads names
    of any length.

    Raises:
        tarfile.ReadError: a damaged header.
        EOFError: the archive is cut off.
    """
    name, overrides, closed, n_members = b"", dict[bytes, bytes](), False, 0
    while True:
        block = _read_block(file, may_end=closed)
        if not block:
            return
        if not block.strip(b"\0"):
            closed = True
            continue
        header = _parse_header(block)
        kind, size = header.type, header.size
        if kind in (b"L", b"K", b"x", b"X", b"g"):
            if size > _MAX_NAME_BYTES:
                raise tarfile.ReadError(f"a name of {size:,} bytes")
            data = _Part(file, size).readall()
            skip_bytes(file, -size % _BLOCK, "the .tar archive ends inside a member")
            if kind == b"L":
                name = data.rstrip(b"\0")
            elif kind in b"xX":
                overrides = dict(_parse_pax(data))
            continue
        n_members += 1
        if n_members > MAX_MEMBERS:
            raise Bomb(f"has more than {MAX_MEMBERS:,} members, the maximum")
        named = (overrides.get(b"path") or name).decode("utf-8", "surrogateescape") or header.name
        what = _KINDS.get(kind, "file" if kind in (b"\0", b"0", b"7") else "unknown")
        if what == "file" and named.endswith("/"):
            what = "folder"
        if any(key.startswith(b"GNU.sparse") for key in overrides):
            what = "sparse"
        if b"size" in overrides:
            digits = overrides[b"size"]
            size = _check_size(int(digits) if digits.isdigit() and len(digits) < 40 else -1)
        if what in ("link", "folder", "device"):
            size = 0
        # The map of holes of a sparse file may continue in further blocks.
        while kind == b"S" and block[482 if block[156:157] == b"S" else 504]:
            block = _read_block(file)
        part = _Part(file, size)
        yield TarMember(named, what, cast(BinaryIO, part))
        skip_bytes(file, part.left + -size % _BLOCK, "the .tar archive ends inside a member")
        name, overrides, closed = b"", {}, False


def _read_block(file: BinaryIO, *, may_end: bool = False) -> bytes:
    block = file.read(_BLOCK)
    if len(block) < _BLOCK and not (may_end and not block.strip(b"\0")):
        raise EOFError("the .tar archive ends before its closing blocks")
    return block if len(block) == _BLOCK else b""


def _parse_header(block: bytes) -> tarfile.TarInfo:
    try:
        header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError):
        raise tarfile.ReadError("a damaged header in the .tar archive") from None
    _check_size(header.size)
    return header


def _check_size(size: int) -> int:
    if not 0 <= size < 1 << 62:
        raise tarfile.ReadError("a damaged size in the .tar archive")
    return size


def _parse_pax(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield (key, value) of the records of an extended header; a record is `length key=value\\n`."""
    while data.strip(b"\0"):
        digits, space, _ = data[:20].partition(b" ")
        length = int(digits) if digits.isdigit() else 0
        if not space or not len(digits) + 1 < length <= len(data):
            raise tarfile.ReadError("a damaged extended header in the .tar archive")
        key, equals, value = data[len(digits) + 1 : length].rstrip(b"\n").partition(b"=")
        if equals:
            yield key, value
        data = data[length:]


class _Part(ByteStream):
    """A file object for the next `left` bytes of a file."""

    def __init__(self, file: BinaryIO, left: int) -> None:
        self._file = file
        self.left = left

    def take(self, n_bytes: int) -> bytes:
        data = self._file.read(min(n_bytes, self.left))
        if not data and self.left and n_bytes:
            raise EOFError("the .tar archive ends inside a member")
        self.left -= len(data)
        return data
