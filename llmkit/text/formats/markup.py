"""Read .html and .epub as plain text.

html_text.py extracts the text of a page. An EPUB is one document: its chapters in the order of the spine, without
the table of contents. XML with entity declarations is refused. File names in an EPUB are looked up in its archive only,
never on the disk.

Navigation bars of pages are not removed: that needs a boilerplate remover. A page is parsed as a whole, so memory grows
with the size of a page, not with the number of pages.
"""

import io
import posixpath
import re
import zipfile
from collections.abc import Iterator
from typing import BinaryIO
from urllib.parse import unquote
from xml.etree import ElementTree

from llmkit.config.prepare import Read
from llmkit.core.errors import DataError
from llmkit.text.decoding.declared_encodings import UNICODE, decode_declared, detect_encoding
from llmkit.text.decoding.encodings import TextStream
from llmkit.text.decoding.excerpts import find_example
from llmkit.text.documents import Document, make_documents
from llmkit.text.entries import Entry
from llmkit.text.formats.archives import open_archive, open_member
from llmkit.text.formats.html_text import html_to_text
from llmkit.text.sources import Source

_DECLARED = re.compile(
    rb"""<meta[^>]{1,200}?charset\s*=\s*["']?([\w.:-]+)|<\?xml[^>]{1,80}encoding=["']([\w.:-]+)""", re.I
)
_MAX_MEMBER_BYTES = 256_000_000


def read_html(entry: Entry, source: Source, read: Read) -> Iterator[Document]:
    """Yield the text of a .html file as one document."""
    with entry.open(source) as file:
        page, source.encoding = decode_page(file.read(), read.encoding, entry.path, source)
    text = html_to_text(page, entry.path)
    if source.encoding not in ("ascii", "utf-8"):
        source.example = find_example(text)
    yield from make_documents([text], entry.path, 0, read.max_doc_chars)


def read_epub(entry: Entry, source: Source, read: Read) -> Iterator[Document]:
    """Yield the text of an .epub file as one document."""
    with entry.open_seekable(source) as file:
        chapters = _read_chapters(file, entry.path, source)
        yield from make_documents(chapters, entry.path, 0, read.max_doc_chars)


def decode_page(data: bytes, encoding: str, path: str, source: Source | None = None) -> tuple[str, str]:
    """Return the decoded page and its encoding.

    If `encoding` is auto, the byte order mark decides, else UTF-8 if it is valid, else the encoding that the page
    declares, else the most likely encoding. `source` gets a note if the page declares a wrong encoding, or if the
    encoding that the user named is unlikely.
    """
    name = ""
    if encoding == "auto" and detect_encoding(data[: 1 << 16], complete=len(data) < 1 << 16) not in UNICODE:
        declared = _DECLARED.search(data[:2048])
        name = (declared[1] or declared[2]).decode() if declared else ""
        if found := decode_declared(data, name):
            return found
    stream = TextStream(io.BytesIO(data), encoding, path)
    page = "".join(stream)
    if source is not None:
        stream.record(source)
        if name:
            what = f"declares {name[:40]}, but another encoding is more likely and is used"
            source.notes[what] = (
                f'{stream.encoding}: "{find_example(html_to_text(page))}"; prepare.read.encoding sets the encoding'
            )
    return page, stream.encoding


def _read_chapters(file: BinaryIO, path: str, source: Source) -> Iterator[str]:
    with open_archive(file) as archive:
        container = _parse_xml(archive, "META-INF/container.xml", path)
        root_file = next((node.get("full-path") for node in container.iter() if _tag(node) == "rootfile"), None)
        if not root_file:
            raise _bad_epub("META-INF/container.xml names no package file", path)
        package = _parse_xml(archive, root_file, path)
        encrypted = _find_encrypted(archive, path)
        items = {node.get("id"): node for node in package.iter() if _tag(node) == "item"}
        spine = [node.get("idref") for node in package.iter() if _tag(node) == "itemref"]
        if not spine:
            raise _bad_epub("its spine, the order of the chapters, is empty", path)
        if unknown := [str(name) for name in spine if name not in items]:
            what = "chapters that the spine lists but the EPUB does not contain are left out"
            source.notes[what] = f"number: {len(unknown):,}, first {unknown[0][:60]!r}"
        for reference in spine:
            item = items.get(reference)
            if item is None or "nav" in (item.get("properties") or "").split():
                continue
            if "html" not in (item.get("media-type") or "html"):
                continue  # an image
            name = posixpath.normpath(posixpath.join(posixpath.dirname(root_file), unquote(item.get("href") or "")))
            if name in encrypted:
                raise _encrypted_epub("DRM", path)
            page, _ = decode_page(_read_member(archive, name, path), "auto", f"{path}!{name}")
            if text := html_to_text(page, f"{path}!{name}"):
                yield text + "\n"


def _find_encrypted(archive: zipfile.ZipFile, path: str) -> set[str]:
    """Return the members that META-INF/encryption.xml lists; in a book without DRM these may be its fonts."""
    if "META-INF/encryption.xml" not in archive.namelist():
        return set()
    nodes = _parse_xml(archive, "META-INF/encryption.xml", path).iter()
    return {posixpath.normpath(unquote(node.get("URI") or "")) for node in nodes if _tag(node) == "CipherReference"}


def _encrypted_epub(how: str, path: str) -> DataError:
    what = f"this is an EPUB encrypted with {how}"
    return DataError(what, where=path, hint="get it without encryption, or skip it with --skip-bad")


def _tag(node: ElementTree.Element) -> str:
    return node.tag.rpartition("}")[2]


def _read_member(archive: zipfile.ZipFile, name: str, path: str) -> bytes:
    try:
        info = archive.getinfo(name)
    except KeyError:
        raise _bad_epub(f"{name} is missing in the archive", path) from None
    if info.flag_bits & 1:
        raise _encrypted_epub("a password", path)
    with open_member(archive, info) as member:
        data = member.read(_MAX_MEMBER_BYTES + 1)
    if len(data) > _MAX_MEMBER_BYTES:
        raise _bad_epub(f"{name} unpacks to more than {_MAX_MEMBER_BYTES:,} bytes", path)
    return data


def _parse_xml(archive: zipfile.ZipFile, name: str, path: str) -> ElementTree.Element:
    data = _read_member(archive, name, path)
    if b"<!ENTITY" in data.replace(b"\0", b""):
        raise _bad_epub(f"{name} declares XML entities", path)
    try:
        return ElementTree.fromstring(data)
    except (ElementTree.ParseError, LookupError, ValueError) as error:  # the latter two: unknown encodings
        raise _bad_epub(f"{name} is not XML: {error}", path) from None


def _bad_epub(problem: str, path: str) -> DataError:
    return DataError(
        f"not a valid EPUB: {problem}", where=path, hint="convert it again with Calibre, or skip it with --skip-bad"
    )
