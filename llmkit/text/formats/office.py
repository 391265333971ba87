"""Read .docx (Word) and .odt (OpenDocument) as plain text, one document per file, without a library and in constant
memory.

Paragraphs are separated by a blank line, the rows of a table are lines, and its cells are separated by tabs. Text boxes
are read where they are anchored, and footnotes and endnotes at the end. Superscript and subscript numbers become
Unicode characters (m²), and formulas of .docx are written in a line, as in html_text.py. Not read: page headers,
comments, deleted and hidden text, the readings of ruby, and list numbers, which are not stored as text.
"""

import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO, NamedTuple

from llmkit.config.prepare import Read
from llmkit.core.errors import DataError
from llmkit.text.documents import Document, make_documents
from llmkit.text.entries import Entry
from llmkit.text.formats.archives import check_zip_sizes, open_archive, open_member
from llmkit.text.formats.html_text import LOWERED, RAISED, bracket, translate_all
from llmkit.text.formats.xml_parsing import TextBuilder, parse_xml
from llmkit.text.sources import Source

_OFF = ("0", "false", "off", "none")


class _Target:
    """Collects the text of paragraphs and tables; a subclass gives the names of the XML elements."""

    SKIPPED: frozenset[str]
    PARAGRAPHS: tuple[str, ...]
    CELL: str
    GAPS: Mapping[str, str]
    """Gaps after rows and tables."""

    def __init__(self, text: TextBuilder) -> None:
        self._text = text
        self._n_skipped = self._n_cells = 0

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        if self._n_skipped or self.is_skipped(name, attributes):
            self._n_skipped += 1
        else:
            self._n_cells += name == self.CELL
            self.open(name, attributes)

    def end(self, name: str) -> None:
        if self._n_skipped:
            self._n_skipped -= 1
            return
        self.close(name)
        if name in self.PARAGRAPHS:
            self._text.gap(" " if self._n_cells else "\n\n")
        elif name == self.CELL:
            self._n_cells -= 1
            self._text.gap("\t")
        elif name in self.GAPS:
            self._text.gap(self.GAPS[name])

    def is_skipped(self, name: str, attributes: Mapping[str, str]) -> bool:
        return name in self.SKIPPED

    def open(self, name: str, attributes: Mapping[str, str]) -> None:
        raise NotImplementedError

    def close(self, name: str) -> None:
        raise NotImplementedError


class _Word(_Target):
    """Collects the text of word/document.xml, word/footnotes.xml and word/endnotes.xml.

    The names of elements are those of WordprocessingML (ECMA-376, part 1, section 17).
    """

    SKIPPED = frozenset((
        "pPr", "sectPr", "tblPr", "trPr", "tcPr", "tblGrid", "del", "moveFrom", "instrText", "delText", "Fallback",
        "rt",
    ))  # fmt: skip
    PARAGRAPHS, CELL, GAPS = ("p",), "tc", {"tr": "\n", "tbl": "\n\n"}
    _BREAKS: Mapping[str, str] = {"br": "\n", "cr": "\n", "tab": "\t", "ptab": "\t"}
    _SCRIPTS: Mapping[str, Mapping[str, str]] = {"superscript": RAISED, "subscript": LOWERED}
    _MATH: Mapping[str, str] = {"sup": "^{}", "sub": "_{}", "num": "{}", "den": "/{}", "rad": "√{}", "d": "({})"}

    def __init__(self, text: TextBuilder) -> None:
        super().__init__(text)
        self._in_text = self._is_hidden = False
        self._script: Mapping[str, str] = {}
        self._formulas: list[TextBuilder] = []
        """Builders of the text around the open parts of a formula."""

    def is_skipped(self, name: str, attributes: Mapping[str, str]) -> bool:
        is_separator = name in ("footnote", "endnote") and attributes.get("type", "normal") != "normal"
        return is_separator or super().is_skipped(name, attributes)

    def open(self, name: str, attributes: Mapping[str, str]) -> None:
        if name == "t":
            self._in_text = True
        elif name == "r":
            self._is_hidden, self._script = False, {}
        elif name == "vertAlign":
            self._script = self._SCRIPTS.get(attributes.get("val", ""), {})
        elif name == "vanish":
            self._is_hidden = attributes.get("val", "1") not in _OFF
        elif name in self._MATH:
            self._formulas.append(self._text)
            self._text = TextBuilder()
        elif name in self._BREAKS:
            self._text.gap(self._BREAKS[name])
        elif name == "noBreakHyphen":
            self._add("-")

    def close(self, name: str) -> None:
        if name == "t":
            self._in_text = False
        elif name in self._MATH and self._formulas:
            term, self._text = self._text.take(), self._formulas.pop()
            script = translate_all(term, {"sup": RAISED, "sub": LOWERED}.get(name, {}))
            if script != term:
                self._add(script)
            elif term:
                self._add(self._MATH[name].format(term if name == "d" else bracket(term)))

    def data(self, text: str) -> None:
        if self._in_text and not self._n_skipped:
            self._add(translate_all(text, self._script))

    def _add(self, text: str) -> None:
        if not self._is_hidden:
            self._text.add(text)


