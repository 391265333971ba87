"""Split texts into words for tagging, and join words to a text, with the character offsets of each word.

Words that were given without a text are joined with spaces, except between Chinese or Japanese characters.
"""

import re
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Literal

WordSplit = Literal["spaces", "punctuation", "characters"]
Place = tuple[int, int]
"""Offset of the first character of a word, and offset after its last character."""

_IDEOGRAPHS = "\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WIDE = re.compile(f"[{_IDEOGRAPHS}\u3000-\u303f\uff00-\uffef]")
_IDEOGRAPH = re.compile(f"[{_IDEOGRAPHS}]")
_SENTENCE_MARKS = tuple(".,;:!?()")


@cache
def _pattern(split: WordSplit) -> re.Pattern[str]:
    if split == "spaces":
        return re.compile(r"\S+")
    if split == "characters":
        return re.compile(r"\S")
    marks = "".join(
        re.escape(char) for char in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(char)[0] in "PS"
    )
    return re.compile(rf"[{_IDEOGRAPHS}{marks}]|[^\s{_IDEOGRAPHS}{marks}]+")


def find_words(text: str, split: WordSplit) -> list[Place]:
    """Return the places of the words of a text."""
    return [found.span() for found in _pattern(split).finditer(text)]


def join_words(words: Sequence[str]) -> tuple[str, list[Place]]:
    """Return a text made of the words, and their places in it."""
    parts: list[str] = []
    places = []
    length = 0
    for word in words:
        if parts and not (_WIDE.match(parts[-1][-1:]) and _WIDE.match(word)):
            parts.append(" ")
            length += 1
        parts.append(word)
        places.append((length, length + len(word)))
        length += len(word)
    return "".join(parts), places


def recognize_split(sentences: Iterable[Sequence[str]]) -> WordSplit:
    """Return how the words of sentences were split from their texts.

    The split is `spaces` if words such as `Paris.` are more frequent than words such as `.`.
    """
    n_words = n_ideographs = n_runs = n_marks = n_with_marks = 0
    for words in sentences:
        for word in words:
            n_words += 1
            if len(word) == 1 and _IDEOGRAPH.match(word):
                n_ideographs += 1
            elif len(word) > 1 and word.isalnum():
                n_runs += 1
            elif word in _SENTENCE_MARKS:
                n_marks += 1
            elif word[-1] in _SENTENCE_MARKS or word[0] == "(":
                n_with_marks += 1
    if n_words and 2 * n_ideographs > n_words:
        return "punctuation" if n_runs else "characters"
    return "spaces" if n_with_marks > n_marks else "punctuation"
