"""HTML and EPUB: visible text is read, hidden text is not, and hostile archives are refused."""

import re
import zipfile
from pathlib import Path

import pytest

from llmkit.config.prepare import Read
from llmkit.core.errors import DataError
from llmkit.text.formats.html_text import html_to_text
from llmkit.text.formats.markup import decode_page
from llmkit.text.readers import read_documents
from llmkit.text.sources import Source

PAGE = """<!doctype html><html><head><title>No</title><style>p { color: red }</style><script>var no = 1;</script></head>
<body><h1>第一章&nbsp;Caf&eacute;</h1><p>One  <b>bold</b>
word &lt;tag&gt; &#20320;.<br>Second line</p><script>no()</script><ul><li>a</li><li>b</li></ul>
<pre>def f():
    return 1
</pre><table><tr><td>x</td><td>y</td></tr><tr><td>1</td><td>2</td></tr></table><!-- no --></body></html>"""
SEEN = "第一章\xa0Café\n\nOne bold word <tag> 你.\nSecond line\n\na\nb\n\ndef f():\n    return 1\n\nx y\n1 2\n"

CONTAINER = '<container><rootfiles><rootfile full-path="OPS/book.opf"/></rootfiles></container>'
PACKAGE = """<?xml version="1.0"?><package xmlns="http://www.idpf.org/2007/opf"><manifest>
<item id="n" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>
<item id="b" href="text/two.xhtml" media-type="application/xhtml+xml"/>
<item id="a" href="text/one%20%E4%B8%80.xhtml" media-type="application/xhtml+xml"/>
<item id="i" href="cover.jpg" media-type="image/jpeg"/></manifest>
<spine><itemref idref="i"/><itemref idref="n"/><itemref idref="a"/><itemref idref="b"/></spine></package>"""


def chapter(text: str) -> str:
    return f'<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><head><title/></head><body>{text}</body></html>'


def write_epub(path: Path, **changed: str) -> None:
    members = {
        "META-INF/container.xml": CONTAINER,
        "OPS/book.opf": PACKAGE,
        "OPS/nav.xhtml": chapter("<p>contents</p>"),
        "OPS/text/one 一.xhtml": chapter('<p>第一<a id="x"/>回</p><script src="x"/>'),
        "OPS/text/two.xhtml": chapter("<p>second &amp; last</p>"),
    } | changed
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)


def read_one(path: Path, **options: object) -> tuple[str, Source]:
    sources: list[Source] = []
    documents = list(read_documents([str(path)], Read(**options), sources))  # type: ignore[arg-type]
    assert [document.last for document in documents] == [True]
    return documents[0].text, sources[0]


def test_a_page_becomes_the_lines_that_are_seen() -> None:
    assert html_to_text(PAGE) == SEEN


@pytest.mark.parametrize("page", ["", "<p>", "<html></html>", "<script>only</script>"])
def test_a_page_without_text_is_empty(page: str) -> None:
    assert html_to_text(page) == ""


def test_a_page_of_a_thousand_nested_elements_is_read() -> None:
    assert html_to_text("<div>" * 1000 + "deep" + "</div>" * 1000) == "deep\n"


@pytest.mark.parametrize("codec", ["utf-8", "utf-16", "gb18030", "big5"])
def test_a_page_is_the_same_from_every_encoding(tmp_path: Path, codec: str) -> None:
    (tmp_path / "a.html").write_bytes("<p>從前有一個國家，國王沒有兒子，大臣們都不知道應當怎麼辦。</p>".encode(codec))
    assert read_one(tmp_path / "a.html")[0] == "從前有一個國家，國王沒有兒子，大臣們都不知道應當怎麼辦。\n"


