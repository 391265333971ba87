"""Read .rtf as plain text, one document per file, by the Rich Text Format specification 1.9.1.

Characters are decoded by the code page of their font, so Chinese, Japanese and Cyrillic text is right, and surrogate
pairs of `\\u` are joined. Paragraphs are separated by a blank line, cells by tabs; footnotes come at the end. Not read:
page headers and footers, comments, hidden and deleted text, pictures, field codes, and list numbers.
"""

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from llmkit.config.prepare import Read
from llmkit.core.errors import DataError
from llmkit.text.documents import Document, make_documents
from llmkit.text.entries import Entry
from llmkit.text.formats.html_text import LOWERED, RAISED, translate_all
from llmkit.text.formats.xml_parsing import TextBuilder
from llmkit.text.sources import Source

_NON_ASCII = re.compile(rb"[\x80-\xff]+")
_EAST_ASIAN = re.compile(rb"\\ansicpg(?:932|936|949|950|1361)\b")
MAX_BYTES = 256_000_000
_MAX_DEPTH = 10_000
_TOKEN = re.compile(
    rb"\\(?P<word>[a-zA-Z]{1,32})(?P<number>-?\d{1,10})? ?|\\'(?P<hex>[0-9a-fA-F]{2})|\\(?P<symbol>[^a-zA-Z])"
    rb"|(?P<open>\{)|(?P<close>\})|[\r\n\0]+|(?P<text>[^\\{}\r\n\0]+)|(?P<stray>\\)",
    re.S,
)
_SKIPPED = frozenset((
    "colortbl", "stylesheet", "info", "pict", "header", "headerl", "headerr", "headerf", "footer", "footerl", "footerr",
    "footerf", "xe", "tc", "tcn", "rxe", "txe", "nonshppict", "fldinst", "objdata", "ftnsep", "ftnsepc", "ftncn",
    "aftnsep", "aftnsepc", "aftncn", "listtext", "pntext", "filetbl", "revtbl", "annotation", "atnid", "atnauthor",
    "bkmkstart", "bkmkend", "private", "template", "panose", "falt", "shpinst",
))  # fmt: skip
_CHARACTERS = {
    "emdash": "—", "endash": "–", "lquote": "‘", "rquote": "’", "ldblquote": "“", "rdblquote": "”", "bullet": "•",
    "emspace": " ", "enspace": " ", "qmspace": " ", "zwj": "\u200d", "zwnj": "\u200c", "ltrmark": "", "rtlmark": "",
}  # fmt: skip
_GAPS = {
    "par": "\n\n", "sect": "\n\n", "page": "\n\n", "line": "\n", "lbr": "\n", "softline": "\n", "column": "\n",
    "row": "\n", "nestrow": "\n", "tab": "\t", "cell": "\t", "nestcell": "\t",
}  # fmt: skip
_CHARSETS = {
    77: "mac_roman", 78: "cp932", 79: "cp949", 80: "gb18030", 81: "big5", 128: "cp932", 129: "cp949", 130: "johab",
    134: "gb18030", 136: "cp950", 161: "cp1253", 162: "cp1254", 163: "cp1258", 177: "cp1255", 178: "cp1256",
    186: "cp1257", 204: "cp1251", 222: "cp874", 238: "cp1250", 254: "cp437", 255: "cp437",
}  # fmt: skip
_CODE_PAGES = {936: "gb18030", 10000: "mac_roman", 10007: "mac_cyrillic", 65001: "utf-8", 1361: "johab"}
_SCRIPTS = {"super": RAISED, "sub": LOWERED}
_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")


@dataclass(frozen=True, slots=True)
class _Group:
    """State that a group, `{...}`, inherits from the enclosing group."""

    is_skipped: bool = False
    is_hidden: bool = False
    in_fonts: bool = False
    is_note: bool = False
    script: str = ""
    """`super` or `sub`."""
    codec: str = ""
    """Code page of the font; empty: the document's code page."""
    n_fallback: int = 1
    """Number of characters to skip after a `\\u`: the fallback for programs without Unicode."""


