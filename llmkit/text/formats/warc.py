"""Read web archives (ISO 28500): .wet texts and .warc pages of Common Crawl and other crawlers, and .wat metadata.

A record is a document. The text is that of a `conversion` record (.wet); the page of a `response` or `resource` record,
converted by `html_to_text`; or title, description and link texts of a .wat record, which does not hold the text of the
page. Records without text, status codes other than 200 and unreadable pages are skipped and counted: every crawl has
some. Only one record is in memory.
"""

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from llmkit.config.prepare import Read
from llmkit.core.errors import DataError
from llmkit.text.decoding.declared_encodings import decode_declared
from llmkit.text.decoding.encodings import decode_all
from llmkit.text.documents import Document, make_documents
from llmkit.text.entries import Entry
from llmkit.text.formats.html_text import html_to_text
from llmkit.text.formats.markup import decode_page
from llmkit.text.formats.streams import skip_bytes
from llmkit.text.sources import Source

MAX_RECORD_BYTES = 64_000_000
_MAX_LINE_BYTES = 1 << 16
_MAX_HEADERS = 1_000
_PAGES = ("text/html", "application/xhtml+xml")


@dataclass(frozen=True, slots=True)
class Record:
    """One WARC record: headers with lower-case names, and the content."""

    headers: dict[str, str]
    content: bytes

    @property
    def record_type(self) -> str:
        """The WARC-Type, such as `response` or `conversion`."""
        return self.headers.get("warc-type", "")

    @property
    def media_type(self) -> str:
        """The media type of the content, without parameters."""
        return _media_type(self.headers.get("content-type", ""))


def read_warc(entry: Entry, source: Source, read: Read) -> Iterator[Document]:
    """Yield the documents of a .warc, .wet or .wat file."""
    with entry.open(source) as file:
        for index, record in enumerate(read_records(file, source, entry.path)):
            where = f"{entry.path}, record {index + 1}"
            try:
                text = _to_text(record, source, where)
            except DataError:
                source.skipped["page that cannot be read"] += 1
                continue
            if text is None:
                continue
            if text.strip():
                yield from make_documents([text], entry.path, index, read.max_doc_chars)
            else:
                source.skipped["page without text"] += 1
    source.encoding = source.encoding or "utf-8"


def read_records(file: BinaryIO, source: Source, path: str) -> Iterator[Record]:
    """Yield the records of an unpacked file; records of more than MAX_RECORD_BYTES are skipped and counted.

    Raises:
        DataError: a record does not begin with a WARC header, or its header is invalid.
        EOFError: the file is cut off.
    """
    number = 0
    while line := _read_line(file, path, number):
        if not line.strip():
            continue
        number += 1
        if not line.startswith(b"WARC/"):
            raise DataError("not a WARC record", where=f"{path}, record {number}", hint="fetch the file again")
        headers = _read_headers(file, path, number)
        digits = headers.get("content-length", "")
        if not digits.isdecimal() or len(digits) > 18:
            what = f"a WARC record without a length: {digits[:40]!r}"
            raise DataError(what, where=f"{path}, record {number}", hint="fetch the file again")
        n_bytes = int(digits)
        if n_bytes > MAX_RECORD_BYTES:
            source.skip(f"record of more than {MAX_RECORD_BYTES // 1_000_000} MB", f"{path}, record {number}")
            skip_bytes(file, n_bytes, "the file ends inside a record")
            continue
        content = file.read(n_bytes)
        if len(content) < n_bytes:
            raise EOFError(f"the file ends inside record {number}")
        yield Record(headers, content)


def _read_line(file: BinaryIO, path: str, number: int) -> bytes:
    line = file.readline(_MAX_LINE_BYTES)
    if len(line) == _MAX_LINE_BYTES:
        raise DataError("an unterminated header line", where=f"{path}, record {number}", hint="fetch the file again")
    return line


def _read_headers(file: BinaryIO, path: str, number: int) -> dict[str, str]:
    headers: dict[str, str] = {}
    for _ in range(_MAX_HEADERS):
        line = _read_line(file, path, number)
        if not line:
            raise EOFError(f"the file ends inside the headers of record {number}")
        if not line.strip():
            return headers
        name, _, value = line.decode("utf-8", "replace").partition(":")
        headers[name.strip().lower()] = value.strip()
    what = f"a record with more than {_MAX_HEADERS:,} headers"
    raise DataError(what, where=f"{path}, record {number}", hint="fetch the file again")


