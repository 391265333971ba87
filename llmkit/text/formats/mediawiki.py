"""Read dumps of Wikipedia and other MediaWikis (.xml, .xml.bz2) with mwparserfromhell (extra: web).

Each article is a document: its title, a blank line, and its text without markup. Redirects, talk and help pages, and
pages that are not wikitext are skipped and counted. Templates, tables, references, images, categories and links to
other languages are removed from articles. Links to images and categories are recognized by the English names of their
namespaces and by those that the dump declares. Templates are not expanded, so numbers and foreign words that a template
would display are missing.

Only one page is in memory at a time.
"""

import html
import re
from collections.abc import Iterator, Mapping
from typing import Any

from llmkit.config.prepare import Read
from llmkit.core.errors import EnvironmentFault
from llmkit.text.documents import Document, make_documents
from llmkit.text.entries import Entry
from llmkit.text.formats.xml_parsing import parse_xml
from llmkit.text.sources import Source

MAX_PAGE_CHARS = 4_000_000
"""Limit on the text of a page; Wikipedia itself refuses pages of over 2 MB."""
_FILE, _CATEGORY = "6", "14"
_DROPPED_NAMES = {"file", "image", "media", "category"}
_DROPPED_TAGS = frozenset((
    "ref", "references", "table", "gallery", "timeline", "imagemap", "graph", "score", "templatestyles", "section",
    "noinclude", "maplink", "mapframe", "categorytree", "inputbox", "templatedata", "math", "chem", "ce", "style",
))  # fmt: skip
_LANGUAGE = re.compile(r":?[a-z]{2,3}(-[a-z]+)?:")
_MAGIC_WORD = re.compile(r"__[^\W\d_]{3,30}__")
_QUOTES = re.compile(r"'{5}|'{3}|'{2}")
_EMPTY_BRACKETS = re.compile(r" ?[(（][ ,;:，；、]*[)）]")
_OPEN_BRACKET = re.compile(r"([(（])[ ,;，；]+")
_TABLE_REST = re.compile(r"^\s*(?:\{\||\|\}|\|-|[|!](?=\s)).*$", re.M)
_LINE_BEGIN = re.compile(r"^[*#:;]*[ \t]+|^[*#:;]+", re.M)
_TRAILING_SPACES = re.compile(r"(?<=\S)[ \t]+$|^[ \t]+$", re.M)
_REPEATED_SPACES = re.compile(r"(?<=\S)  +")
_BLANK_LINES = re.compile(r"\n{3,}")


# Parsing takes most of the time, so comments, templates, references and links of a simple form are resolved before it.
# A noncharacter replaces each, or encloses the text of a link, so that the markup before and after is not joined.
_PLACE, _LINK = "\ufdd0", "\ufdd1"
_MAX_DEPTH = 500
_BRACKETS = re.compile(r"\{\{|\}\}|\[\[|\]\]")
_MAX_NESTED = 10
_PLACES = str.maketrans(dict.fromkeys((_PLACE, _LINK)))
_VERBATIM = re.compile(r"<\s*/?(?:nowiki|pre|source|syntaxhighlight|code|math|score|includeonly|onlyinclude)\b", re.I)
_COMMENT = re.compile(r"<!--.*?-->", re.S)
_SIMPLE_TEMPLATE = re.compile(
    r"(?<!\{)\{\{[^{}\[\]<>|\n#]+(?:\|(?:[^{}\[\]<>]|\[\[[^{}\[\]<>\n|]+(?:\|[^{}\[\]<>\n]*)?\]\])*)?\}\}"
    r"(?!\}(?:\}\})*(?:[^}]|\Z))"
)
_INLINE_TEMPLATE = re.compile(
    r"\{\{ ?(?:(?:lang|transl|transliteration) ?\|[^{}\[\]|=\n]{2,20}|lang-[a-z-]{2,12}|nowrap|nobr|small|big) ?"
    r"\|((?:[^{}\[\]|=]|\[\[[^{}\[\]\n]*\]\])+)(?:\|[^{}\[\]|]*){0,3}\}\}",
    re.I,
)
_QUANTITY = re.compile(r"\{\{ ?(?:convert|cvt) ?\|([\d.,]+)\|([^{}\[\]|=\n]{1,20})(?:\|[^{}\[\]]*)?\}\}", re.I)
_VARIANTS = re.compile(r"-\{(?:([A-Z-]{1,3})\|)?([^{}]*)\}-")
_VARIANT = re.compile(r"\s*(zh[a-z-]*)\s*:\s*(.*)", re.S)
_READ_VARIANTS = ("zh-hans", "zh-cn", "zh")
_SIMPLE_LINK = re.compile(r"(?<!\[)\[\[(?:[^{}\[\]<>|\n#&:]+\|)?([^{}\[\]<>|\n#&:=]+)\]\](?!\])")
_SIMPLE_REFERENCE = re.compile(r"<ref(?:\s[^<>{}/]*)?>[^<>{}]*</ref>|<ref\s[^<>{}]*/>")


