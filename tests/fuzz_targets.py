"""Functions that read untrusted bytes; each returns or raises an llmkit error, else the code has a bug.

`tests/test_fuzz.py` runs them on a few inputs with every test run, `benchmarks/fuzz.py` on as many as time allows.
"""

import bz2
import gzip
import io
import lzma
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow
import pyarrow.parquet

from llmkit.config.loading import dump_recipe, load_recipe
from llmkit.config.prepare import Read
from llmkit.core.errors import DataError, UsageError
from llmkit.tables.rows import open_rows
from llmkit.text.readers import READERS, read_documents
from llmkit.text.sources import Source

ENDINGS = [ending or ".log" for ending in READERS]
PACKINGS = ["", "", "", ".gz", ".zst", ".zip", ".bz2", ".xz", ".tar"]
READS = [
    Read(),
    Read(skip_bad=True),
    Read(encoding="utf-8"),
    Read(encoding="gb18030", skip_bad=True),
    Read(encoding="utf-16", documents="line"),
    Read(encoding="utf-7", documents="paragraph", skip_bad=True),
    Read(documents="paragraph", max_doc_chars=1000),
    Read(field="text"),
    Read(documents="separator", separator=r"\n-+\n|(?=一)"),
    Read(header=False, delimiter=";", documents="line"),
    Read(field="data.text,label", skip_bad=True),
]
WORD = '<w:d xmlns:w="w"><w:p><w:r><w:t>One</w:t><w:tab/></w:r></w:p><w:tbl><w:tc><w:p/></w:tc></w:tbl></w:d>'
ODT = '<d xmlns:text="t"><body><text:p>One<text:s text:c="3"/>two<text:note/></text:p></body></d>'
RTF = rb"{\rtf1\ansi\ansicpg936{\fonttbl{\f0\fcharset134 S;}}\f0 \'c4\'e3\u20320?\par{\*\x y}{\footnote n}a\cell}"
MAIL = (
    b"From a@b.c Mon Jan  1 00:00:00 2024\nFrom: a\nContent-Type: multipart/mixed; boundary=X\n\n--X\n"
    b"Content-Type: text/html; charset=gb2312\nContent-Transfer-Encoding: base64\n\nPHA+xOO6wzwvcD4=\n--X--\n"
)
DUMP = (
    b'<mediawiki><siteinfo><namespace key="6">Datei</namespace></siteinfo><page><title>A</title><ns>0</ns><revision>'
    b"<text>{{x}} [[b|c]] [[Datei:d]] ==e== {|f\n|g\n|} &lt;ref>h&lt;/ref></text></revision></page></mediawiki>"
)
PDF = (
    b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
    b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/Contents 4 0 R/Resources<</Font<</F 5 0 R>>>>>>endobj\n"
    b"4 0 obj<</Length 24>>stream\nBT /F 9 Tf (Hello) Tj ET \nendstream endobj\n"
    b"5 0 obj<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
)
_FOLDER = tempfile.TemporaryDirectory(prefix="llmkit-fuzz-")


def _write(name: str, data: bytes) -> str:
    path = Path(_FOLDER.name) / name
    path.write_bytes(data)
    return str(path)


def _choose(data: bytes) -> tuple[str, Read, bytes]:
    """A name and options by the first three bytes, and the bytes behind them."""
    first, second, third = (*data[:3], 0, 0, 0)[:3]
    name = f"file{ENDINGS[first % len(ENDINGS)]}{PACKINGS[second % len(PACKINGS)]}"
    return name, READS[third % len(READS)], data[3:]


def read_file(data: bytes) -> None:
    """Any bytes under any name become documents or a DataError."""
    name, read, data = _choose(data)
    sources: list[Source] = []
    try:
        documents = list(read_documents([_write(name, data)], read, sources))
    except DataError as error:  # several members of an archive may be bad
        assert all(str(problem).count("\n") == 2 for problem in error.problems)
        return
    assert all(isinstance(document.text, str) and document.text for document in documents)
    assert sum(document.last for document in documents) == sum(source.documents for source in sources)
    assert sum(len(document.text) for document in documents) == sum(source.characters for source in sources)


def read_rows(data: bytes) -> None:
    """Any bytes under any name become rows, each with its line, or a DataError."""
    name, read, data = _choose(data)
    try:
        with open_rows(_write(name, data), read) as rows:
            places = [row.line for row in rows]
    except DataError as error:
        assert str(error).count("\n") == 2
        return
    assert places
    assert places == sorted(places)


def read_recipe(data: bytes) -> None:
    """Any bytes as a recipe are a recipe that can be written and read again, or a UsageError."""
    path = Path(_write("recipe.yaml", data))
    try:
        recipe = load_recipe(path)
    except UsageError as error:
        assert str(error).startswith("error: ")
        return
    assert load_recipe(Path(_write("again.yaml", dump_recipe(recipe).encode()))) == recipe


def read_overrides(data: bytes) -> None:
    """Any texts behind --set, too; one a line."""
    overrides = data.decode("utf-8", "surrogateescape").split("\n")
    try:
        recipe = load_recipe(None, overrides)
    except UsageError as error:
        assert str(error).startswith("error: ")
        return
    dump_recipe(recipe)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "file": read_file,
    "rows": read_rows,
    "recipe": read_recipe,
    "overrides": read_overrides,
}