def _to_text(record: Record, source: Source, where: str) -> str | None:
    """Return the text of a record; None if it is not a document."""
    if record.record_type == "conversion":
        return decode_all(record.content, "utf-8", where)
    if record.record_type == "resource":
        return _page_to_text(record.content, record.media_type, "", source, where)
    if record.record_type == "response" and record.media_type == "application/http":
        return _response_to_text(record.content, source, where)
    if record.record_type == "metadata" and record.media_type == "application/json":
        return _metadata_to_text(record.content)
    return None  # requests, warcinfo, revisits


def _response_to_text(content: bytes, source: Source, where: str) -> str | None:
    head, _, body = content.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if status.split(" ")[1:2] != ["200"]:
        source.skipped["response with a status other than 200"] += 1
        return None
    if "chunked" in headers.get("transfer-encoding", "").lower():
        body = _join_chunks(body)
    packing = headers.get("content-encoding", "").lower()
    if packing in ("gzip", "x-gzip", "deflate"):
        body = _inflate(body, where)
    elif packing not in ("", "identity"):
        source.skipped[f"page compressed with {packing[:20]}"] += 1
        return None
    media, _, parameters = headers.get("content-type", "").partition(";")
    charset = parameters.lower().partition("charset=")[2].partition(";")[0].strip("\"' ")
    return _page_to_text(body, _media_type(media), charset, source, where)


def _page_to_text(body: bytes, media: str, charset: str, source: Source, where: str) -> str | None:
    if media == "text/plain":
        return decode_all(body, "utf-8", where)
    if media not in _PAGES:
        source.skipped["record that is not a page"] += 1
        return None
    page, _ = decode_declared(body, charset) or decode_page(body, "auto", where)
    return html_to_text(page, where)


def _join_chunks(body: bytes) -> bytes:
    """Undo `Transfer-Encoding: chunked`; returns the body unchanged if the crawler has undone it, as most do."""
    pieces: list[bytes] = []
    position = 0
    while True:
        line, end, _ = body[position : position + 100].partition(b"\r\n")
        try:
            size = int(line.partition(b";")[0], 16)
        except ValueError:
            return b"".join(pieces) if pieces else body
        if not end or size < 0:
            return b"".join(pieces) if pieces else body
        position += len(line) + 2
        if not size:
            return b"".join(pieces)
        pieces.append(body[position : position + size])
        position += size + 2


def _inflate(body: bytes, where: str) -> bytes:
    """Undo `Content-Encoding: gzip` or `deflate`, unless the crawler has done so."""
    for bits in (47, -15):  # gzip or zlib, then deflate without a header
        unpacker = zlib.decompressobj(bits)
        try:
            found = unpacker.decompress(body, MAX_RECORD_BYTES)
        except zlib.error:
            continue
        if unpacker.unconsumed_tail:
            what = f"the compressed page unpacks to more than {MAX_RECORD_BYTES // 1_000_000} MB"
            raise DataError(what, where=where, hint="remove the record from the file")
        return found
    return body


def _metadata_to_text(content: bytes) -> str:
    """Return title, description and link texts from Common Crawl's JSON; empty if there are none."""
    try:
        found: object = json.loads(content)
    except (ValueError, RecursionError):
        return ""
    for key in ("Envelope", "Payload-Metadata", "HTTP-Response-Metadata", "HTML-Metadata"):
        found = found.get(key) if isinstance(found, dict) else None
    if not isinstance(found, dict):
        return ""
    head = found.get("Head")
    texts: list[object] = []
    if isinstance(head, dict):
        texts.append(head.get("Title"))
        metas = head.get("Metas")
        texts += [each.get("content") for each in _dicts(metas) if str(each.get("name")).lower() == "description"]
    texts += [each.get("text") for each in _dicts(found.get("Links"))]
    return "".join(f"{text.strip()}\n" for text in texts if isinstance(text, str) and text.strip())


def _dicts(value: object) -> Iterator[dict[str, object]]:
    yield from (each for each in value if isinstance(each, dict)) if isinstance(value, list) else ()


def _media_type(value: str) -> str:
    return value.partition(";")[0].strip().lower()
