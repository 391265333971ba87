"""Join lines that were wrapped to a width, and words that were hyphenated at a line end.

A line counts as wrapped if the first word of the next line would not have fitted on it. The width is the 98th
percentile of the lengths of lines with a next line in their paragraph, in the first 100,000 characters of the document.
The text counts as verse, a list or a table, and no lines are joined, if less than half of these lines are wrapped, more
than half end a sentence, more than three quarters of the next lines begin with a capital, or the last lines of all
paragraphs are long. Blank lines, indented lines, and lines that begin like a list item, heading, quotation or table
row are never joined to the line before. Literal lines (literal_lines.py), such as code, are never joined.

Words are joined only between lower-case letters. The hyphen stays if the word occurs with a hyphen elsewhere in the
same part of the document (`well-known`) and never without it. If neither form occurs, it stays after one letter
(`e-mail`), in a chain (`mother-in-law`), after words such as `self`, and where both halves occur as words.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from llmkit.text.cleaning.literal_lines import LiteralLines
from llmkit.text.documents import StepCounts, mark_last

_SAMPLE_CHARS = 100_000
_MAX_HELD = 200_000
_MIN_WIDTH, _MAX_WIDTH = 10, 200
_SENTENCE_END = re.compile(r"[.!?…。！？；۔؟।॥][\"'”’」』）)]*\Z")
_MIN_LINES = 2
_MIN_STANZAS = 3
_HYPHENS = "-\u2010\xad¬"
_NEVER_KEPT = "\xad¬"
_NEW_LINE = re.compile(
    r"[ \t\u3000]|[-*+–—]\s|[•·‣◦▪●]|\d{1,3}[.)]\s|\(?\w{1,3}\)\s|[ivxIVX]{1,5}\.\s|[#>|=~`]|\[\^?\w+\]:"
    r"|第[一二三四五六七八九十百千零〇\d]+[章回节節]"
)
_UNSPACED = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uf900-\ufaff\ufe30-\ufe4f\uff00-\uff60\U00020000-\U0003ffff“”‘’…—]"
)
_LEFT_HALF = re.compile(rf"(-?)([^\W\d_]+)([{_HYPHENS}])\Z")
_RIGHT_HALF = re.compile(r"[ \t]*([^\W\d_]+)")
_REST_OF_WORD = re.compile(r"(\S*)[ \t]*")
_BROKEN_WORD = re.compile(rf"[^\W\d_]+[{_HYPHENS}]\n[ \t]*[^\W\d_]+")
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_COMPOUND_BEGINNINGS = frozenset(["all", "cross", "ex", "half", "ill", "self", "semi", "vice", "well"])
_CONJUNCTIONS = frozenset(["and", "or", "und", "oder", "bzw", "och", "eller", "og"])
"""Before these words, a hyphen may replace the second half of a word that follows: `Haus- und Gartenmöbel`."""


def join_lines(texts: Iterable[str], count: StepCounts) -> Iterator[str]:
    """Join wrapped lines; a line that ends inside a hyphenated word is not joined."""
    return _join(texts, count, lines=True, hyphens=False)


def join_lines_and_hyphens(texts: Iterable[str], count: StepCounts) -> Iterator[str]:
    """Join wrapped lines and the words hyphenated at their ends; works like `join_hyphens` if no lines are wrapped."""
    return _join(texts, count, lines=True, hyphens=True)


def join_hyphens(texts: Iterable[str], count: StepCounts) -> Iterator[str]:
    """Join words hyphenated at a line end; the rest of the word moves to the first line; other line ends are kept."""
    return _join(texts, count, lines=False, hyphens=True)


def _join(texts: Iterable[str], count: StepCounts, *, lines: bool, hyphens: bool) -> Iterator[str]:
    literal = LiteralLines()
    width = None if lines else 0
    changed = False
    for text in complete_paragraphs(texts, _SAMPLE_CHARS if lines else 0):
        has_hyphens = hyphens and any(f"{hyphen}\n" in text for hyphen in _HYPHENS)
        if width == 0 and not has_hyphens and not literal.may_change(text):
            yield text
            continue
        all_lines = text.split("\n")
        is_literal = literal.find(all_lines)
        if width is None:
            n_sampled = text.count("\n", 0, _SAMPLE_CHARS) + 1
            width = _find_width(all_lines[:n_sampled], is_literal)
        joined = "\n".join(_join_free_lines(all_lines, is_literal, width, _Words(text) if hyphens else None, count))
        changed = changed or joined != text
        yield joined
    if lines:
        count.removed["line ends"] += 0
    count.changed += changed


def _join_free_lines(
    lines: Sequence[str], is_literal: Sequence[bool], width: int, words: "_Words | None", count: StepCounts
) -> list[str]:
    """Return the lines after joining those that are not literal; joins words only if `words` is given."""
    kept = [lines[0]]
    for number, (previous, line) in enumerate(pairwise(lines), start=1):
        if is_literal[number - 1] or is_literal[number]:
            kept.append(line)
        elif width and _is_wrapped(previous, line, width) and (words or not _is_broken_word(previous, line)):
            count.examples.setdefault("line ends", f"{previous[-30:]!r} and {line[:30]!r} are one line")
            count.removed["line ends"] += 1
            kept[-1] = _join_pair(kept[-1].rstrip(" \t"), line, words, count)
        elif words and not width and (halves := words.join(kept[-1], line, count)):
            rest = _REST_OF_WORD.match(halves[1])  # a punctuation mark moves with the word
            kept[-1] = halves[0] + (rest[1] if rest else "")
            if rest and (after := halves[1][rest.end() :]):
                kept.append(after)
        else:
            kept.append(line)
    return kept


def _join_pair(left: str, right: str, words: "_Words | None", count: StepCounts) -> str:
    if left[-1:] in tuple(_HYPHENS) and left[-2:-1].isalpha():
        if words and (halves := words.join(left, right, count)):
            return "".join(halves)
        return f"{left} {right}" if right.split(maxsplit=1)[0] in _CONJUNCTIONS else left + right
    spaced = not (_UNSPACED.match(left[-1:]) and _UNSPACED.match(right))
    return f"{left} {right}" if spaced else left + right


class _Words:
    """Joins the halves of hyphenated words, with or without the hyphen depending on the other words of the text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._known: frozenset[str] | None = None

    def join(self, left: str, right: str, count: StepCounts) -> tuple[str, str] | None:
        """Return the two lines with the broken word joined in the first; None if no broken word spans them."""
        first, second = _LEFT_HALF.search(left), _RIGHT_HALF.match(right)
        if not first or not second or not (first[2][-1].islower() and second[1][0].islower()):
            return None
        rest = right[second.end() :]
        word = self._choose(first, second[1], rest)
        if word is None:
            return None
        kind = "hyphens at line ends"
        count.removed[kind] += word == first[2] + second[1]
        count.examples.setdefault(kind, f"{first[2]}-|{second[1]} is now {word}")
        return left[: first.start(2)] + word, rest

    def _choose(self, first: re.Match[str], right: str, rest: str) -> str | None:
        left = first[2]
        joined, hyphenated = left + right, f"{left}-{right}"
        known = self._find_known()
        if joined.casefold() in known or first[3] in _NEVER_KEPT:
            return joined
        if right in _CONJUNCTIONS:
            return None
        is_compound = hyphenated.casefold() in known or left in _COMPOUND_BEGINNINGS or {left, right} <= known
        return hyphenated if is_compound or len(left) == 1 or first[1] or rest.startswith("-") else joined

    def _find_known(self) -> frozenset[str]:
        """Return the words of the text in lower case, without the halves of words broken at line ends."""
        if self._known is None:
            whole = _BROKEN_WORD.sub(" ", self._text)
            self._known = frozenset(word.casefold() for word in _WORD.findall(whole))
        return self._known


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


