"""A record of a crawl is a document; other records are counted."""

import gzip
import json
import zlib
from pathlib import Path

import pytest

from llmkit.config.prepare import Read
from llmkit.core.errors import DataError
from llmkit.text.formats import warc
from llmkit.text.readers import read_documents
from llmkit.text.sources import Source


def record(kind: str, content: bytes, media: str = "text/plain") -> bytes:
    head = f"WARC/1.0\r\nWARC-Type: {kind}\r\nContent-Type: {media}\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content + b"\r\n\r\n"


def page(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = "\r\n".join([f"HTTP/1.1 {status}", *headers])
    return record("response", lines.encode() + b"\r\n\r\n" + body, "application/http; msgtype=response")


INFO = record("warcinfo", b"software: x", "application/warc-fields")
WET = INFO + record("conversion", "Seite eins äöü\n".encode()) + record("conversion", b"Page two\n\r\n\r\nend\n")
HTML = "Content-Type: text/html; charset=utf-8"


def read(path: Path, data: bytes) -> tuple[list[str], Source]:
    path.write_bytes(data)
    sources: list[Source] = []
    return [document.text for document in read_documents([str(path)], Read(), sources)], sources[0]


@pytest.mark.parametrize("name", ["a.warc.wet.gz", "a.wet", "a.txt", "a"])
def test_records_of_text_are_documents(tmp_path: Path, name: str) -> None:
    data = b"".join(map(gzip.compress, [WET[:200], WET[200:]])) if name.endswith(".gz") else WET
    assert read(tmp_path / name, data)[0] == ["Seite eins äöü\n", "Page two\n\r\n\r\nend\n"]


def test_pages_are_read_whatever_their_transfer_and_encoding(tmp_path: Path) -> None:
    data = page(b"a\r\n<p>One</p>\r\n0\r\n\r\n", HTML, "Transfer-Encoding: chunked")
    data += page(gzip.compress(b"<p>Two</p>"), HTML, "Content-Encoding: gzip")
    data += page(zlib.compress(b"<p>Three</p>")[2:-4], HTML, "Content-Encoding: deflate")
    data += page("<p>你好</p>".encode("gbk"), "Content-Type: text/html; charset=gb2312")
    data += page(b"<p>as it was</p>", HTML, "Content-Encoding: gzip", "Transfer-Encoding: chunked")
    assert read(tmp_path / "a.warc", data)[0] == ["One\n", "Two\n", "Three\n", "你好\n", "as it was\n"]


def test_records_that_are_not_pages_are_counted(tmp_path: Path) -> None:
    data = page(b"x", HTML, status="404 Not Found") + page(b"x", "Content-Type: image/png")
    data += page(b"x", HTML, "Content-Encoding: br") + page(b"<p></p>", HTML)
    data += page(b"<div>" * 30_000, HTML) + record("request", b"x") + page(b"<p>one</p>", HTML)
    texts, source = read(tmp_path / "a.warc", data)
    assert texts == ["one\n"]
    assert source.skipped == {
        "response with a status other than 200": 1,
        "record that is not a page": 1,
        "page compressed with br": 1,
        "page without text": 1,
        "page that cannot be read": 1,
    }


def test_metadata_give_title_description_and_links(tmp_path: Path) -> None:
    found: dict[str, object] = {
        "Head": {"Title": "A title", "Metas": [{"name": "Description", "content": "About."}, 3]}
    }
    found["Links"] = [{"text": "a link"}, {"url": "x"}]
    envelope = {"Envelope": {"Payload-Metadata": {"HTTP-Response-Metadata": {"HTML-Metadata": found}}}}
    data = INFO + record("metadata", json.dumps(envelope).encode(), "application/json")
    assert read(tmp_path / "a.wat", data)[0] == ["A title\nAbout.\na link\n"]


@pytest.mark.parametrize("cut", [20, 150, -8, -60])
def test_crawl_that_was_cut_off_is_an_error(tmp_path: Path, cut: int) -> None:
    with pytest.raises(DataError, match="damaged or cut off"):
        read(tmp_path / "a.wet", WET[:cut])


def test_record_beyond_all_bounds_is_counted_and_damage_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match="not a WARC record"):
        read(tmp_path / "a.wet", WET + b"garbage\r\n")
    with pytest.raises(DataError, match="without a length"):
        read(tmp_path / "a.wet", WET.replace(b"Content-Length: 11", b"Content-Length: -1"))
    monkeypatch.setattr(warc, "MAX_RECORD_BYTES", 20)
    texts, source = read(tmp_path / "a.wet", INFO + record("conversion", b"x" * 21) + record("conversion", b"short"))
    assert texts == ["short"]
    assert list(source.skipped.values()) == [1]
