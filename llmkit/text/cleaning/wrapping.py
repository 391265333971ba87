"""Join lines that were wrapped to a width, and words that were hyphenated at a line end.

A line counts as wrapped if the first word of the next line did not fit on it. The width is the 98th percentile of the
lengths of lines that do not end a paragraph, in the first 100,000 characters of the document. The text is verse, a list
or a table, and nothing is joined, if less than half of these lines are wrapped, more than half end a sentence, or more
than three quarters of the next lines begin with a capital. Blank lines, indents, and lines that begin as a list,
heading, quotation or table row start a new line in any case.

Words are joined only between lower-case letters. The hyphen stays if the word occurs with a hyphen elsewhere in the
same part of the document (`well-known`), and never without it.
"""

import re
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import pairwise

from llmkit.text.documents import StepCounts, mark_last

_SAMPLE_CHARS = 100_000
_MAX_HELD = 200_000
_MIN_WIDTH, _MAX_WIDTH = 10, 200
_SENTENCE_END = re.compile(r"[.!?…。！？；۔؟।॥][\"'”’」』）)]*\Z")
_MIN_LINES = 2
_HYPHENS = "-\u2010\xad¬"
_NEW_LINE = re.compile(
    r"[ \t\u3000]|[-*+•·–—]\s|\d{1,3}[.)]\s|[#>|=~`]|\[\^?\w+\]:|第[一二三四五六七八九十百千零〇\d]+[章回节節]"
)
_UNSPACED = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uf900-\ufaff\ufe30-\ufe4f\uff00-\uff60\U00020000-\U0003ffff“”‘’…—]"
)
_BROKEN_WORD = re.compile(rf"([^\W\d_]+)[{_HYPHENS}]\n[ \t]*([^\W\d_]+)(\S*)([ \t]+|(?=\n)|\Z)")


def join_lines(texts: Iterable[str], count: StepCounts) -> Iterator[str]:
    """Join wrapped lines; a line that ends inside a hyphenated word stays."""
    return _join(texts, count, hyphens=False)


def join_lines_and_hyphens(texts: Iterable[str], count: StepCounts) -> Iterator[str]:
    """Join wrapped lines, and the words hyphenated at their ends."""
    return _join(texts, count, hyphens=True)


def join_hyphens(texts: Iterable[str], count: StepCounts) -> Iterator[str]:
    """Join words hyphenated at a line end: moves the second part of the word to the first line; other line ends
    stay.
    """
    changed = False
    for text in complete_paragraphs(texts):
        joined = text
        if any(f"{hyphen}\n" in text for hyphen in _HYPHENS):
            joined = _BROKEN_WORD.sub(partial(_join_word, text=text, count=count), text)
        changed = changed or joined != text
        yield joined
    count.changed += changed


def _join_word(match: re.Match[str], text: str, count: StepCounts) -> str:
    word = _choose_word(match[1], match[2], text, count)
    if word is None:
        return match[0]
    # A punctuation mark moves with the word; the space before the next word becomes the line end.
    return word + match[3] + ("\n" if match[4] else "")


def _choose_word(left: str, right: str, text: str, count: StepCounts) -> str | None:
    """The joined word, with or without a hyphen; None if it must stay as it is."""
    if not (left[-1].islower() and right[0].islower()):
        return None
    joined, hyphenated = left + right, f"{left}-{right}"
    word = hyphenated if hyphenated in text and joined not in text else joined
    count.removed["hyphens at line ends"] += word == joined
    count.examples.setdefault("hyphens at line ends", f"{left}-|{right} is now {word}")
    return word