def _find_width(lines: Sequence[str], is_literal: Sequence[bool]) -> int:
    """Return the width in characters at which the text was wrapped; 0 if it was not wrapped."""
    pairs = [
        (a, b) for (a, b), (is_a, is_b) in zip(pairwise(lines), pairwise(is_literal), strict=False)
        if a and b and not is_a and not is_b and not _NEW_LINE.match(b)
    ]  # fmt: skip
    lengths = sorted(len(line.rstrip()) for line, _ in pairs)
    if len(lengths) < _MIN_LINES:
        return 0
    width = lengths[min(len(lengths) - 1, len(lengths) * 98 // 100)]
    n_wrapped = sum(_is_wrapped(line, following, width) for line, following in pairs)
    n_sentences = sum(bool(_SENTENCE_END.search(line.rstrip())) for line, _ in pairs)
    # Lines of verse begin with a capital; far fewer lines of wrapped prose do, even in German.
    n_capitals = sum(following[0].isupper() for _, following in pairs)
    has_capitals = len(pairs) > _MIN_LINES and 4 * n_capitals > 3 * len(pairs)
    # The last line of a prose paragraph has any length; the last line of a stanza is as long as the others.
    ends = {b.strip() for a, b, after in zip(lines, lines[1:], [*lines[2:], ""], strict=False) if a and b and not after}
    are_stanzas = len(ends) >= _MIN_STANZAS and 10 * min(map(len, ends)) > 7 * width
    if 2 * n_sentences > len(pairs) or has_capitals or are_stanzas:
        return 0
    return width if _MIN_WIDTH <= width <= _MAX_WIDTH and n_wrapped * 2 >= len(pairs) else 0


def complete_paragraphs(texts: Iterable[str], n_first: int = 0) -> Iterator[str]:
    """Yield pieces that end at blank lines; the first has at least `n_first` characters unless the text is shorter.

    A paragraph of more than 200,000 characters is cut at a line end, if it has one.
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