class _TextStyle(NamedTuple):
    """The properties of a text style that change the text."""

    script: Mapping[str, str] | None
    """Characters of superscript or subscript numbers; empty: neither; None: as in the enclosing text."""
    is_hidden: bool


_PLAIN = _TextStyle(None, False)


class _OpenDocument(_Target):
    """Collects the text of content.xml; element names are those of OpenDocument 1.3, part 3, sections 5, 6 and 9."""

    SKIPPED = frozenset(["tracked-changes", "annotation", "annotation-end", "note-citation", "ruby-text", "forms"])
    PARAGRAPHS, CELL, GAPS = ("p", "h"), "table-cell", {"table-row": "\n", "table": "\n\n"}

    def __init__(self, text: TextBuilder, styles: dict[str, _TextStyle] | None = None) -> None:
        super().__init__(text)
        self._main = text
        self._notes = TextBuilder()
        self._n_paragraphs = 0
        """Number of open paragraphs."""
        self._space = True
        self._styles = {} if styles is None else styles
        """Text styles by name; styles precede the text."""
        self._style = ""
        self._spans: list[_TextStyle] = []
        self._outer: tuple[int, list[_TextStyle]] = (0, [])
        """Number of open paragraphs, and the open spans, where the note began."""

    def open(self, name: str, attributes: Mapping[str, str]) -> None:
        if name in self.PARAGRAPHS:
            self._n_paragraphs += 1
            self._space = True
        elif name == "span":
            style = self._styles.get(attributes.get("style-name", ""), _PLAIN)
            outer = self._spans[-1] if self._spans else _PLAIN
            script = outer.script if style.script is None else style.script
            self._spans.append(_TextStyle(script, style.is_hidden or outer.is_hidden))
        elif name == "s":
            self._add(" " * min(1000, int(count) if (count := attributes.get("c", "1")).isdigit() else 1))
        elif name == "tab":
            self._add("\t")
        elif name == "line-break":
            self._add("\n")
        elif name == "note":
            self._text, self._outer = self._notes, (self._n_paragraphs, self._spans)
            self._n_paragraphs, self._spans = 0, []
        elif name == "style":
            self._style = attributes.get("name", "") if attributes.get("family") == "text" else ""
            self._styles[self._style] = self._styles.get(attributes.get("parent-style-name", ""), _PLAIN)
        elif name == "text-properties" and self._style:
            self._styles[self._style] = _read_style(attributes, self._styles[self._style])

    def close(self, name: str) -> None:
        if name in self.PARAGRAPHS:
            self._n_paragraphs -= 1
        elif name == "span" and self._spans:
            self._spans.pop()
        elif name == "style":
            self._style = ""
        elif name == "note":
            self._text, self._space = self._main, False
            self._n_paragraphs, self._spans = self._outer
        elif name == "body":
            self._main.gap("\n\n")
            self._main.add(self._notes.take())

    def data(self, text: str) -> None:
        style = self._spans[-1] if self._spans else _PLAIN
        if self._n_paragraphs and not self._n_skipped and not style.is_hidden:
            text = re.sub(r"[ \t\r\n]+", " ", text)  # spaces to keep are `text:s` elements
            self._add(translate_all(text.removeprefix(" ") if self._space else text, style.script or {}))

    def _add(self, text: str) -> None:
        self._text.add(text)
        self._space = text.endswith(" ") if text else self._space


