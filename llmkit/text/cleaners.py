"""Clean documents in named steps, part by part, counting what each step changed, removed or dropped.

A step takes the texts of one document's parts and yields them cleaned. A step whose pattern may span two parts
holds back the end of a part until the next one arrives. Every substitution is guarded by a cheap test, so a step
costs almost nothing on a text that does not need it.

STEPS has one line per step, in the order in which they run. Mojibake is repaired before control characters are
removed because mojibake contains some. Knows nothing of files and formats.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import chain

from llmkit.config.prepare import Clean, Quality
from llmkit.core.errors import DataError, EnvironmentFault
from llmkit.text.documents import (
    Document,
    StepCounts,
    combines_with_previous,
    emit_document,
    group_documents,
    mark_last,
    replay_texts,
)
from llmkit.text.gutenberg import strip_gutenberg
from llmkit.text.quality import find_broken_rule
from llmkit.text.scan import scan_text
from llmkit.text.whitespace import normalize_whitespace

Step = Callable[[Iterable[str], StepCounts], Iterator[str]]

_LINE_ENDS = re.compile("\r\n?|[\v\f\u2028\u2029]")
_CONTROL = re.compile("[\0-\x08\x0e-\x1f\x7f-\x9f\ufeff\ufffe\uffff\ufdd0-\ufdef\ud800-\udfff]")

# Mojibake: a UTF-8 lead byte and a continuation byte decoded as Latin-1 or Windows-1252, or UTF-8 punctuation decoded
# as Windows-1251, MacRoman or code page 437.
_PAIRS = ("вЂ", "‚Ä", "ΓÇ")
_SUSPICIOUS = re.compile("[\xc2-\xf4][\x80-\xbf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]|" + "|".join(_PAIRS))
_LEADS = frozenset(map(chr, range(0xC2, 0xF5)))
# A superset of the first kind as UTF-8 bytes: a pattern with a fixed first byte is searched at memory speed.
_LEAD_BYTES = re.compile(rb"\xc3[\x82-\xb4][\xc2\xc5\xc6\xcb\xe2]")


def clean_documents(
    documents: Iterable[Document], clean: Clean, strict: bool, counts: dict[str, StepCounts]
) -> Iterator[Document]:
    """Apply all steps that `clean` enables; `counts` gets one entry per step, in order, before the first document.

    With `strict` a control character raises a DataError that names the document. Cleaned texts contain no lone
    surrogates, so they can always be encoded.
    """
    steps = [(counts.setdefault(name, StepCounts()), step) for name, wanted, step in STEPS if wanted(clean)]
    quality_count = counts.setdefault("quality", StepCounts()) if clean.quality != Quality() else None
    empty_count = counts.setdefault("empty", StepCounts())

    def run() -> Iterator[Document]:  # a generator of its own, so that `counts` is filled at the call
        for first, texts in group_documents(documents):
            cleaned: Iterator[str] = _refuse_controls(texts, first) if strict else texts
            for count, step in steps:
                count.documents_in += 1
                count.documents_out += 1
                cleaned = step(cleaned, count)
            if quality_count is None:
                yield from _drop_empty(cleaned, first, empty_count)
                continue
            quality_count.documents_in += 1
            with replay_texts(cleaned) as replay:
                if broken_rule := find_broken_rule(replay(), clean.quality):
                    quality_count.dropped[broken_rule] += 1
                else:
                    quality_count.documents_out += 1
                    yield from _drop_empty(replay(), first, empty_count)

    return run()


def _drop_empty(texts: Iterable[str], first: Document, count: StepCounts) -> Iterator[Document]:
    """Yield the document unless all of its parts are white space."""
    count.documents_in += 1
    held: list[str] = []
    stream = iter(texts)
    for text in stream:
        held.append(text)
        if text and not text.isspace():
            count.documents_out += 1
            yield from emit_document(chain(held, stream), first)
            return
    count.dropped["nothing left after cleaning"] += 1


def fix_line_ends(text: str, removed: Counter[str]) -> str:
    """Replace every kind of line end, and form feeds, by one line feed."""
    scan = scan_text(text)
    marks = {mark for mark in "\r\v\f" if mark.encode() in scan.odd} | scan.others & {"\u2028", "\u2029"}
    if "\r" in marks:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _LINE_ENDS.sub("\n", text) if marks - {"\r"} else text


def remove_controls(text: str, removed: Counter[str]) -> str:
    """Remove control characters, byte order marks inside the text, lone surrogates and noncharacters."""
    if not _has_controls(text):
        return text
    removed.update(map(_name_control, _CONTROL.findall(text)))
    return _CONTROL.sub("", text.replace("\x85", "\n"))


def strip_punctuation(texts: Iterable[str], count: StepCounts) -> Iterator[str]:
    """Replace each run of punctuation, Chinese included, by one space, or by nothing at the ends of a line."""
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


def simplify_chinese(text: str, removed: Counter[str]) -> str:
    """Convert traditional Chinese to simplified, phrase by phrase (OpenCC t2s)."""
    return _simplifier()(text)


def _each_part(clean_text: Callable[[str, Counter[str]], str]) -> Step:
    """A step that cleans each part by itself."""

    def step(texts: Iterable[str], count: StepCounts) -> Iterator[str]:
        changed = False
        for text in texts:
            cleaned = clean_text(text, count.removed)
            changed = changed or (cleaned is not text and cleaned != text)
            yield cleaned
        count.changed += changed

    return step


def normalize_nfc(text: str, removed: Counter[str]) -> str:
    """Normalize to NFC."""
    return text if all(map(_is_nfc_stable, scan_text(text).others)) else unicodedata.normalize("NFC", text)


@cache
def _is_nfc_stable(char: str) -> bool:
    """Whether NFC never changes the character or its neighbours; False for all beyond the basic plane."""
    return char < "\U00010000" and not combines_with_previous(char) and unicodedata.is_normalized("NFC", char)


def normalize_nfkc(text: str, removed: Counter[str]) -> str:
    """Normalize to NFKC."""
    return unicodedata.normalize("NFKC", text)


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
    found = _SUSPICIOUS.search(text)
    if found is None:
        return text
    pieces: list[str] = []
    position = 0
    while found is not None:
        start = text.rfind("\n", position, found.start()) + 1 or position
        end = text.find("\n", found.end())
        end = len(text) if end < 0 else end
        line = text[start:end]
        repaired = _ftfy_fixer()(line)
        removed["broken lines"] += repaired != line
        pieces += (text[position:start], repaired)
        position = end
        found = _SUSPICIOUS.search(text, position)
    pieces.append(text[position:])
    return "".join(pieces)


@cache
def _ftfy_fixer() -> Callable[[str], str]:
    import ftfy

    config = ftfy.TextFixerConfig(
        unescape_html=False,
        remove_terminal_escapes=False,
        fix_latin_ligatures=False,
        fix_character_width=False,
        uncurl_quotes=False,
        fix_line_breaks=False,
        fix_surrogates=False,
        remove_control_chars=False,
        normalization=None,
        explain=False,
    )
    return lambda line: ftfy.fix_encoding(line, config)


STEPS: tuple[tuple[str, Callable[[Clean], bool], Step], ...] = (
    ("line ends", lambda clean: True, _each_part(fix_line_ends)),
    ("mojibake", lambda clean: clean.mojibake, _each_part(repair_mojibake)),
    ("controls", lambda clean: True, _each_part(remove_controls)),
    ("unicode NFC", lambda clean: clean.unicode == "NFC", _each_part(normalize_nfc)),
    ("unicode NFKC", lambda clean: clean.unicode == "NFKC", _each_part(normalize_nfkc)),
    ("gutenberg", lambda clean: clean.gutenberg, strip_gutenberg),
    ("whitespace", lambda clean: clean.whitespace, normalize_whitespace),
    ("lowercase", lambda clean: clean.lowercase, _each_part(lambda text, removed: text.lower())),
    ("punctuation", lambda clean: clean.strip_punctuation, strip_punctuation),
    ("simplified", lambda clean: clean.simplify_chinese, _each_part(simplify_chinese)),
)


def _has_controls(text: str) -> bool:
    return bool(_CONTROL.search("".join(scan_text(text).others)))


def _name_control(char: str) -> str:
    if char == "\0":
        return "NUL"
    if char == "\ufeff":
        return "byte order mark"
    if "\ud800" <= char <= "\udfff":
        return "lone surrogate"
    return "control character" if char < "\xa0" else "noncharacter"


def _refuse_controls(texts: Iterable[str], first: Document) -> Iterator[str]:
    n_before = 0
    for text in texts:
        if _has_controls(text) and (found := _CONTROL.search(text)):
            raise DataError(
                f"{_name_control(found[0])} U+{ord(found[0]):04X} in the text",
                where=f"{first.source}, document {first.index}, character {n_before + found.start()}",
                hint="remove it, or have such characters removed and counted: -s prepare.read.strict=false",
            )
        n_before += len(text)
        yield text


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


@cache
def _simplifier() -> Callable[[str], str]:
    try:
        import opencc
    except ImportError:
        raise EnvironmentFault(
            "simplify_chinese needs OpenCC",
            where="prepare.clean.simplify_chinese",
            hint="pip install 'llmkit[chinese]', or set it to false",
        ) from None
    convert: Callable[[str], str] = opencc.OpenCC("t2s").convert
    return convert
