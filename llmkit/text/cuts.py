"""Choose where a document is cut into train and held-out text: at a paragraph, else a sentence, line or word.

Only the text around each cut is read, so a document of any length can be cut. The white space at a boundary belongs to
the text before it.
"""

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from llmkit.text.language.sentences import find_sentence_ends
from llmkit.text.language.words import UNSPACED

MIN_REACH, MAX_REACH = 200, 5_000
"""Limits, in characters, of the maximum distance between a target position and its cut. The maximum distance is half of
the text after the target, clamped to these limits.
"""
MAX_WORD_CHARS = 100
"""A document without any boundary counts as one word, and is not cut, up to this number of characters."""

_PARAGRAPH_END = re.compile(r"\n[^\S\n]*\n\s*")
_LINE_END = re.compile(r"[^\S\n]*\n\s*")
_SPACE = re.compile(r"\s+")
ZERO_WIDTH_JOINER = "\u200d"
_FLAG_LETTERS = re.compile("[\U0001f1e6-\U0001f1ff]*\\Z")
_CONTINUES = re.compile("[\u200c\u200d\u0e33\u0eb3\u1160-\u11ff\U0001f3fb-\U0001f3ff]")
"""Characters that belong to the previous character: joiners, vowels of Thai and Lao, letters inside a Korean syllable,
skin tones. So do all characters of the Unicode category M (marks).
"""
_VIRAMA = 9
"""The canonical combining class of signs that join two consonants."""


@dataclass(slots=True)
class Window:
    """The text around a target position, in which the cut is chosen."""

    target: int
    """Target, `start` and `stop` are offsets in characters from the beginning of the document."""
    start: int
    stop: int
    text: str = ""

    def add(self, text: str, position: int) -> None:
        """Add those characters of a part that lie in the window; the part begins at `position`. Add parts in order."""
        self.text += text[max(0, self.start - position) : max(0, self.stop - position)]

    def ends(self, boundary: re.Pattern[str] | None) -> list[int]:
        """Return the ends of the matches of `boundary` inside the window, as offsets in the document, ascending.

        If `boundary` is None, returns the ends of sentences.
        """
        if boundary is not None:
            found = [match.end() for match in boundary.finditer(self.text)]
        else:
            ends = find_sentence_ends(self.text).tolist()
            found = [end + len(self.text[end:]) - len(self.text[end:].lstrip()) for end in ends]
        return [self.start + end for end in found if 0 < self.start + end < self.stop]


def window_around(text: str, target: int, n_chars: int) -> Window:
    """Return the window around `target` in a document of `n_chars`, filled from `text` unless that is empty."""
    reach = min(MAX_REACH, max(MIN_REACH, (n_chars - target) // 2))
    window = Window(target, max(0, target - reach), min(n_chars, target + reach))
    window.add(text, 0)
    return window


def choose_cuts(windows: Sequence[Window], n_chars: int) -> list[int]:
    """Return the boundary nearest to the target of each window (one or two windows), ascending.

    All cuts are boundaries of one kind: the first of paragraph, sentence, line and word that occurs in every window. A
    document of one short word is not cut: all cuts are at its end. Other text without a boundary, such as a long run of
    Chinese, is cut at the targets.
    """
    for boundary in (_PARAGRAPH_END, None, _LINE_END, _SPACE):
        found = _nearest([window.ends(boundary) for window in windows], [window.target for window in windows])
        if found:
            return found
    if n_chars <= MAX_WORD_CHARS and not any(UNSPACED.search(window.text) for window in windows):
        return [n_chars] * len(windows)
    return [_move_off_marks(window) for window in windows]


def _nearest(candidates: Sequence[list[int]], targets: Sequence[int]) -> list[int]:
    """Return one distinct candidate per target (one or two), ascending, with the smallest total distance; empty if
    there are too few.
    """
    if not all(candidates):
        return []
    if len(candidates) == 1:
        return [min(candidates[0], key=lambda cut: abs(cut - targets[0]))]
    first, last = candidates
    pairs: list[tuple[int, int]] = []
    for cut in last:
        n_before = bisect_left(first, cut)
        at = bisect_left(first, targets[0], hi=n_before)
        pairs += [(before, cut) for before in first[max(0, at - 1) : min(at + 1, n_before)]]
    if not pairs:
        return []
    best = min(pairs, key=lambda pair: abs(pair[0] - targets[0]) + abs(pair[1] - targets[1]))
    return [*best]


def _move_off_marks(window: Window) -> int:
    """Return the target, moved past marks that belong to the character before it."""
    cut = window.target - window.start
    while 0 < cut < len(window.text) and _is_joined(window.text, cut):
        cut += 1
    return window.start + cut


def _is_joined(text: str, cut: int) -> bool:
    """Whether the characters before and after `cut` are parts of one letter, syllable or emoji."""
    before, char = text[cut - 1], text[cut]
    if unicodedata.category(char).startswith("M") or _CONTINUES.match(char) or before == ZERO_WIDTH_JOINER:
        return True
    if unicodedata.combining(before) == _VIRAMA and char.isalpha():
        return True
    flags = _FLAG_LETTERS.search(text[:cut])
    return flags is not None and len(flags[0]) % 2 == 1 and _FLAG_LETTERS.match(char) is not None
