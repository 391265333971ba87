"""An article is a document without markup; other pages are counted."""

import bz2
import random
import sys
import time
from pathlib import Path

import pytest

from llmkit.config.prepare import Read
from llmkit.core.errors import DataError, EnvironmentFault
from llmkit.text.formats import mediawiki
from llmkit.text.readers import read_documents
from llmkit.text.sources import Source

mwparserfromhell = pytest.importorskip("mwparserfromhell")

HEAD = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" xml:lang="de"><siteinfo><namespaces>
<namespace key="0" case="first-letter"/><namespace key="6">Datei</namespace><namespace key="14">Kategorie</namespace>
</namespaces></siteinfo>"""
MARKUP = """{{Infobox|x=y}}'''Haus''' ({{lang|x}}) ist ein [[Gebäude|Gebaeude]],<ref>no</ref> [[Dach]].
[[Datei:x.jpg|mini|Bild [[y]]]]
== Teil ==
* eins
* zwei
{| class="x"
|-
| a || b
|}
[http://x.y Link] &amp; mehr [[Kategorie:Bau]] [[en:House]] __NOTOC__"""
TEXT = "Haus\n\nHaus ist ein Gebaeude, Dach.\n\nTeil\neins\nzwei\n\nLink & mehr\n"


def page(title: str, text: str, more: str = "", namespace: int = 0) -> str:
    text = text.replace("&", "&amp;").replace("<", "&lt;")
    return f"<page><title>{title}</title><ns>{namespace}</ns>{more}<revision><text>{text}</text></revision></page>"


DUMP = HEAD + page("Haus", MARKUP) + page("R", "#REDIRECT", '<redirect title="Haus"/>')
DUMP += page("Talk:Haus", "x", namespace=1) + page("Leer", "{{x}}") + page("Ende", "Schluss.") + "</mediawiki>"


def read(path: Path, data: bytes) -> tuple[list[str], Source]:
    path.write_bytes(data)
    sources: list[Source] = []
    return [document.text for document in read_documents([str(path)], Read(), sources)], sources[0]


@pytest.mark.parametrize("name", ["w.xml", "w.xml.bz2", "w.txt"])
def test_articles_are_documents_without_markup(tmp_path: Path, name: str) -> None:
    data = bz2.compress(DUMP.encode()) if name.endswith("2") else DUMP.encode()
    texts, source = read(tmp_path / name, data)
    assert texts == [TEXT, "Ende\n\nSchluss.\n"]
    assert source.skipped == {"redirect": 1, "page that is not an article": 1, "page without text": 1}


def test_templates_that_only_format_are_read_and_others_are_counted(tmp_path: Path) -> None:
    markup = (
        "{{Infobox|x={{y}}}}A {{convert|10|km|mi}} walk on {{lang|fr|la [[Loire]]}}, {{nowrap|5 m}} "
        "({{lang-de|Haus|a=b}}).{{sfn|A}} -{H|zh-cn:甲;zh-tw:乙}--{zh-hant:簡; zh-hans:简;}-字 -{原}-"
    )
    texts, source = read(tmp_path / "w.xml", (HEAD + page("A", markup) + "</mediawiki>").encode())
    assert texts == ["A\n\nA 10 km walk on la Loire, 5 m (Haus). 简字 原\n"]
    assert source.notes == {"templates are not expanded: the text that they display is left out": "number: 3"}


def test_dump_that_was_cut_off_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="damaged or cut off"):
        read(tmp_path / "w.xml", DUMP[:-20].encode())


@pytest.mark.parametrize("limit", [1000, 150_000])
def test_page_over_the_limit_is_skipped_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    """The parser gives a long text in pieces of 64 KB."""
    monkeypatch.setattr(mediawiki, "MAX_PAGE_CHARS", limit)
    pages = page("A", "x" * (limit + 1)) + page("B", "y" * limit)
    texts, source = read(tmp_path / "w.xml", (HEAD + pages + "</mediawiki>").encode())
    assert texts == [f"B\n\n{'y' * limit}\n"]
    assert dict(source.skipped) == {"page longer than MediaWiki allows": 1}


def test_missing_library_is_named_with_the_way_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mwparserfromhell", None)
    with pytest.raises(EnvironmentFault) as caught:
        read(tmp_path / "w.xml", DUMP.encode())
    assert "llmkit[web]" in caught.value.problems[0].hint


PIECES = [
    *("{{a}}", "{{a|b=c}}", "{{a|[[x|y]] z}}", "{{a|{{b|c}}}}", "{{{1}}}", "{{a\n|b=1\n}}", "{{a\nb}}", "{{#if:x|y}}"),
    *("<ref>r</ref>", "<ref name=x>r {{c|d}}</ref>", "<ref name='x' />", "<ref>a<br>b</ref>", "<!-- c -->", "''i''"),
    *(
        "[[L]]",
        "[[L|t]]",
        "[[ L ]]",
        "[[L|a|b]]",
        "[[Datei:x.jpg|mini|A [[b]] c]]",
        "[[Kategorie:Z]]",
        "[http://x.y z]",
    ),
    *(
        "\n== H ==\n",
        "\n* item\n",
        "\n: d\n",
        " word ",
        "中文",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "[[",
        "]]",
        "{{",
        "}}",
        "|",
        "=",
    ),
    *("{|\n|-\n| a || b\n|}\n", "<br/>", "&nbsp;", "<b>b</b>", "__TOC__", "<nowiki>{{x}} [[y]]</nowiki>", "\ufdd0"),
]


def test_markup_resolved_before_parsing_gives_the_same_text_as_the_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    chooser = random.Random(0)
    markups = ["".join(chooser.choices(PIECES, k=chooser.randint(2, 7))) for _ in range(1000)]
    texts = [mediawiki.to_text(markup, {"datei", "kategorie"}, mwparserfromhell) for markup in markups]
    monkeypatch.setattr(mediawiki, "_remove_simple", lambda markup: markup.replace("\ufdd0", ""))
    expected = [mediawiki.to_text(markup, {"datei", "kategorie"}, mwparserfromhell) for markup in markups]
    found = zip(markups, texts, expected, strict=True)
    # A link without a title, [[<ref/>]], is markup here and text for the parser.
    assert not [each for each in found if each[1].replace("[[]]", "") != each[2].replace("[[]]", "")]


@pytest.mark.parametrize(
    "markup", ["<!--", "{{a|", "{{a|b}}{{", "[[", "[[a|", "<ref ", "<ref>", "{{{", "<ref/>{{a}}", "<!---->"]
)
def test_a_page_of_open_marks_is_parsed_in_a_moment(markup: str) -> None:
    started = time.process_time()
    mediawiki._remove_simple(markup * 100_000)
    mediawiki._remove_simple("{{a|" * 100_000 + "}}" * 100_000)
    assert time.process_time() - started < 10


@pytest.mark.parametrize("mark", ["{{a|", "[[a|", "{{{a|", "{{a|b=[[c|"])
def test_page_that_is_nested_too_deeply_is_counted_in_a_moment(tmp_path: Path, mark: str) -> None:
    began = time.perf_counter()
    dump = HEAD + page("Tief", mark * 50_000) + page("Ende", "Schluss.") + "</mediawiki>"
    texts, source = read(tmp_path / "w.xml", dump.encode())
    assert texts == ["Ende\n\nSchluss.\n"]
    assert source.skipped["page that cannot be parsed"] == 1
    assert time.perf_counter() - began < 30, "half a second on a quiet machine; the parser alone takes hours"