class _Pages:
    """Collects the pages of a dump; element names follow MediaWiki's export format 0.11."""

    def __init__(self, source: Source, path: str) -> None:
        self._source = source
        self._path = path
        self._field = ""
        self._pieces: list[str] = []
        self._n_chars = 0
        self._page: dict[str, str] = {}
        self._namespace = ""
        self.dropped = set(_DROPPED_NAMES)
        self.pages: list[tuple[str, str]] = []

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        if name in ("title", "ns", "text", "model", "namespace"):
            self._field, self._pieces, self._n_chars = name, [], 0
            self._namespace = attributes.get("key", "")
        elif name == "page":
            self._page = {}
        elif name == "redirect":
            self._page["redirect"] = "yes"

    def end(self, name: str) -> None:
        if name == self._field:
            text, self._field = "".join(self._pieces), ""
            if name == "namespace":
                if self._namespace in (_FILE, _CATEGORY) and text:
                    self.dropped.add(text.strip().lower())
            elif name != "model" or name not in self._page:
                self._page[name] = text  # if a page has several revisions, the last one is kept
        elif name == "page":
            self._take_page()

    def data(self, text: str) -> None:
        if self._field:
            kept = text[: MAX_PAGE_CHARS + 1 - self._n_chars]  # one more than allowed, so that _take_page skips it
            self._n_chars += len(kept)
            self._pieces.append(kept)

    def _take_page(self) -> None:
        page, self._page = self._page, {}
        if page.get("ns", "0") != "0":
            self._source.skipped["page that is not an article"] += 1
        elif "redirect" in page:
            self._source.skipped["redirect"] += 1
        elif page.get("model", "wikitext") != "wikitext":
            self._source.skipped["page that is not wikitext"] += 1
        elif len(page.get("text", "")) > MAX_PAGE_CHARS:
            self._source.skip("page longer than MediaWiki allows", f"{self._path}, {page.get('title', '')}")
        else:
            self.pages.append((page.get("title", ""), page.get("text", "")))


def read_dump(entry: Entry, source: Source, read: Read) -> Iterator[Document]:
    """Yield the articles of a dump."""
    try:
        import mwparserfromhell
    except ImportError:
        hint = "pip install 'llmkit[web]', or extract the text of the dump with another program"
        raise EnvironmentFault("reading a MediaWiki dump needs mwparserfromhell", where=entry.path, hint=hint) from None
    with entry.open(source) as file:
        target, index, n_templates = _Pages(source, entry.path), 0, 0
        for _ in parse_xml(file, target, entry.path):
            for title, raw in target.pages:
                markup = _resolve_inline(raw)
                n_templates += markup.count("{{")
                try:
                    text = to_text(markup, target.dropped, mwparserfromhell)
                except (mwparserfromhell.parser.ParserError, RecursionError, ValueError):
                    source.skip("page that cannot be parsed", f"{entry.path}, {title}")
                    text = ""
                if text:
                    yield from make_documents([f"{title}\n\n{text}\n"], entry.path, index, read.max_doc_chars)
                else:
                    source.skipped["page without text"] += 1
                index += 1
            target.pages.clear()
    if n_templates:
        source.notes["templates are not expanded: the text that they display is left out"] = f"number: {n_templates:,}"
    source.encoding = "utf-8"


def _resolve_inline(markup: str) -> str:
    """Replace each template that only formats text with that text, and Chinese variants with the simplified one."""
    if "{{" in markup:
        markup = _QUANTITY.sub(r"\1 \2", _INLINE_TEMPLATE.sub(r"\1", markup))
    return _VARIANTS.sub(_choose_variant, markup) if "-{" in markup else markup


