"""Clean documents in named steps, part by part, counting what each step changed, removed or dropped.

A step takes the texts of one document's parts and gives them back cleaned; one that needs to see across the
edge of two parts holds a little back. A step costs next to nothing on a text that does not need it: a cheap
test on the whole text comes before every substitution.

One line in STEPS for each step; the order there is the order in which they run. Mojibake comes before control
characters because they are part of it. Knows nothing of files and formats.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import chain

from llmkit.config.prepare import Clean
from llmkit.core.errors import DataError, EnvironmentFault
from llmkit.text.documents import (
    Document,
    StepCounts,
    emit_document,
    group_documents,
    joins_what_is_before,
    mark_last,
    replay_texts,
)
from llmkit.text.gutenberg import strip_gutenberg
from llmkit.text.quality import find_fault, has_rules
from llmkit.text.scan import scan_text
from llmkit.text.whitespace import tidy_whitespace

Fix = Callable[[str, Counter[str]], str]
Step = Callable[[Iterable[str], StepCounts], Iterator[str]]

_LINE_ENDS = re.compile("\r\n?|[\v\f\u2028\u2029]")
_CONTROL = re.compile("[\0-\x08\x0e-\x1f\x7f-\x9f\ufeff\ufffe\uffff\ufdd0-\ufdef\ud800-\udfff]")
# A UTF-8 lead byte as Latin-1 or Windows-1252 shows it, then a continuation byte; then UTF-8 punctuation as
# Windows-1251, MacRoman and code page 437 show it.
_PAIRS = ("вЂ", "‚Ä", "ΓÇ")
_SUSPICIOUS = re.compile("[\xc2-\xf4][\x80-\xbf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]|" + "|".join(_PAIRS))
_LEADS = frozenset(map(chr, range(0xC2, 0xF5)))
# The same in UTF-8, a little wider: a search with a fixed beginning runs at memory speed.
_LEAD_BYTES = re.compile(rb"\xc3[\x82-\xb4][\xc2\xc5\xc6\xcb\xe2]")


def clean_documents(
    documents: Iterable[Document], clean: Clean, strict: bool, counts: dict[str, StepCounts]
) -> Iterator[Document]:
    """Documents after all steps that `clean` asks for; `counts` gets one entry a step, in their order.

    With `strict` a control character is a DataError that names the document. Texts that come out have no lone
    surrogates, so they can always be encoded.
    """
    steps = [(counts.setdefault(name, StepCounts()), step) for name, wanted, step in STEPS if wanted(clean)]
    of_quality = counts.setdefault("quality", StepCounts()) if has_rules(clean.quality) else None
    emptied = counts.setdefault("empty", StepCounts())

    def run() -> Iterator[Document]:  # so that the counts are there, in order, before the first document is read
        for first, texts in group_documents(documents):
            cleaned: Iterator[str] = _refuse_controls(texts, first) if strict else texts
            for count, step in steps:
                count.documents_in += 1
                count.documents_out += 1
                cleaned = step(cleaned, count)
            if of_quality is None:
                yield from _drop_empty(cleaned, first, emptied)
                continue
            of_quality.documents_in += 1
            with replay_texts(cleaned) as replay:
                if fault := find_fault(replay(), clean.quality):
                    of_quality.dropped[fault] += 1
                else:
                    of_quality.documents_out += 1
                    yield from _drop_empty(replay(), first, emptied)

    return run()


def _drop_empty(texts: Iterable[str], first: Document, count: StepCounts) -> Iterator[Document]:
    """The document, unless all its parts together are white space."""
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
    """Every kind of line end is one line feed; a form feed is one too."""
    scan = scan_text(text)
    marks = {mark for mark in "\r\v\f" if mark.encode() in scan.odd} | scan.others & {"\u2028", "\u2029"}
    if "\r" in marks:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _LINE_ENDS.sub("\n", text) if marks - {"\r"} else text


def remove_controls(text: str, removed: Counter[str]) -> str:
    """Without control characters, marks of byte order inside the text, lone surrogates and noncharacters."""
    if not _has_controls(text):
        return text
    removed.update(map(_name_control, _CONTROL.findall(text)))
    return _CONTROL.sub("", text.replace("\x85", "\n"))


def fold_case(text: str, removed: Counter[str]) -> str:
    """Lower case."""
    return text.lower()


def strip_punctuation(texts: Iterable[str], count: StepCounts) -> Iterator[str]:
    """Each run of punctuation, Chinese too, is one space; none at the ends of a line."""
    marks, pattern = _punctuation()
    carried = ""
    changed = False
    for text, last in mark_last(texts):
        text = carried + text
        # What a run at the edge becomes depends on the visible characters on both sides of it, so the last one
        # is shown to this part and kept for the next.
        end = len(text) if last else max(0, len(text.rstrip(marks + " \t\n")) - 1)
        shown, carried = text[: end + 1], text[end:]
        stripped = pattern.sub(_put_space, shown)
        if not last:
            stripped = stripped[:-1] if end else ""
        changed = changed or stripped != text[:end]
        yield stripped
    count.changed += changed


def _put_space(match: re.Match[str]) -> str:
    text = match.string
    start, end = match.span()
    return " " if start > 0 and text[start - 1] != "\n" and text[end : end + 1] not in ("", "\n") else ""


def simplify_chinese(text: str, removed: Counter[str]) -> str:
    """Traditional Chinese characters become simplified ones, phrase by phrase (OpenCC t2s)."""
    return _simplifier()(text)


def _each_part(fix: Fix) -> Step:
    """A step that does the same to each part."""

    def step(texts: Iterable[str], count: StepCounts) -> Iterator[str]:
        changed = False
        for text in texts:
            fixed = fix(text, count.removed)
            changed = changed or (fixed is not text and fixed != text)
            yield fixed
        count.changed += changed

    return step


def compose(text: str, removed: Counter[str]) -> str:
    """The text in NFC."""
    return text if all(map(_is_settled, scan_text(text).others)) else unicodedata.normalize("NFC", text)


@cache
def _is_settled(char: str) -> bool:
    """Whether NFC leaves the character and what is beside it alone; of rarer planes this is not said."""
    return char < "\U00010000" and not joins_what_is_before(char) and unicodedata.is_normalized("NFC", char)


def fold_width(text: str, removed: Counter[str]) -> str:
    """The text in NFKC."""
    return unicodedata.normalize("NFKC", text)


def repair_mojibake(text: str, removed: Counter[str]) -> str:
    """The text with broken lines repaired; `removed["broken lines"]` counts them."""
    scan = scan_text(text)
    has_lead = not scan.others.isdisjoint(_LEADS) and _LEAD_BYTES.search(scan.utf8)
    if not has_lead and not any(scan.others.issuperset(pair) and pair in text for pair in _PAIRS):
        return text
    found = _SUSPICIOUS.search(text)
    if found is None:
        return text
    pieces: list[str] = []
    place = 0
    while found is not None:
        start = text.rfind("\n", place, found.start()) + 1 or place
        end = text.find("\n", found.end())
        end = len(text) if end < 0 else end
        line = text[start:end]
        repaired = _repairer()(line)
        removed["broken lines"] += repaired != line
        pieces += (text[place:start], repaired)
        place = end
        found = _SUSPICIOUS.search(text, place)
    pieces.append(text[place:])
    return "".join(pieces)


@cache
def _repairer() -> Callable[[str], str]:
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
    ("unicode NFC", lambda clean: clean.unicode == "NFC", _each_part(compose)),
    ("unicode NFKC", lambda clean: clean.unicode == "NFKC", _each_part(fold_width)),
    ("gutenberg", lambda clean: clean.gutenberg, strip_gutenberg),
    ("whitespace", lambda clean: clean.whitespace, tidy_whitespace),
    ("lowercase", lambda clean: clean.lowercase, _each_part(fold_case)),
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
    place = 0
    for text in texts:
        if _has_controls(text) and (found := _CONTROL.search(text)):
            raise DataError(
                f"{_name_control(found[0])} U+{ord(found[0]):04X} in the text",
                where=f"{first.source}, document {first.index}, character {place + found.start()}",
                hint="take it out, or let it be removed and counted: -s prepare.read.strict=false",
            )
        place += len(text)
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