def _join(texts: Iterable[str], count: StepCounts, *, hyphens: bool) -> Iterator[str]:
    width: int | None = None
    n_joined = 0
    for text in complete_paragraphs(texts, _SAMPLE_CHARS):
        if width is None:
            width = _find_width(text[:_SAMPLE_CHARS])
        if not width:
            yield text
            continue
        lines = text.split("\n")
        kept = [lines[0]]
        previous = lines[0]  # the last line as it was in the file
        for line in lines[1:]:
            if _is_wrapped(previous, line, width) and (hyphens or not _is_broken_word(previous, line)):
                count.examples.setdefault("line ends", f"{previous[-30:]!r} and {line[:30]!r} are one line")
                kept[-1] = _join_pair(kept[-1].rstrip(" \t"), line, text, count, hyphens)
                n_joined += 1
            else:
                kept.append(line)
            previous = line
        yield "\n".join(kept)
    count.removed["line ends"] += n_joined
    count.changed += n_joined > 0


def _join_pair(left: str, right: str, text: str, count: StepCounts, hyphens: bool) -> str:
    if left[-1:] in tuple(_HYPHENS) and left[-2:-1].isalpha():
        if hyphens and (match := _BROKEN_WORD.match(f"{_last_word(left)}\n{right}")):
            word = _choose_word(match[1], match[2], text, count)
            if word is not None:
                return left[: len(left) - 1 - len(match[1])] + word + right[len(match[2]) :]
        return left + right
    spaced = not (_UNSPACED.match(left[-1:]) and _UNSPACED.match(right))
    return f"{left} {right}" if spaced else left + right


def _last_word(line: str) -> str:
    match = re.search(rf"[^\W\d_]+[{_HYPHENS}]\Z", line)
    return match[0] if match else ""


def _is_broken_word(line: str, following: str) -> bool:
    return line[-1:] in tuple(_HYPHENS) and line[-2:-1].isalpha() and following[:1].islower()


def _is_wrapped(line: str, following: str, width: int) -> bool:
    """Whether the line ended only because the first word of the following line did not fit."""
    if not line or not following or _NEW_LINE.match(following) or line.isspace():
        return False
    if _is_broken_word(line, following):
        return True
    word = 1 if _UNSPACED.match(following) else len(following.split(maxsplit=1)[0]) + 1
    # Markdown's hard line break is two spaces.
    return len(line.rstrip()) + word > width - 2 and not line.endswith("  ")


def _find_width(sample: str) -> int:
    """The width in characters at which the text was wrapped; 0 if it was not wrapped."""
    lines = sample.split("\n")
    pairs = [(a, b) for a, b in pairwise(lines) if a and b and not _NEW_LINE.match(b)]
    lengths = sorted(len(line.rstrip()) for line, _ in pairs)
    if len(lengths) < _MIN_LINES:
        return 0
    width = lengths[min(len(lengths) - 1, len(lengths) * 98 // 100)]
    n_wrapped = sum(_is_wrapped(line, following, width) for line, following in pairs)
    n_sentences = sum(bool(_SENTENCE_END.search(line.rstrip())) for line, _ in pairs)
    # Lines of verse begin with a capital; even of wrapped German prose, far fewer lines do.
    n_capitals = sum(following[0].isupper() for _, following in pairs)
    is_verse = len(pairs) > _MIN_LINES and 4 * n_capitals > 3 * len(pairs)
    if 2 * n_sentences > len(pairs) or is_verse:
        return 0
    return width if _MIN_WIDTH <= width <= _MAX_WIDTH and n_wrapped * 2 >= len(pairs) else 0


def complete_paragraphs(texts: Iterable[str], n_first: int = 0) -> Iterator[str]:
    """Yield the same text cut only at blank lines; the first piece has at least `n_first` characters, if the text
    has.
    """
    held = ""
    first = True
    for text, last in mark_last(texts):
        held += text
        if last:
            yield held
            return
        if first and len(held) < n_first:
            continue
        end = held.rfind("\n\n") + 2
        if end < 2 and len(held) > _MAX_HELD:  # do not collect an endless paragraph
            end = held.rfind("\n") + 1 or len(held)
        if end >= 2:
            first = False
            yield held[:end]
            held = held[end:]