def _choose_variant(found: re.Match[str]) -> str:
    if found[1] in ("H", "T"):  # rules for the page and its title, which are not displayed
        return ""
    variants = {each[1]: each[2] for part in found[2].split(";") if (each := _VARIANT.fullmatch(part))}
    return next((variants[name] for name in (*_READ_VARIANTS, *variants) if name in variants), found[2])


def to_text(markup: str, dropped: set[str], parser: Any) -> str:
    """Return the text of a page, without links to pages in the namespaces `dropped` (names in lower case)."""
    markup = _remove_simple(markup)
    if _depth(markup) > _MAX_DEPTH:
        raise ValueError("the markup is nested too deeply")  # parsing it would take quadratic time
    code = parser.parse(markup, skip_style_tags=True)
    text = "".join(_render(code, dropped, parser.nodes)).translate(_PLACES)
    text = _TABLE_REST.sub("", _QUOTES.sub("", _MAGIC_WORD.sub("", text)))
    text = _OPEN_BRACKET.sub(r"\1", _EMPTY_BRACKETS.sub("", _LINE_BEGIN.sub("", text)))
    text = _REPEATED_SPACES.sub(" ", _TRAILING_SPACES.sub("", text))
    return _BLANK_LINES.sub("\n\n", text).strip()


def _depth(markup: str) -> int:
    """Return the maximum nesting depth of templates and links."""
    depth = deepest = 0
    for found in _BRACKETS.finditer(markup):
        depth = depth + 1 if found[0] in ("{{", "[[") else max(0, depth - 1)
        deepest = max(deepest, depth)
    return deepest


def _remove_simple(markup: str) -> str:
    """Remove comments, templates and references from the markup, and replace links with their text, except those that
    need the parser.
    """
    if _PLACE in markup or _LINK in markup:
        markup = markup.translate(_PLACES)
    if _VERBATIM.search(markup):
        return markup
    end = markup.rfind("-->") + 3  # searching the end of each of many unclosed comments takes quadratic time
    markup = _COMMENT.sub(_PLACE, markup[:end]) + markup[end:] if end > 2 else markup
    for _ in range(_MAX_NESTED):
        markup, n_templates = _SIMPLE_TEMPLATE.subn(_PLACE, markup)
        if not n_templates:
            break
    markup = _SIMPLE_REFERENCE.sub(_PLACE, markup)
    return _SIMPLE_LINK.sub(lambda link: f"{_LINK}{link[1] if '|' in link[0] else link[1].strip()}{_LINK}", markup)


def _render(code: Any, dropped: set[str], nodes: Any) -> Iterator[str]:
    """Yield the visible text of the nodes of parsed markup."""
    for node in code.nodes if code is not None else ():
        if isinstance(node, nodes.Text):
            yield str(node.value)
        elif isinstance(node, nodes.Wikilink):
            yield from _render_link(node, dropped, nodes)
        elif isinstance(node, nodes.Heading):
            yield from _render(node.title, dropped, nodes)
        elif isinstance(node, nodes.ExternalLink):
            yield from _render(node.title if node.brackets else node.url, dropped, nodes)
        elif isinstance(node, nodes.Template) and _LINK in str(node.name) and not node.params:
            yield "{{"  # MediaWiki displays braces around a link
            yield from _render(node.name, dropped, nodes)
            yield "}}"
        elif isinstance(node, nodes.HTMLEntity):
            yield html.unescape(str(node))
        elif isinstance(node, nodes.Tag):
            name = str(node.tag).strip().lower()
            if name == "br":
                yield "\n"
            elif name not in _DROPPED_TAGS:
                yield from _render(node.contents, dropped, nodes)


def _render_link(node: Any, dropped: set[str], nodes: Any) -> Iterator[str]:
    title = str(node.title).strip()
    if _LINK in title:  # MediaWiki and the parser do not treat a link whose title contains a link as a link
        yield "[["
        yield from _render(node.title, dropped, nodes)
        if node.text is not None:
            yield "|"
            yield from _render(node.text, dropped, nodes)
        yield "]]"
        return
    namespace, colon, _ = title.partition(":")
    if colon and namespace.strip().lower() in dropped:
        return
    if node.text is not None:
        yield from _render(node.text, dropped, nodes)
    elif not _LANGUAGE.match(title):  # [[de:Haus]]: the same article in another language
        yield title.removeprefix(":")