def _read_style(attributes: Mapping[str, str], inherited: _TextStyle) -> _TextStyle:
    """Return the text style that these properties define; `text-position` is `super 58%` or `-33% 58%`, say."""
    position = attributes.get("text-position", "")
    script = inherited.script
    if position:
        is_raised = position.startswith(("super", *"123456789"))
        script = RAISED if is_raised else LOWERED if position.startswith(("sub", "-")) else {}
    display = attributes.get("display", "")
    return _TextStyle(script, display == "none" if display else inherited.is_hidden)


def read_docx(entry: Entry, source: Source, read: Read) -> Iterator[Document]:
    """Yield the text of a .docx file as one document."""
    yield from _read(entry, source, read, _word_text)


def read_odt(entry: Entry, source: Source, read: Read) -> Iterator[Document]:
    """Yield the text of an .odt file as one document."""
    yield from _read(entry, source, read, _open_document_text)


def _read(
    entry: Entry, source: Source, read: Read, to_text: Callable[[zipfile.ZipFile, str], Iterator[str]]
) -> Iterator[Document]:
    with entry.open_seekable(source) as file, open_archive(file) as archive:
        check_zip_sizes(archive, source.n_bytes)
        yield from make_documents(to_text(archive, entry.path), entry.path, 0, read.max_doc_chars)


def _word_text(archive: zipfile.ZipFile, path: str) -> Iterator[str]:
    names = [name for name in archive.namelist() if re.fullmatch(r"word/document\d*\.xml", name)]
    if not names:
        raise _bad_document("word/document.xml is missing", path)
    text = TextBuilder()
    parts = [names[0], *(name for name in ("word/footnotes.xml", "word/endnotes.xml") if name in archive.namelist())]
    for name in parts:
        text.gap("\n\n")
        with _open_part(archive, name, path) as part:
            for _ in parse_xml(part, _Word(text), f"{path}!{name}"):
                yield text.take()
    yield text.finish()


def _open_document_text(archive: zipfile.ZipFile, path: str) -> Iterator[str]:
    if "META-INF/manifest.xml" in archive.namelist():
        with _open_part(archive, "META-INF/manifest.xml", path) as part:
            if b"encryption-data" in part.read(1 << 20):
                what = "this is an OpenDocument text with a password"
                raise DataError(what, where=path, hint="save it without the password, or skip it with --skip-bad")
    styles: dict[str, _TextStyle] = {}
    if "styles.xml" in archive.namelist():
        page = TextBuilder()  # headers and footers of pages, which are not read
        with _open_part(archive, "styles.xml", path) as part:
            for _ in parse_xml(part, _OpenDocument(page, styles), f"{path}!styles.xml"):
                page.take()
    text = TextBuilder()
    with _open_part(archive, "content.xml", path) as part:
        for _ in parse_xml(part, _OpenDocument(text, styles), f"{path}!content.xml"):
            yield text.take()
    yield text.finish()


def _open_part(archive: zipfile.ZipFile, name: str, path: str) -> BinaryIO:
    try:
        return open_member(archive, archive.getinfo(name))
    except KeyError:
        raise _bad_document(f"{name} is missing", path) from None


def _bad_document(problem: str, path: str) -> DataError:
    what = f"not a valid document: {problem}"
    return DataError(what, where=path, hint="open and save it again, or skip it with --skip-bad")
