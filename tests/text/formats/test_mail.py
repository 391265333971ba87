"""A message is a document: its text without headers, quoting and attachments."""

from pathlib import Path

import pytest

from llmkit.config.prepare import Read
from llmkit.core.errors import DataError
from llmkit.text.formats import mail
from llmkit.text.readers import read_documents
from llmkit.text.sources import Source

BEGIN = "From a@b.c Mon Jan  1 00:00:00 2024\nFrom: a@b.c\nSubject: x\n"
PLAIN = BEGIN + "Content-Type: text/plain; charset=utf-8\n\nHällo\n>From here\nFrom there\n\n"
BOTH = (
    BEGIN
    + """Content-Type: multipart/alternative; boundary=XX

--XX
Content-Type: text/html

<p>html</p>
--XX
Content-Type: text/plain

plain
--XX--

"""
)
GBK = BEGIN + "Content-Type: text/html; charset=gb2312\nContent-Transfer-Encoding: base64\n\nPHA+xOO6wzwvcD4=\n\n"
MIXED = (
    BEGIN
    + """Content-Type: multipart/mixed; boundary=XX

--XX
Content-Type: text/plain

body
--XX
Content-Type: text/plain
Content-Disposition: attachment; filename=a.txt

attached
--XX
Content-Type: text/plain

footer
--XX--

"""
)
EMPTY = BEGIN + "Content-Type: image/png\n\nxx\n\n"


def read(path: Path, data: bytes, **options: object) -> tuple[list[str], Source]:
    path.write_bytes(data)
    sources: list[Source] = []
    documents = read_documents([str(path)], Read(**options), sources)  # type: ignore[arg-type]
    return [document.text for document in documents], sources[0]


@pytest.mark.parametrize("name", ["a.mht", "a.mhtml", "a.txt"])
def test_a_saved_page_is_read_as_one(tmp_path: Path, name: str) -> None:
    page = "Subject: x\nMIME-Version: 1.0\nContent-Type: multipart/related; boundary=B\n\n"
    page += "--B\nContent-Type: text/html\nContent-Transfer-Encoding: quoted-printable\n\n<p>=C3=A9l=C3=A8ve</p>\n"
    page += "--B\nContent-Type: image/png\n\nAAAA\n--B--\n"
    (tmp_path / name).write_text(page)
    assert [document.text for document in read_documents([str(tmp_path / name)], Read(), [])] == ["élève\n"]


@pytest.mark.parametrize("name", ["m.mbox", "m.txt", "inbox"])
def test_each_message_is_a_document_of_its_text(tmp_path: Path, name: str) -> None:
    texts, source = read(tmp_path / name, (PLAIN + BOTH + GBK + MIXED + EMPTY).encode())
    assert texts == ["Hällo\nFrom here\nFrom there\n\n", "plain", "你好\n", "body\nfooter"]
    assert source.skipped == {"message without text": 1}


def test_a_single_message_is_a_document(tmp_path: Path) -> None:
    assert read(tmp_path / "m.eml", PLAIN.partition("\n")[2].encode())[0] == ["Hällo\n>From here\nFrom there\n\n"]


def test_file_that_does_not_begin_with_a_message_is_refused_as_a_mailbox(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a mailbox"):
        read(tmp_path / "m.mbox", b"text\n")


def test_message_beyond_all_bounds_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mail, "MAX_MESSAGE_BYTES", 600)
    texts, source = read(tmp_path / "m.mbox", (PLAIN + BEGIN + "\n" + "x\n" * 900 + "\n" + PLAIN).encode())
    assert len(texts) == 2
    assert sum(source.skipped.values()) == 1


@pytest.mark.parametrize(
    ("declared", "codec", "text"),
    [
        ("iso-8859-1", "cp1252", "It’s “quoted”."),
        ("iso-8859-2", "cp1250", "Paní šla domů, kůň žral seno. " * 5),
        ("iso-8859-1", "utf-8", "Paní šla domů, kůň žral seno. " * 5),
        ("unicode_escape", "ascii", "C:\\temp\\new"),
    ],
)
def test_a_message_whose_charset_is_wrong_is_read_rightly(tmp_path: Path, declared: str, codec: str, text: str) -> None:
    head = BEGIN + f"Content-Type: text/plain; charset={declared}\nContent-Transfer-Encoding: 8bit\n\n"
    (tmp_path / "a.mbox").write_bytes(head.encode() + text.encode(codec) + b"\n\n")
    (document,) = read_documents([str(tmp_path / "a.mbox")], Read(), [])
    assert document.text.strip() == text.strip()


def test_headers_beyond_all_bounds_are_refused_before_they_are_parsed(tmp_path: Path) -> None:
    parameters = "".join(f";\n x*{n}*=utf-8''a" for n in range(20_000))
    data = f"From: a@b.example\nContent-Type: text/plain{parameters}\n\nhello there\n".encode()
    with pytest.raises(DataError, match="headers of more than 256 kB"):
        read(tmp_path / "a.eml", data)
    assert read(tmp_path / "a.eml", b"From: a@b.example\nSubject: x\n\n" + b"hello there\n" * 30_000)[0]


def test_a_message_with_a_hostile_page_is_refused_or_skipped_alone(tmp_path: Path) -> None:
    hostile = BEGIN + "Content-Type: text/html\n\n" + "<div>" * 30_000 + "\n\n"
    (tmp_path / "a.mbox").write_text(hostile + PLAIN)
    with pytest.raises(DataError, match="nested more than"):
        list(read_documents([str(tmp_path / "a.mbox")], Read(), []))
    sources: list[Source] = []
    texts = [document.text for document in read_documents([str(tmp_path / "a.mbox")], Read(skip_bad=True), sources)]
    assert texts == ["Hällo\nFrom here\nFrom there\n\n"]
    assert sources[0].skipped == {"unreadable message": 1}