def test_a_page_that_declares_its_encoding_is_believed_where_the_bytes_allow_it(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_bytes('<meta charset="iso-8859-2"><p>Příliš žluťoučký kůň</p>'.encode("iso-8859-2"))
    assert read_one(tmp_path / "a.html")[0] == "Příliš žluťoučký kůň\n"
    (tmp_path / "b.html").write_bytes('<meta charset="iso-8859-1"><p>中文网页</p>'.encode())
    assert read_one(tmp_path / "b.html")[0] == "中文网页\n"


def test_chapters_that_a_book_lacks_are_reported_and_a_book_without_any_is_refused(tmp_path: Path) -> None:
    write_epub(
        tmp_path / "a.epub", **{"OPS/book.opf": PACKAGE.replace('<itemref idref="b"/>', '<itemref idref="gone"/>')}
    )
    text, source = read_one(tmp_path / "a.epub")
    assert text and source.notes == {
        "chapters that the spine lists but the EPUB does not contain are left out": "number: 1, first 'gone'"
    }
    write_epub(tmp_path / "b.epub", **{"OPS/book.opf": re.sub("<itemref[^>]*>", "", PACKAGE)})
    with pytest.raises(DataError, match="its spine, the order of the chapters, is empty"):
        read_one(tmp_path / "b.epub")


def test_a_book_is_one_document_in_the_order_of_its_spine(tmp_path: Path) -> None:
    write_epub(tmp_path / "a.epub")
    text, source = read_one(tmp_path / "a.epub")
    assert text == "第一回\n\nsecond & last\n\n"
    assert (source.documents, source.n_bytes) == (1, (tmp_path / "a.epub").stat().st_size)


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"META-INF/container.xml": '<!DOCTYPE c [<!ENTITY a "aaaa">]><c>&a;</c>'}, "entities"),
        ({"META-INF/container.xml": "<container/>"}, "names no package file"),
        ({"META-INF/container.xml": CONTAINER.replace("OPS/book.opf", "../../etc/passwd")}, "missing in the archive"),
        ({"OPS/book.opf": PACKAGE.replace("two.xhtml", "../../../two.xhtml")}, "missing in the archive"),
        ({"OPS/book.opf": "<package>"}, "is not XML"),
        (
            {"META-INF/encryption.xml": '<e><d><CipherReference URI="OPS/text/two.xhtml"/></d></e>'},
            "this is an EPUB encrypted with DRM",
        ),
    ],
)
def test_a_book_that_is_broken_or_hostile_is_an_error(tmp_path: Path, changed: dict[str, str], problem: str) -> None:
    write_epub(tmp_path / "a.epub", **changed)
    with pytest.raises(DataError, match=problem):
        read_one(tmp_path / "a.epub")


def test_file_that_is_not_a_zip_archive_is_refused_as_an_epub(tmp_path: Path) -> None:
    (tmp_path / "a.epub").write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match="not a zip file"):
        read_one(tmp_path / "a.epub")


def test_a_declared_encoding_that_makes_control_characters_is_not_trusted() -> None:
    page = f'<html><head><meta charset="iso-8859-2"></head><body>{"Paní šla domů, kůň žral seno. " * 5}</body></html>'
    assert decode_page(page.encode("cp1250"), "auto", "a.html") == (page, "cp1250")


@pytest.mark.parametrize(("declared", "codec"), [("windows-1251", "koi8-r"), ("iso-8859-5", "cp1251")])
def test_a_declared_encoding_that_makes_unlikely_text_is_not_trusted(declared: str, codec: str) -> None:
    text = "Когда мы пришли к реке, было уже темно. " * 5
    page = f'<html><head><meta charset="{declared}"></head><body>{text}</body></html>'
    assert decode_page(page.encode(codec), "auto", "a.html") == (page, codec)
    assert decode_page(page.encode(declared), "auto", "a.html") == (page, declared)


def test_a_declaration_that_is_no_charset_is_not_trusted() -> None:
    page = '<html><head><meta charset="unicode_escape"></head><body>Größe in C:\\temp und C:\\neu</body></html>'
    assert decode_page(page.encode("cp1252"), "auto", "a.html")[0] == page


RUSSIAN = "Паром пересекает реку на рассвете, и фонари горят на причале. Никто не знает, где стоит лодка. "


def test_a_charset_that_the_page_declares_wrongly_is_noted_with_a_line(tmp_path: Path) -> None:
    page = f'<html><head><meta charset="iso-8859-2"></head><body><p>{RUSSIAN * 4}</p></body></html>'
    (tmp_path / "a.html").write_bytes(page.encode("cp1251"))
    sources: list[Source] = []
    [document] = read_documents([str(tmp_path / "a.html")], Read(), sources)
    assert document.text.startswith(RUSSIAN[:20])
    [(what, example)] = sources[0].notes.items()
    assert what.startswith("declares iso-8859-2")
    assert example.startswith("cp1251: ")
    assert RUSSIAN[:20] in example


def test_an_unlikely_encoding_that_the_user_names_is_noted_for_a_page_too(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_bytes(f"<html><body><p>{RUSSIAN * 4}</p></body></html>".encode("cp1251"))
    sources: list[Source] = []
    list(read_documents([str(tmp_path / "a.html")], Read(encoding="cp1252"), sources))
    assert any("is more likely" in what for what in sources[0].notes)


def test_an_element_of_very_many_attributes_is_refused_and_a_long_one_is_read(tmp_path: Path) -> None:
    for name, attributes in (("a", " ".join(f'a{n}="x"' for n in range(100_000))), ("b", f'd="{"M 0 0 " * 50_000}"')):
        (tmp_path / f"{name}.html").write_text(f"<p {attributes}>Hello</p>")
    with pytest.raises(DataError, match="more than 10,000 attributes"):
        list(read_documents([str(tmp_path / "a.html")], Read(), []))
    assert [document.text for document in read_documents([str(tmp_path / "b.html")], Read(), [])] == ["Hello\n"]
