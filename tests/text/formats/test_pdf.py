"""A PDF gives its text layer, or an error that names the reason."""

import io
import sys
from pathlib import Path

import pytest

from llmkit.config.prepare import Read
from llmkit.core.errors import DataError, EnvironmentFault
from llmkit.text.readers import read_documents
from llmkit.text.sources import Source

pypdf = pytest.importorskip("pypdf")


def make_pdf(*pages: bytes) -> bytes:
    """An uncompressed PDF, each page of which shows a text, or nothing."""
    kids = b" ".join(b"%d 0 R" % (4 + 2 * number) for number in range(len(pages)))
    bodies = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[%s]/Count %d>>" % (kids, len(pages)),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    for number, text in enumerate(pages):
        shown = b"BT /F1 24 Tf 72 700 Td (%s) Tj ET" % text if text else b""
        box = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents %d 0 R/Resources<</Font<</F1 3 0 R>>>>>>"
        bodies += [box % (5 + 2 * number), b"<</Length %d>>stream\n%s\nendstream" % (len(shown), shown)]
    data, places = b"%PDF-1.4\n", []
    for number, body in enumerate(bodies, 1):
        places.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    trailer = b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (len(bodies) + 1, len(data))
    return data + b"xref\n0 %d\n0000000000 65535 f \n" % (len(bodies) + 1) + table + trailer


def encrypt(data: bytes, password: str) -> bytes:
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(data))
    writer.encrypt(password, "owner", algorithm="RC4-128")
    file = io.BytesIO()
    writer.write(file)
    return file.getvalue()


def read(path: Path, data: bytes) -> tuple[list[str], Source]:
    path.write_bytes(data)
    sources: list[Source] = []
    return [document.text for document in read_documents([str(path)], Read(), sources)], sources[0]


@pytest.mark.parametrize("name", ["a.pdf", "a.txt", "a"])
def test_pages_are_one_document_whatever_the_name(tmp_path: Path, name: str) -> None:
    texts, source = read(tmp_path / name, make_pdf(b"The ferry left", b"", b"at dawn."))
    assert texts == ["The ferry left\nat dawn.\n"]
    assert source.skipped == {"page without text": 1}


def test_unreadable_files_are_errors_that_name_their_format(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a scanned PDF without text"):
        read(tmp_path / "a.pdf", make_pdf(b"", b""))
    with pytest.raises(DataError, match="an encrypted PDF"):
        read(tmp_path / "a.pdf", encrypt(make_pdf(b"secret"), "word"))
    with pytest.raises(DataError, match="the PDF cannot be read"):
        read(tmp_path / "a.pdf", make_pdf(b"x")[:100])
    assert read(tmp_path / "a.pdf", encrypt(make_pdf(b"open"), ""))[0] == ["open\n"], "an empty password is none"


def test_missing_library_is_named_with_the_way_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pypdf", None)
    with pytest.raises(EnvironmentFault) as caught:
        read(tmp_path / "a.pdf", make_pdf(b"x"))
    assert "llmkit[documents]" in caught.value.problems[0].hint
