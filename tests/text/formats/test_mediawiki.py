"""An article is a document without markup, and what is no article is counted."""

import bz2
import sys
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
    assert source.skipped == {"redirect": 1, "page that is no article": 1, "page without text": 1}


def test_dump_that_was_cut_off_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="damaged or cut off"):
        read(tmp_path / "w.xml", DUMP[:-20].encode())


def test_page_longer_than_any_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mediawiki, "MAX_PAGE_CHARS", 1000)
    texts, source = read(tmp_path / "w.xml", (HEAD + page("A", "x" * 1001) + page("B", "y") + "</mediawiki>").encode())
    assert (texts, sum(source.skipped.values())) == (["B\n\ny\n"], 1)


def test_missing_library_is_named_with_the_way_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mwparserfromhell", None)
    with pytest.raises(EnvironmentFault) as caught:
        read(tmp_path / "w.xml", DUMP.encode())
    assert "llmkit[web]" in caught.value.problems[0].hint
