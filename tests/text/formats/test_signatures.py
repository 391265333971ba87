"""The first bytes determine the format of a file; text that begins like another format stays text."""

import pytest

from llmkit.text.formats.signatures import TAR, ZIP, detect_compression, detect_format, detect_in_zip, looks_like_html


@pytest.mark.parametrize(
    ("head", "ending"),
    [
        (b"%PDF-1.7\nx", ".pdf"),
        (b"\xef\xbb\xbf\r\n%PDF-1.7", ".pdf"),
        (b"{\\rtf1\\ansi x}", ".rtf"),
        (b"WEBVTT\n\n", ".vtt"),
        (b"1\r\n00:00:01,000 --> 00:00:02,000\r\nx", ".srt"),
        (b"WARC/1.0\r\n", ".warc"),
        (b"<?xml version='1.0'?>\n<mediawiki xmlns='x'>", ".xml"),
        (b"From a@b.c Mon Jan  1 00:00:00 2024\nFrom: a\n", ".mbox"),
        (b"PAR1\0\0", ".parquet"),
        (b"From: <Saved by Blink>\r\nSubject: a\r\n b\r\nMIME-Version: 1.0\r\n", ".eml"),
    ],
)
def test_format_is_known_by_its_first_bytes(head: bytes, ending: str) -> None:
    found = detect_format(head)
    assert found is not None
    assert found.ending == ending


@pytest.mark.parametrize(
    "text",
    [
        b"BMW built cars.",
        b"MZ was a maker of motorcycles.",
        b"From the moment he came at 10:30 in 1999, it rained.\nNo: it poured.\n",
        b"PK stands for many things.",
        b"Note: a\nMIME-Versions differ.\n",
        b"RIFF and ID3 are names of formats.",
        b"1\n2\n3\n",
        "却说曹操".encode(),
        "却说曹操".encode("utf-16"),
        b"",
    ],
)
def test_text_that_begins_as_another_format_does_stays_text(text: bytes) -> None:
    assert detect_format(text) is None


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\x89PNG\r\n\x1a\n\0", "a PNG image"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0", "a legacy Office document"),
        (b"SQLite format 3\0", "an SQLite database"),
        (bytes(60) + b"BOOKMOBI", "a Kindle book"),
        (b"[Script Info]\nTitle: x\n", "SubStation"),
        (b"%!PS-Adobe", "a PostScript document"),
        (b"7z\xbc\xaf\x27\x1c\0", "a .7z archive"),
    ],
)
def test_unreadable_formats_are_named_with_a_hint(head: bytes, name: str) -> None:
    found = detect_format(head)
    assert found is not None
    assert found.name.startswith(name)
    assert not found.ending
    assert found.hint


def test_archives_are_known_by_their_members() -> None:
    assert detect_in_zip(["a.txt"], b"") == ZIP
    assert detect_in_zip(["[Content_Types].xml", "word/document.xml"], b"").ending == ".docx"
    assert detect_in_zip(["mimetype", "content.xml"], b"application/vnd.oasis.opendocument.text\n").ending == ".odt"
    assert detect_in_zip(["META-INF/container.xml"], b"").ending == ".epub"
    assert detect_in_zip(["xl/workbook.xml"], b"").name == "an Excel workbook"
    assert detect_format(b"PK\x03\x04\0") == ZIP
    assert detect_format(bytes(257) + b"ustar\0") == TAR
    assert [detect_compression(head) for head in (b"\x1f\x8b\x08", b"BZh9", b"text")] == [".gz", ".bz2", ""]


def test_html_is_known_by_its_beginning() -> None:
    assert looks_like_html(b"<!DOCTYPE html><html>")
    assert looks_like_html(b"<?xml version='1.0'?><!-- x --><html lang='de'>")
    assert not looks_like_html(b"<p>a fragment")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_subtitles_with_a_byte_order_mark_are_known(encoding: str) -> None:
    head = "1\r\n00:00:01,000 --> 00:00:02,000\r\nŽlutý kůň\r\n".encode(encoding)
    assert (found := detect_format(head)) is not None
    assert found.ending == ".srt"
    assert detect_format("A plain text.\r\n".encode(encoding)) is None


def test_spreadsheets_that_are_not_read_lead_to_xlsx() -> None:
    legacy = detect_format(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0")
    found = [legacy, detect_in_zip(["xl/workbook.bin"], b""), detect_in_zip(["Index/Document.iwa"], b"")]
    found.append(detect_in_zip(["content.xml"], b"application/vnd.oasis.opendocument.spreadsheet"))
    assert [each.ending for each in found if each] == [""] * 4
    assert all(".xlsx or .csv" in each.hint for each in found if each)
    assert "Excel workbook (.xlsb)" in found[1].name  # type: ignore[union-attr]
    assert detect_in_zip(["xl/workbook.xml"], b"").ending == ".xlsx"