class _Reader:
    """Reads the text of one file."""

    def __init__(self, data: bytes, path: str) -> None:
        self._data = data
        self._path = path
        self._codec = "cp1252"
        self._fonts: dict[int, str] = {}
        self._font = -1
        self._waiting = bytearray()
        self._units: list[str] = []  # a list: a string would be copied for each Chinese character
        self._to_skip = 0
        self._main, self._notes = TextBuilder(), TextBuilder()
        self._group = _Group()
        self._outer: list[_Group] = []
        self._starred = False
        self.n_undecoded = 0

    def read(self) -> Iterator[str]:
        """Yield the text in pieces."""
        position, n_tokens = 0, 0
        while match := _TOKEN.match(self._data, position):
            position = match.end()
            token = match.lastgroup
            if token == "close":
                self._flush()
                if not self._outer:
                    break
                self._group, self._to_skip = self._outer.pop(), 0
                if not self._outer:
                    break
            elif token == "open":
                self._flush()
                self._outer.append(self._group)
                self._to_skip = 0
                if len(self._outer) > _MAX_DEPTH:
                    raise self._error(f"groups are nested more than {_MAX_DEPTH:,} deep")
            elif token in ("word", "number"):
                position = self._take_word(match["word"].decode(), match["number"], position)
            elif token:
                self._take_characters(token, match[token])
            n_tokens += 1
            if n_tokens % 10_000 == 0:
                yield self._main.take()
        self._flush()
        if self._outer:
            raise self._error("the file is cut off: a group is not closed")
        self._main.gap("\n\n")
        self._main.add(self._notes.take())
        yield self._main.finish()

    def _error(self, what: str) -> DataError:
        hint = "fetch or save the file again, or skip it with --skip-bad"
        return DataError(f"not valid rich text: {what}", where=self._path, hint=hint)

    def _take_characters(self, token: str, data: bytes) -> None:
        if token == "symbol" and data == b"*":
            self._starred = True
            return
        starred, self._starred = self._starred, False
        if starred:
            self._skip_group()
        if self._group.is_skipped:
            return
        if token == "hex":
            data = bytes.fromhex(data.decode())
        elif token == "symbol":
            data = {b"\\": b"\\", b"{": b"{", b"}": b"}", b"_": b"-"}.get(data, data if data in b"~\r\n\t" else b"")
        n_skipped = min(self._to_skip, len(data))
        self._to_skip -= n_skipped
        data = data[n_skipped:]
        if token == "symbol" and data in (b"~", b"\r", b"\n", b"\t"):
            self._flush()
            if data == b"~":
                self._add("\u00a0")
            else:
                self._sink.gap("\t" if data == b"\t" else "\n\n")
        else:
            self._waiting += data

    def _take_word(self, word: str, digits: bytes | None, position: int) -> int:
        """Process a control word; returns the position of the next token."""
        self._flush(keep_units=word == "u")
        starred, self._starred = self._starred, False
        number = None if digits is None else int(digits)
        if word == "bin":
            return position + max(0, number or 0)
        if self._to_skip and word != "u":  # the fallback of a `\u` may be a control word
            self._to_skip -= 1
            return position
        if word == "shptxt":
            self._group = replace(self._group, is_skipped=False)
        elif word == "fonttbl":
            self._group = replace(self._group, is_skipped=True, in_fonts=True)
        elif starred or word in _SKIPPED:
            self._skip_group()
        elif self._group.in_fonts:
            self._note_font(word, number or 0)
        elif not self._group.is_skipped:
            self._act(word, number)
        return position

    def _skip_group(self) -> None:
        self._group = replace(self._group, is_skipped=True)

    def _note_font(self, word: str, number: int) -> None:
        if word == "f":
            self._font = number
        elif word == "fcharset" and number in _CHARSETS:
            self._fonts[self._font] = _CHARSETS[number]
        elif word == "cpg":
            self._fonts[self._font] = _find_codec(number)

    def _act(self, word: str, number: int | None) -> None:
        if word == "u":
            if not self._group.is_hidden:
                self._units.append(chr((number or 0) % 65536))
            self._to_skip = self._group.n_fallback
        elif word == "uc":
            self._group = replace(self._group, n_fallback=min(1000, max(0, number if number is not None else 1)))
        elif word in _CHARACTERS:
            self._add(_CHARACTERS[word])
        elif word in _GAPS:
            self._sink.gap(_GAPS[word])
        elif word == "f":
            self._group = replace(self._group, codec=self._fonts.get(number or 0, ""))
        elif word in ("v", "deleted"):
            self._group = replace(self._group, is_hidden=number != 0)
        elif word == "plain":
            self._group = replace(self._group, is_hidden=False, script="", codec="")
        elif word in ("super", "sub", "nosupersub"):
            self._group = replace(self._group, script="" if number == 0 or word == "nosupersub" else word)
        elif word == "footnote":
            self._notes.gap("\n\n")
            self._group = replace(self._group, is_note=True)
        elif word == "ansicpg":
            self._codec = _find_codec(number or 0)
        elif word in ("mac", "pc", "pca"):
            self._codec = {"mac": "mac_roman", "pc": "cp437", "pca": "cp850"}[word]

    @property
    def _sink(self) -> TextBuilder:
        return self._notes if self._group.is_note else self._main

    def _add(self, text: str) -> None:
        if not self._group.is_hidden:
            self._sink.add(translate_all(text, _SCRIPTS.get(self._group.script, {})))

    def _flush(self, *, keep_units: bool = False) -> None:
        """Decode the collected bytes; the first half of a surrogate pair is kept until the second half follows."""
        if self._waiting or not keep_units:
            units, self._units = "".join(self._units), []
            self._sink.add(_PAIR.sub(_join_pair, units))
        if self._waiting:
            data = bytes(self._waiting)
            self._waiting.clear()
            try:
                text = data.decode(self._group.codec or self._codec)
            except UnicodeDecodeError:
                # Text in a font without a code page may be Western although the document's code page is not.
                text = data.decode(self._group.codec or "cp1252", "replace")
                self.n_undecoded += "\ufffd" in text
            self._add(text)


