"""Convert an HTML or XHTML page to its visible text.

Left out: scripts, styles, the head, media, drawings, form fields and lists of choices; `noscript`, elements hidden by
`hidden`, by `display: none` or `visibility: hidden` in their style, and closed dialogs, unless nothing else is left;
readings of ruby (`rt`, `rp`; the base stays); soft hyphens; marks that link to a footnote; page numbers of a printed
edition. Style sheets are not applied.

Entities are decoded. Block elements become lines with a blank line between paragraphs, `br` is a newline and two of
them a blank line, table cells are separated by a space, and `pre` keeps its lines, spaces and tabs. Superscript and
subscript numbers become the Unicode characters for them (`m<sup>2</sup>` is m², `H<sub>2</sub>O` is H₂O), so they
are not joined to the preceding number. MathML is written in a line: x², x^n, x_i, (a+b)/2, √(x+1).
"""

import html
import re
from collections.abc import Mapping
from typing import Any

from llmkit.core.errors import DataError

# Noncharacters mark what is kept when white space is collapsed: newlines, spaces and tabs.
_LINE, _PARAGRAPH, _SPACE, _TAB, _KEPT_LINE, _BREAK = "\ufdd0", "\ufdd1", "\ufdd2", "\ufdd3", "\ufdd4", "\ufdd5"
_MARKERS = re.compile("[\ufdd0-\ufdd5]")
_KEPT_BLANKS = str.maketrans({"\n": _KEPT_LINE, " ": _SPACE, "\t": _TAB})
_BLANKS = str.maketrans({_KEPT_LINE: "\n", _SPACE: " ", _TAB: "\t", "\xad": None})

