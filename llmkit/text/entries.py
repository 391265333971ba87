"""Open the input files, plain, compressed or archived.

The first bytes of a file determine its format (signatures.py); if they have no signature, its name does. The members
of a .zip or .tar are separate entries, named `books.zip!a.txt`, each with its own format. Members of a .zip are sorted
by name; those of a .tar keep their order, because a .tar is read once, from beginning to end.

A truncated or damaged archive is an error, never a shorter text. Raw bytes are counted and hashed while they are read.

Independent of encodings or format readers (readers.py).
"""

import errno
import gzip
import io
import lzma
import os
import shutil
import stat
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

from llmkit.core.errors import DataError, EnvironmentFault
from llmkit.text.formats.archives import (
    check_zip_sizes,
    decode_names,
    open_archive,
    open_member,
    read_mimetype,
    read_tar,
)
from llmkit.text.formats.signatures import (
    HEAD_BYTES,
    TAR,
    ZIP,
    Format,
    detect_compression,
    detect_format,
    detect_in_zip,
    looks_like_html,
)
from llmkit.text.formats.streams import Bomb, CountedFile, Rejoined, read_head, unpack, unpack_head
from llmkit.text.inputs import (
    ARCHIVES,
    LOCK_FILE,
    describe_suffix,
    display_name,
    is_hidden,
    is_lock_file,
    is_readable,
    is_stream,
    split_endings,
)
from llmkit.text.sources import Source, log_once


class AccessDenied(EnvironmentFault):
    """The user has no permission to read a file. Unlike other environment faults, it concerns a single file."""


MAX_DEPTH = 3
"""Maximum nesting of archives."""
_COPY_BYTES = 1 << 20
_PACKED_HEAD_BYTES = 1 << 20
"""A .bz2 file yields no data before its first block is complete, after up to 900 kB."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A byte stream that can be opened, with its format."""

    path: str
    ending: str
    """Suffix of the format, such as `.txt`, without the compression; empty for plain text."""
    packing: str
    """The compression, detected from the content, or else from the name."""
    open_raw: Callable[[], BinaryIO]
    """Opens the stored bytes."""
    reopens: bool = True
    """Whether the bytes can be opened several times; False for stdin, pipes and members of a .tar."""

    @contextmanager
    def open(self, source: Source) -> Iterator[BinaryIO]:
        """Open the unpacked bytes; stores size and hash of the raw bytes in `source` at the end of the block."""
        with _translate_errors(self.path), self.open_raw() as raw:
            counted = CountedFile(raw)
            buffered = cast(io.BufferedReader, io.BufferedReader(counted, _COPY_BYTES))
            with unpack(buffered, self.packing, lambda: counted.n_bytes) as file:
                yield file
            source.n_bytes, source.sha256 = counted.n_bytes, counted.sha256.hexdigest()
            _require_unchanged(raw, self.path)

    @contextmanager
    def open_seekable(self, source: Source) -> Iterator[BinaryIO]:
        """Unpack the bytes to a temporary file, for formats that need seeking."""
        with tempfile.TemporaryFile() as copy:
            with self.open(source) as file:
                shutil.copyfileobj(file, copy, _COPY_BYTES)
            copy.seek(0)
            with _translate_errors(self.path):
                yield cast(BinaryIO, copy)

    @contextmanager
    def make_reopenable(self) -> Iterator["Entry"]:
        """Yield an entry that can be read twice; copies the bytes to disk if necessary."""
        if self.reopens:
            yield self
            return
        with tempfile.TemporaryFile() as copy:
            with _translate_errors(self.path), self.open_raw() as raw:
                shutil.copyfileobj(raw, copy, _COPY_BYTES)

            def reopen() -> BinaryIO:
                copy.seek(0)
                return cast(BinaryIO, io.BufferedReader(io.FileIO(copy.fileno(), closefd=False)))

            yield replace(self, open_raw=reopen, reopens=True)


def find_entries(path: str, source: Source) -> Iterator[Entry]:
    """Yield the entry of a file, or the entries of an archive's members, at any depth.

    Use each entry before requesting the next. Members that llmkit does not read are counted in `source`.

    Raises:
        DataError: a format that llmkit does not read; a damaged or hostile archive; a broken link.
    """
    shown = display_name(path)
    if os.path.islink(path) and not os.path.exists(path):  # noqa: PTH110, PTH114
        what = f"a broken link to {display_name(str(Path(path).readlink()))}"
        raise DataError(what, where=shown, hint="restore the file, remove the link, or skip it with --skip-bad")
    ending, packing = split_endings(path)
    yield from _find(Entry(shown, ending, packing, partial(_open_file, path), reopens=not is_stream(path)), source, 0)