def make_seeds() -> dict[str, list[bytes]]:
    """Sound inputs of each kind, for mutation: a step away from them lie the faults."""
    text = '正文 话说天下大势，分久必合。\nIt was a day; he said "no", twice.\n\nAnd so on.\n'
    table = "text,label\n" + "".join(f'"a {n}, ""b""",x{n % 2}\n' for n in range(5))
    lines = "".join(f'{{"text": "a \\u4e2d {n}", "label": {n}}}\n' for n in range(4))
    page = f"<?xml version='1.0'?><html><head><meta charset=gbk><title/></head><p>{text}<pre>a b</pre><br/></html>"
    rows = {"text": ["a b", None, "中文"], "label": [1, 2, 3]}
    parquet = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(rows), parquet)
    zst = pyarrow.Codec("zstd").compress(text.encode(), asbytes=True)
    plain = [text.encode(code) for code in ("utf-8", "utf-8-sig", "gb18030", "utf-16", "utf-32")]
    bodies = {
        ".txt": plain,
        ".html": [page.encode(), page.encode("utf-16")],
        ".epub": [_make_epub(text)],
        ".jsonl": [lines.encode(), lines.encode("utf-16")],
        ".xlsx": [make_book(rows)],
        ".json": [
            b"[" + lines.strip().replace("\n", ",").encode() + b"]",
            lines.encode(),
            b'{"n": 1, "data": {"rows": [{"text": ["a", "b"]}, {"text": [{"role": "x", "content": "c"}]}]}}',
            b'{"text": {"0": "a", "1": "b"}, "label": {"0": 1, "1": 2}}',
        ],
        ".csv": [table.encode(), table.encode("gb18030")],
        ".tsv": [table.replace(",", "\t").encode()],
        ".parquet": [parquet.getvalue()],
        ".docx": [_make_zip_of({"word/document.xml": WORD})],
        ".odt": [_make_zip_of({"mimetype": "application/vnd.oasis.opendocument.text", "content.xml": ODT})],
        ".pdf": [PDF],
        ".rtf": [RTF],
        ".srt": [b"1\n00:00:01,000 --> 00:00:02,000\n<i>Hello</i>\n\n2\n00:00:03,000 --> 00:00:04,000\nNo!\n"],
        ".vtt": [b"WEBVTT\n\nNOTE x\n\n00:01.000 --> 00:02.000\n<v Bob>Hi &amp; <00:01.500>ho\n"],
        ".mbox": [MAIL],
        ".eml": [MAIL.partition(b"\n")[2]],
        ".warc": [make_record(b"response", b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<p>page</p>")],
        ".wet": [make_record(b"conversion", b"a page\n") * 2],
        ".wat": [make_record(b"metadata", b'{"Envelope": {}}')],
        ".xml": [DUMP],
        ".log": [table.encode(), lines.encode(), table.replace(",", "\t").encode()],
    }
    files = [bytes([ENDINGS.index(ending), 0, 0]) + body for ending, each in bodies.items() for body in each]
    for ending, packing, body in (
        (".txt", ".gz", gzip.compress(plain[0])),
        (".txt", ".zst", zst),
        (".csv", ".zip", make_zip(table)),
        (".txt", ".bz2", bz2.compress(plain[0])),
        (".txt", ".xz", lzma.compress(plain[0])),
        (".txt", ".tar", make_tar(plain[0])),
        (".txt", ".gz", gzip.compress(make_tar(plain[0]))),
    ):
        files.append(bytes([ENDINGS.index(ending), PACKINGS.index(packing), 0]) + body)
    recipe = (
        "train: {max_steps: 4, epochs: null}\nmodel: &m\n  n_layer: 2\n  family: gpt2\noptim:\n  learning_rate: 1e-3\n"
    )
    overrides = "train.max_steps=4\nmodel={n_layer: 2}\ncls.class_weights={a: 2.0}\nprepare.read.encoding='x'"
    return {"file": files, "rows": files, "recipe": [recipe.encode()], "overrides": [overrides.encode()]}


def make_book(columns: dict[str, list[Any]]) -> bytes:
    """A sheet with a header."""
    book, file = openpyxl.Workbook(), io.BytesIO()
    for row in ([*columns], *zip(*columns.values(), strict=True)):
        book.worksheets[0].append(row)
    book.save(file)
    return file.getvalue()


def make_tar(data: bytes) -> bytes:
    """An archive with a file, a link and a long name."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, kind in (("a.txt", tarfile.REGTYPE), ("l", tarfile.SYMTYPE), ("b" * 120 + ".txt", tarfile.REGTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.size = kind, len(data) if kind == tarfile.REGTYPE else 0
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def make_record(kind: bytes, content: bytes) -> bytes:
    """A WARC record."""
    media = {b"response": b"application/http", b"metadata": b"application/json"}.get(kind, b"text/plain")
    head = b"WARC/1.0\r\nWARC-Type: %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n" % (kind, media, len(content))
    return head + content + b"\r\n\r\n"


def _make_zip_of(members: dict[str, str]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:  # not deflated, so that a flip reaches the XML
        for name, text in members.items():
            archive.writestr(name, text)
    return file.getvalue()


def make_zip(text: str, name: str = "a.csv") -> bytes:
    """An archive of one file."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, text)
    return file.getvalue()


def _make_epub(text: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:  # not deflated, so that a flip reaches the XML
        archive.writestr("META-INF/container.xml", '<container><rootfile full-path="o/p.opf"/></container>')
        item = '<item id="a" href="a%20b.xhtml" media-type="application/xhtml+xml"/>'
        archive.writestr("o/p.opf", f'<package>{item}<spine><itemref idref="a"/></spine></package>')
        archive.writestr("o/a b.xhtml", f"<html><body><p>{text}</p></body></html>")
    return file.getvalue()