_PARAGRAPH_TAGS = (
    "p,h1,h2,h3,h4,h5,h6,blockquote,ul,ol,dl,menu,dir,table,pre,xmp,listing,plaintext,section,article,figure,hr"
)
_LINE_TAGS = (
    "div,li,tr,dt,dd,header,footer,main,aside,nav,address,figcaption,caption,form,fieldset,legend,center,details,"
    "summary,hgroup,search,dialog,optgroup,option,mtr"
)
_CELL_TAGS = "td,th,mtd"
_PRE_TAGS = "pre,xmp,listing,plaintext"
_UNSEEN = [
    *["head", "script", "style", "template", "iframe", "object", "svg", "audio", "video", "canvas"],
    *["textarea", "select", "datalist", "rt", "rp", "rtc", "annotation", "annotation-xml"],
]
_HIDDEN_STYLE = re.compile(r"(?:^|;)\s*(?:display\s*:\s*none|visibility\s*:\s*(?:hidden|collapse))(?![\w-])", re.I)
_STYLE_DETAILS = re.compile(r"/\*.*?\*/|\burl\([^)]*\)|\"[^\"]*\"|'[^']*'", re.S)
_NOTE_NAME = re.compile(
    r"note-?ref|fn-?(?:ref|anchor)|footnote|endnote|cite_ref|^reference$|^fn\d*$|^ftnref|doc-(?:noteref|backlink)", re.I
)
_PAGE_NUMBER = re.compile(r"^(?:x-ebookmaker-)?page-?(?:num|no|number|break)$|^doc-pagebreak$", re.I)
_MAX_MARK = 12
_SINGLE_TERM = re.compile(r"\([^()]*\)|\d[\d.,]*|.[²³¹⁰-₎]*")
_CLOSING = frozenset(".,;:!?…\"'”’»›)]}。，、；：！？」』）】》।۔؟،")
_NOTE_TARGET = re.compile(r"#[\w:.-]*(?:note|fn|ftn|cite|ref)", re.I)
_NOTE_MARK = re.compile(r"[\[(]?(?:\d{1,3}|[a-z]|[ivxl]{1,5}|note \d{1,3}|[*†‡§¶#]{1,3})[\])]?|[↩↑^]\ufe0e?", re.I)
RAISED = dict(zip("0123456789+-−=()ni", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾ⁿⁱ", strict=True))
LOWERED = dict(zip("0123456789+-−=()", "₀₁₂₃₄₅₆₇₈₉₊₋₋₌₍₎", strict=True))

_VOID_TAGS = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
_MAX_DEPTH = 20_000  # parsing time is quadratic in the depth: half a second at the limit, hours for a hostile page
_MAX_ATTRIBUTES = 10_000  # parsing time is also quadratic in the number of attributes
_LONG_TAG = re.compile(r"<[A-Za-z][^<>]{20000}[^<>]*")
_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")
_TAG = re.compile(r"<(/?)([A-Za-z][\w:-]*)")
_OPTIONAL_END_TAGS = {*["p", "li", "dt", "dd", "tr", "td", "th", "thead", "tbody", "tfoot", "option", "a"], *_VOID_TAGS}
# (?=(group*))\2 is possessive: with backtracking, a run of spaces without /> would take exponential time. Python 3.11.0
# to 3.11.4 match group*+ wrongly (CPython issue 106052).
_SELF_CLOSED = re.compile(r"""<([A-Za-z][\w:.-]*+)(?=((?:[^<>"'/]|/(?!>)|"[^"<]*"|'[^'<]*')*))\2/>""")
_CDATA = re.compile(r"<!\[CDATA\[(.*?)\]\]>", re.S)


def html_to_text(page: str, where: str = "the page") -> str:
    """Return the text of an HTML or XHTML page. Raises DataError, located at `where`, if parsing would take hours."""
    from selectolax.lexbor import LexborHTMLParser

    _check_depth(page, where)
    page = _MARKERS.sub("", page)
    if "<?xml" in page[:200] or "XHTML" in page[:500] or "/1999/xhtml" in page[:2000]:
        # An HTML parser reads <title/> as an opening tag, so the whole book would be its title, and CDATA as a comment.
        page = _SELF_CLOSED.sub(_close_tag, page)
        page = _CDATA.sub(lambda match: html.escape(match[1]), page)
    body: Any = None
    for with_hidden in (False, True):
        tree = LexborHTMLParser(page)
        tree.strip_tags(_UNSEEN if with_hidden else [*_UNSEEN, "noscript"], recursive=True)
        body = tree.body
        if body is None:
            return ""
        if not with_hidden:
            _remove_hidden(body)
        if body.text().strip():
            break  # otherwise the page is hidden until a script runs, so hidden elements are kept
    _write_math(body)
    _resolve_scripts(body)
    for node in reversed(body.css("q")):
        node.insert_before("“")
        node.insert_after("”")
    _keep_lines(body)
    for node in body.css("br"):
        node.replace_with(_BREAK)
    for tags, marker in ((_PARAGRAPH_TAGS, _PARAGRAPH), (_LINE_TAGS, _LINE), (_CELL_TAGS, " ")):
        for node in body.css(tags):
            node.insert_before(marker)
            node.insert_after(marker)
    text = body.text(separator="")
    text = re.sub(r"[ \t\n\r\f]+", " ", text)
    markers = f"{_LINE}{_PARAGRAPH}{_BREAK}"
    text = re.sub(f" *[{markers}][ {markers}]*", _end_lines, text)
    text = text.strip("\n ").translate(_BLANKS)
    return text + "\n" if text else ""


def _check_depth(page: str, where: str) -> None:
    """Raise DataError if elements are nested too deep or have too many attributes, so that parsing would take hours."""
    for tag in _LONG_TAG.finditer(page):
        if len(_QUOTED.sub("", tag[0]).split()) > _MAX_ATTRIBUTES:
            what = f"an element has more than {_MAX_ATTRIBUTES:,} attributes"
            raise DataError(what, where=where, hint="correct the page, or skip it with --skip-bad")
    if page.count("<") <= _MAX_DEPTH:
        return
    depth = 0
    for end, name in _TAG.findall(page):
        if name.lower() not in _OPTIONAL_END_TAGS:
            depth = max(0, depth - 1) if end else depth + 1
            if depth > _MAX_DEPTH:
                what = f"elements are nested more than {_MAX_DEPTH:,} deep"
                raise DataError(what, where=where, hint="correct the page, or skip it with --skip-bad")


def _end_lines(match: re.Match[str]) -> str:
    """Return a newline or a blank line for a sequence of markers; a `br` on an empty line makes a blank line."""
    run = match[0].replace(" ", "")
    on_empty_line = run.count(_BREAK) - run.startswith(_BREAK)
    return "\n\n" if on_empty_line or _PARAGRAPH in run else "\n"


def _remove_hidden(body: Any) -> None:
    """Remove hidden elements, except a hidden body: on many pages a script makes it visible."""
    # Children come first, as an element must not be used once its parent was removed.
    for node in reversed(body.css("[hidden],[style],dialog")):
        attributes = node.attributes
        closed = node.tag == "dialog" and "open" not in attributes
        style = _STYLE_DETAILS.sub("", attributes.get("style") or "")
        if node.tag != "body" and (closed or "hidden" in attributes or _HIDDEN_STYLE.search(style)):
            node.decompose()


def _resolve_scripts(body: Any) -> None:
    """Remove footnote marks and page numbers, and convert other superscripts and subscripts to Unicode characters."""
    for node in reversed(body.css("[class],[role],[epub\\:type]")):
        # Read the text last, because it may be the text of the whole page.
        if any(map(_PAGE_NUMBER.search, _names(node))) and len((node.text() or "").strip()) <= _MAX_MARK:
            node.decompose()
    for node in reversed(body.css("a,sup,sub")):
        mark = (node.text() or "").strip()
        is_note = node.tag != "sub" and len(mark) <= _MAX_MARK and _NOTE_MARK.fullmatch(mark) and _is_note(node)
        if is_note:
            node.decompose()
        elif node.tag != "a" and mark:
            characters = RAISED if node.tag == "sup" else LOWERED
            has_digit = any(map(str.isdigit, mark)) and "[" not in mark
            if has_digit or all(char in characters for char in mark):
                node.replace_with("".join(characters.get(char, char) for char in mark))


_MATH = {
    **dict.fromkeys(["msup", "mover"], "{}^{}"),
    "msub": "{}_{}",
    "msubsup": "{}_{}^{}",
    "munder": "{}_{} ",
    "munderover": "{}_{}^{} ",
    "mfrac": "{}/{}",
    "msqrt": "√{}",
    "mroot": "{}^(1/{})",
}
_CHARACTERS = {"msup": RAISED | {"′": "′", "″": "″", "*": "*"}, "msub": LOWERED, "mover": {"¯": "¯", "~": "~"}}


def _write_math(body: Any) -> None:
    """Replace fractions, roots, superscripts and subscripts of MathML with text in a line."""
    for node in reversed(body.css(",".join(["mfenced", *_MATH]))):  # inner elements first
        parts = [text for child in node.iter(include_text=True) if (text := "".join((child.text() or "").split()))]
        if node.tag == "msqrt":
            parts = ["".join(parts)]
        if node.tag == "mfenced":
            text = f"({','.join(parts)})"
        elif len(parts) != _MATH[node.tag].count("{}"):
            text = "".join(parts)
        elif node.tag in _CHARACTERS and all(char in _CHARACTERS[node.tag] for char in parts[1]):
            text = bracket(parts[0], is_base=True) + translate_all(parts[1], _CHARACTERS[node.tag])
        else:
            is_base = node.tag not in ("mfrac", "msqrt")
            first, *others = parts
            text = _MATH[node.tag].format(bracket(first, is_base=is_base), *map(bracket, others))
        node.replace_with(text)


def translate_all(text: str, characters: Mapping[str, str]) -> str:
    """Replace each character by its value in `characters`; returns the text unchanged if one has no value."""
    return "".join(map(characters.__getitem__, text)) if all(char in characters for char in text) else text


def bracket(term: str, *, is_base: bool = False) -> str:
    """Put a term of a formula in brackets, unless it is a number, one character, or already in brackets.

    The character may have a superscript or subscript. With `is_base`, a word, to which a script is added, gets no
    brackets either.
    """
    return term if _SINGLE_TERM.fullmatch(term) or (is_base and term.isalnum()) else f"({term})"


def _names(node: Any) -> list[str]:
    """Return the names that describe the element: classes, id, role, epub:type and rel."""
    attributes = node.attributes
    names = (attributes.get("class") or "").split()
    return names + [name for key in ("id", "role", "epub:type", "rel") if (name := attributes.get(key))]


def _is_note(node: Any) -> bool:
    """Whether an element with a short mark refers to a footnote, judged by its names or the target of its link."""
    if any(map(_NOTE_NAME.search, _names(node))):
        return True
    links = node.css("a[href]")
    if node.tag == "sup":
        # A superscript number that links to another place in the page or book is a note, even if no class says so.
        links += [node.parent] if node.parent is not None and node.parent.tag == "a" else []
        targets = [link.attributes.get("href") or "" for link in links]
        return any("#" in target for target in targets)
    in_sup = node.parent is not None and node.parent.tag == "sup"
    target = node.attributes.get("href") or ""
    return "#" in target if in_sup else bool(_NOTE_TARGET.search(target)) and _follows_text(node)


def _follows_text(node: Any) -> bool:
    """Whether an element directly follows a word, a number, or punctuation that ends a sentence or quotation."""
    before = node.prev
    text = before.text(deep=True) if before is not None else ""
    return text[-1:].isalnum() or text[-1:] in _CLOSING


def _keep_lines(body: Any) -> None:
    """Replace newlines, spaces and tabs of preformatted text with noncharacters, so that they are kept."""
    for node in body.css("pre br,xmp br,listing br"):
        node.replace_with("\n")
    for node in reversed(body.css(_PRE_TAGS)):
        kept = (node.text() or "").strip("\n").translate(_KEPT_BLANKS)
        node.replace_with(_PARAGRAPH + kept + _PARAGRAPH)


def _close_tag(match: re.Match[str]) -> str:
    return match[0] if match[1].lower() in _VOID_TAGS else f"<{match[1]}{match[2]}></{match[1]}>"