def _join_pair(match: re.Match[str]) -> str:
    return match[0].encode("utf-16-le", "surrogatepass").decode("utf-16-le")


def _find_codec(code_page: int) -> str:
    name = _CODE_PAGES.get(code_page, f"cp{code_page}")
    try:
        codecs.lookup(name)
        return name
    except LookupError:
        return "cp1252"


def _escape_utf8(data: bytes) -> bytes:
    """Escape raw UTF-8 as `\\u`, because some programs write UTF-8, which the RTF specification does not allow."""
    if data.isascii() or _EAST_ASIAN.search(data[:4096]):
        return data
    try:
        data.decode()
    except UnicodeDecodeError:
        return data

    def escape(match: re.Match[bytes]) -> bytes:
        units = match[0].decode().encode("utf-16-le")
        numbers = [int.from_bytes(units[n : n + 2], "little", signed=True) for n in range(0, len(units), 2)]
        return b"{\\uc0" + b"".join(b"\\u%d " % number for number in numbers) + b"}"

    return _NON_ASCII.sub(escape, data.removeprefix(codecs.BOM_UTF8))


def read_rtf(entry: Entry, source: Source, read: Read) -> Iterator[Document]:
    """Yield the text of an .rtf file as one document."""
    with entry.open(source) as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        what = f"a single document of more than {MAX_BYTES:,} bytes"
        raise DataError(what, where=entry.path, hint="save it as .txt, which is read in parts")
    reader = _Reader(_escape_utf8(data), entry.path)
    if not data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{\\rtf"):
        raise reader._error("it does not begin with {\\rtf")
    yield from make_documents(reader.read(), entry.path, 0, read.max_doc_chars)
    if reader.n_undecoded:
        source.skip("characters not in the code page of their font", entry.path)
