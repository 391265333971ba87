"""Change characters: line endings, mojibake, control characters, Unicode forms, width, case, script, punctuation.

Functions with a parameter `removed` use it to count the items that they remove. Every substitution is guarded by a
cheap test, so it costs almost nothing on a text that does not need it. Independent of documents or recipes.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, partial
from typing import Any

from llmkit.core.errors import DataError, EnvironmentFault
from llmkit.text.documents import Document, StepCounts, combines_with_previous, mark_last
from llmkit.text.scan import scan_text

LINE_ENDS = re.compile("\r\n?|[\v\f\u2028\u2029]")
_CONTROL = re.compile(
    "\x1b\\[[0-?]*[ -/]*[@-~]|[\0-\x08\x0e-\x1f\x7f-\x9f\ufeff\ufffe\uffff\ufdd0-\ufdef\ud800-\udfff]"
)

# Mojibake: a UTF-8 lead byte and a continuation byte decoded as Latin-1 or Windows-1252, or UTF-8 punctuation decoded
# as Windows-1251, MacRoman or code page 437.
_PAIRS = ("вЂ", "‚Ä", "ΓÇ")
_SUSPICIOUS = re.compile("[\xc2-\xf4][\x80-\xbf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]|" + "|".join(_PAIRS))
_LEADS = frozenset(map(chr, range(0xC2, 0xF5)))
# Matches all pairs of the first kind, and others, in UTF-8: a pattern with a fixed first byte is searched at memory
# speed.
_LEAD_BYTES = re.compile(rb"\xc3[\x82-\xb4][\xc2\xc5\xc6\xcb\xe2]")


def fix_line_ends(text: str) -> str:
    """Replace every kind of line ending, and form feeds, with one line feed."""
    scan = scan_text(text)
    marks = {mark for mark in "\r\v\f" if mark.encode() in scan.odd} | scan.others & {"\u2028", "\u2029"}
    if "\r" in marks:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return LINE_ENDS.sub("\n", text) if marks - {"\r"} else text


def remove_controls(text: str, removed: Counter[str]) -> str:
    """Remove control characters, byte order marks inside the text, lone surrogates and noncharacters.

    The control character U+0085 (next line) becomes a line feed.
    """
    if not _has_controls(text):
        return text
    removed.update(map(_name_control, _CONTROL.findall(text)))
    return _CONTROL.sub("", text.replace("\x85", "\n"))


def _has_controls(text: str) -> bool:
    return bool(_CONTROL.search("".join(scan_text(text).others)))


def _name_control(found: str) -> str:
    char = found[0]
    if len(found) > 1:
        return "terminal escape"
    if char == "\0":
        return "NUL"
    if char == "\ufeff":
        return "byte order mark"
    if "\ud800" <= char <= "\udfff":
        return "lone surrogate"
    return "control character" if char < "\xa0" else "noncharacter"


def refuse_controls(texts: Iterable[str], first: Document) -> Iterator[str]:
    """Pass the texts of a document through; a control character raises a DataError that names its position."""
    n_before = 0
    for text in texts:
        if _has_controls(text) and (found := _CONTROL.search(text)):
            raise DataError(
                f"{_name_control(found[0])} U+{ord(found[0][0]):04X} in the text",
                where=f"{first.source}, document {first.index}, character {n_before + found.start()}",
                hint="remove it, or have such characters removed and counted: -s prepare.read.strict=false",
            )
        n_before += len(text)
        yield text


def normalize_nfc(text: str) -> str:
    """Normalize to NFC."""
    return text if all(map(_is_nfc_stable, scan_text(text).others)) else unicodedata.normalize("NFC", text)


@cache
def _is_nfc_stable(char: str) -> bool:
    """Whether NFC never changes the character or its neighbours; False for all above U+FFFF."""
    return char < "\U00010000" and not combines_with_previous(char) and unicodedata.is_normalized("NFC", char)


def normalize_width(text: str) -> str:
    """Normalize to NFC, and write full-width letters, digits and spaces as ASCII; punctuation is kept."""
    text = normalize_nfc(text)
    return text if scan_text(text).others.isdisjoint(_FULL_WIDTH) else text.translate(ASCII_OF_FULL_WIDTH)


ASCII_OF_FULL_WIDTH = {code: code - 0xFEE0 for code in map(ord, "０１２３４５６７８９")}
ASCII_OF_FULL_WIDTH |= {code: code - 0xFEE0 for start in (0xFF21, 0xFF41) for code in range(start, start + 26)}
ASCII_OF_FULL_WIDTH[0x3000] = 0x20
_FULL_WIDTH = frozenset(map(chr, ASCII_OF_FULL_WIDTH))


def normalize_nfkc_keep_cjk(text: str) -> str:
    """Normalize to NFKC, but keep Chinese punctuation that NFKC would convert to ASCII."""
    return _NO_CJK_MARK.sub(lambda match: unicodedata.normalize("NFKC", match[0]), text)


KEPT_CJK_MARKS = "！（），：；？［］｛｝～…‥"
_NO_CJK_MARK = re.compile(f"[^{KEPT_CJK_MARKS}]+")


UNICODE_FORMS: Mapping[str, Callable[[str], str]] = {
    "NFC": normalize_nfc,
    "width": normalize_width,
    "NFKC": partial(unicodedata.normalize, "NFKC"),
    "NFKC_keep_cjk": normalize_nfkc_keep_cjk,
}
"""The values of prepare.clean.unicode, except none."""


def simplify_chinese(text: str) -> str:
    """Convert traditional Chinese to simplified, phrase by phrase (OpenCC t2s)."""
    return _load_converter().convert(text)  # type: ignore[no-any-return]  # OpenCC has no types


@cache
def _load_converter() -> Any:
    try:
        import opencc
    except ImportError:
        raise EnvironmentFault(
            "simplify_chinese needs OpenCC",
            where="prepare.clean.simplify_chinese",
            hint="pip install 'llmkit[chinese]', or set prepare.clean.simplify_chinese to false",
        ) from None
    return opencc.OpenCC("t2s")


def repair_mojibake(text: str, removed: Counter[str]) -> str:
    """Repair text that was decoded with a wrong encoding (mojibake); `removed["broken lines"]` counts the lines.

    ftfy decides and repairs; widths, quotes, ligatures and entities stay as they are. ftfy is slow, so it gets only
    the lines in which a pair of characters looks like a UTF-8 sequence read as another encoding; correct Chinese or
    French text has almost none. GBK read as Latin-1 and replacement characters are not repaired.
    """
    scan = scan_text(text)
    has_lead = not scan.others.isdisjoint(_LEADS) and _LEAD_BYTES.search(scan.utf8)
    if not has_lead and not any(scan.others.issuperset(pair) and pair in text for pair in _PAIRS):
        return text
    if not _SUSPICIOUS.search(text):
        return text
    import ftfy

    lines = text.split("\n")
    for number, line in enumerate(lines):
        if _SUSPICIOUS.search(line):
            lines[number] = ftfy.fix_encoding(line)
            removed["broken lines"] += lines[number] != line
    return "\n".join(lines)


def strip_punctuation(texts: Iterable[str], count: StepCounts) -> Iterator[str]:
    """Replace each run of punctuation, Chinese included, with one space, or remove it at the ends of a line."""
    marks, pattern = _punctuation()
    carried = ""
    changed = False
    for text, last in mark_last(texts):
        text = carried + text
        # The replacement of a run depends on the visible characters on both sides, so the last visible character is
        # used as context here and carried to the next part.
        end = len(text) if last else max(0, len(text.rstrip(marks + " \t\n")) - 1)
        stripped = pattern.sub(_space_between_words, text[: end + 1])
        carried = text[end:]
        if not last:
            stripped = stripped[:-1] if end else ""
        changed = changed or stripped != text[:end]
        yield stripped
    count.changed += changed


def _space_between_words(match: re.Match[str]) -> str:
    text = match.string
    start, end = match.span()
    return " " if start > 0 and text[start - 1] != "\n" and text[end : end + 1] not in ("", "\n") else ""


@cache
def _punctuation() -> tuple[str, re.Pattern[str]]:
    marks = "".join(
        char
        for code in range(0x10000)
        if unicodedata.category(char := chr(code)).startswith("P")
        or (len(plain := unicodedata.normalize("NFKC", char)) == 1 and plain in "$+<=>^`|~")
    )
    mark = "[" + re.escape(marks) + "]"
    return marks, re.compile(rf"[ \t]*{mark}(?:[ \t]|{mark})*")