class _WatchedFile(io.BufferedReader):
    """An open file, with the size and modification time that it had when it was opened."""

    def __init__(self, path: str) -> None:
        super().__init__(io.FileIO(path))  # takes half the time of Path.open
        self.path = path
        self.opened = os.fstat(self.fileno())


class _SmallFile(io.BytesIO):
    """The complete bytes of a small file, with the path, size and modification time of its `_WatchedFile`."""

    def __init__(self, data: bytes, file: _WatchedFile) -> None:
        super().__init__(data)
        self.path, self.opened = file.path, file.opened


def _open_file(path: str) -> BinaryIO:
    return io.BufferedReader(io.FileIO(sys.stdin.fileno(), closefd=False)) if path == "-" else _WatchedFile(path)


def _keep_small(data: bytes, file: BinaryIO) -> BinaryIO:
    return cast(BinaryIO, _SmallFile(data, file)) if isinstance(file, _WatchedFile) else io.BytesIO(data)


def _require_unchanged(file: BinaryIO, shown: str) -> None:
    """Raise DataError if the file of a `_WatchedFile` was written, replaced or removed since it was opened.

    Streams and members of archives are not checked. Inodes are not compared, because some network file systems
    give an unchanged file a new inode.
    """
    if not isinstance(file, _WatchedFile | _SmallFile) or not stat.S_ISREG(file.opened.st_mode):
        return
    before = file.opened
    try:
        after = os.stat(file.path)  # noqa: PTH116
        same = (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
        what = f"changed while it was read: {before.st_size:,} bytes before, {after.st_size:,} after"
    except FileNotFoundError:
        same, what = False, "changed while it was read: it was removed or renamed"
    if not same:
        raise DataError(what, where=shown, hint="wait until no program writes to it, or name a copy instead")


def _find(entry: Entry, source: Source, depth: int) -> Iterator[Entry]:
    """Yield the entry of a file or member itself, or the entries of its members if it is an archive."""
    entry, head, found = _peek(entry)
    if found is None and entry.ending in ARCHIVES:
        found = TAR if entry.ending == ".tar" else ZIP
    if found in (TAR, ZIP) and depth == MAX_DEPTH:
        yield _refuse(entry, f"archives are nested more than {MAX_DEPTH} deep", "unpack it first")
    elif found == TAR:
        yield from _find_in_tar(entry, source, depth)
    elif found == ZIP:
        yield from _find_in_zip(entry, source, depth)
    elif depth and entry.ending == ".xml" and (found is None or not found.ending):
        source.skip(describe_suffix(entry.path), entry.path)
    else:
        yield _choose_ending(entry, found, head)


_NEVER_MARKUP = (".docx", ".odt", ".rtf", ".pdf", ".xlsx", ".parquet")
"""Formats that never begin like an HTML page. Some web sites export HTML pages under these suffixes."""
_MARKUP = (".tex", ".rst", ".org", ".adoc", ".ipynb", ".sgml", ".wiki", ".textile")


def _choose_ending(entry: Entry, found: Format | None, head: bytes) -> Entry:
    """Return the entry with the format detected from its bytes, or else from its name."""
    if found is None:
        if entry.packing and detect_compression(head):
            return _refuse(entry, "this is compressed twice", "unpack it once")
        if looks_like_html(head) and entry.ending in ("", ".xml", *_NEVER_MARKUP):
            if entry.ending in _NEVER_MARKUP:
                log_once(f"{entry.path} is an HTML page despite its suffix, and is read as HTML")
            return replace(entry, ending=".html")
        is_page = looks_like_html(head) and entry.ending in (".txt", ".md")
        if is_page or entry.ending == ".xml" or (not entry.ending and entry.path.lower().endswith(_MARKUP)):
            log_once(f"{entry.path} is markup, but is read as plain text, including its tags, because of its suffix")
        return replace(entry, ending="") if entry.ending == ".xml" else entry
    if not found.ending:
        return _refuse(entry, f"this is {found.name}", f"{found.hint}, or skip it with --skip-bad")
    if entry.ending not in ("", found.ending) and not (found.ending == ".warc" and entry.ending in (".wet", ".wat")):
        log_once(f"{entry.path} is {found.name} despite its suffix, and is read as that format")
    return replace(entry, ending=found.ending)


def _refuse(entry: Entry, what: str, hint: str) -> Entry:
    """Return an entry that raises DataError when it is opened, so that --skip-bad continues with the next one."""
    return _with_error(entry, DataError(what, where=entry.path, hint=hint))


def _with_error(entry: Entry, error: DataError) -> Entry:
    def fail() -> BinaryIO:
        raise error

    return replace(entry, ending="", packing="", open_raw=fail, reopens=True)


def _peek(entry: Entry) -> tuple[Entry, bytes, Format | None]:
    """Return the entry with its compression, its first unpacked bytes, and their format."""
    with _translate_errors(entry.path):
        raw = entry.open_raw()
        head = read_head(raw, HEAD_BYTES)
        found = detect_format(head)
        packing = detect_compression(head) or ("" if found else entry.packing)
        if packing:
            head += read_head(raw, _PACKED_HEAD_BYTES)
        if entry.reopens:
            raw.close()
            if len(head) < HEAD_BYTES:  # keep its bytes: reopening a small file costs a tenth of reading it
                small = head
                entry = replace(entry, open_raw=lambda: _keep_small(small, raw))
        else:
            whole = cast(BinaryIO, io.BufferedReader(Rejoined(head, raw), _COPY_BYTES))
            entry = replace(entry, open_raw=lambda: whole)
    if packing:
        head = unpack_head(head, packing, HEAD_BYTES)
        found = detect_format(head)
    return entry if packing == entry.packing else replace(entry, packing=packing), head, found


def _find_in_tar(entry: Entry, source: Source, depth: int) -> Iterator[Entry]:
    with entry.open(Source(entry.path)) as file:
        for member in read_tar(file):
            path = f"{entry.path}!{display_name(member.name)}"
            if member.member_type == "file":
                found = Entry(path, "", "", lambda file=member.file: file, reopens=False)  # type: ignore[misc]
                yield from _find_member(member.name, found, source, depth)
            elif member.member_type != "folder":
                source.skip(f"{member.member_type} in an archive", path)


def _find_in_zip(entry: Entry, source: Source, depth: int) -> Iterator[Entry]:
    with ExitStack() as stack:
        entry = stack.enter_context(entry.make_reopenable())
        stack.enter_context(_translate_errors(entry.path))
        is_seekable = not entry.packing and not depth
        file = stack.enter_context(entry.open_raw() if is_seekable else entry.open_seekable(Source(entry.path)))
        archive = stack.enter_context(open_archive(file))
        found = detect_in_zip(archive.namelist(), read_mimetype(archive))
        if found != ZIP:
            yield _choose_ending(entry, found, b"")
            return
        check_zip_sizes(archive, file.seek(0, os.SEEK_END))
        names = decode_names(archive)
        for info in sorted(archive.infolist(), key=lambda info: info.filename):
            if not info.filename or info.filename.endswith("/"):
                continue
            name = display_name(names.get(info.filename, info.filename))
            member = Entry(f"{entry.path}!{name}", "", "", partial(open_member, archive, info))
            if info.flag_bits & 1:
                what = f"{name} is encrypted"
                member = _refuse(member, what, "unpack it with its password first")
            yield from _find_member(info.filename, member, source, depth)
        _require_unchanged(file, entry.path)


def _find_member(name: str, member: Entry, source: Source, depth: int) -> Iterator[Entry]:
    """Yield the entries of an archive member; an error in the member is raised when its entry is opened."""
    if is_lock_file(name):
        source.skip(LOCK_FILE, member.path)
    elif is_hidden(name):
        source.skip("hidden file", member.path)
    elif not is_readable(name):
        source.skip(describe_suffix(name), member.path)
    else:
        ending, packing = split_endings(name)
        try:
            yield from _find(replace(member, ending=ending, packing=packing), source, depth + 1)
        except DataError as error:
            yield _with_error(member, error)


_DAMAGES = (
    *(EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, zipfile.BadZipFile, tarfile.ReadError),
    NotImplementedError,  # a compression method that zipfile does not support
)


@contextmanager
def _translate_errors(path: str) -> Iterator[None]:
    """Convert errors of damaged data to DataError, and system errors to EnvironmentFault; both name the file."""
    try:
        yield
    except Bomb as error:
        hint = "if it is text, unpack it and name the unpacked files"
        raise DataError(f"a decompression bomb: {error}", where=path, hint=hint) from None
    except PermissionError:
        hint = "check the file's permissions, or skip it with --skip-bad"
        raise AccessDenied(f"no permission to read {path}", where=path, hint=hint) from None
    except (OSError, *_DAMAGES) as error:
        # errno is None for pyarrow's errors in compressed data, EINVAL for a seek to a negative offset.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise EnvironmentFault(f"cannot read {path}: {error.strerror}", where=path, hint="check the disk") from None
        hint = "fetch the file again, or skip such files with --skip-bad"
        raise DataError(f"damaged or cut off: {error}", where=path, hint=hint) from None
