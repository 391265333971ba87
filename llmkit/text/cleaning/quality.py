"""Check whole documents, Chinese as well as English, against quality rules; a document that breaks one is dropped.

The rules are those of Rae et al. 2021 (Gopher, appendix A1.1), in characters instead of words; the tokens of the
5-grams are words and Chinese characters. The rules apply to a long document as a whole, except that 5-grams are
compared within each part only.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from llmkit.config.prepare import Quality

_OTHER, _BLANK, _DIGIT, _SYMBOL = range(4)
_ORDINARY = frozenset(".,!?;:'\"-()，。！？；：、“”‘’（）《》「」『』…—·")
TOKEN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff\u3040-\u30ff]|[^\W_]+")
"""A Chinese character, a kana, or a word."""
_N = 5


def find_broken_rule(texts: Iterable[str], rules: Quality) -> str:
    """Return the first rule that the document breaks, named as in the manifest; empty if none."""
    kinds = np.zeros(4, np.int64)
    n_chars = n_in_repeated_lines = n_in_grams = n_in_repeated_grams = 0
    lines_seen: set[int] = set()
    for text in texts:
        n_chars += len(text)
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        kinds += np.bincount(_kind_table()[codes], minlength=4)
        if rules.max_repeated_line_share < 1:
            n_in_repeated_lines += _count_in_seen_lines(text, lines_seen)
        if rules.max_repeated_ngram_share < 1:
            repeated, all_chars = _count_in_repeated_ngrams(text)
            n_in_repeated_grams += repeated
            n_in_grams += all_chars
    n_visible = n_chars - int(kinds[_BLANK])
    visible = max(1, n_visible)
    if n_visible < rules.min_chars:
        return "too short"
    shares = (
        ("too many symbols", kinds[_SYMBOL] / visible, rules.max_symbol_share),
        ("too many digits", kinds[_DIGIT] / visible, rules.max_digit_share),
        ("repeated lines", n_in_repeated_lines / visible, rules.max_repeated_line_share),
        ("repeated 5-grams", n_in_repeated_grams / max(1, n_in_grams), rules.max_repeated_ngram_share),
    )
    return next((name for name, share, limit in shares if share > limit), "")


def _count_in_seen_lines(text: str, seen: set[int]) -> int:
    """Count visible characters in lines that equal an earlier line; adds the lines of `text` to `seen`."""
    n_chars = 0
    for line in text.split("\n"):
        folded = "".join(line.split())
        if not folded:
            continue
        key = hash(folded)
        if key in seen:
            n_chars += len(folded)
        else:
            seen.add(key)
    return n_chars


def _count_in_repeated_ngrams(text: str) -> tuple[int, int]:
    """Return (characters in repeated 5-grams, characters in all tokens) of one text."""
    tokens = TOKEN.findall(text.casefold())
    n_chars = sum(map(len, tokens))
    grams = list(zip(*(tokens[shift:] for shift in range(_N)), strict=False))
    if len(set(grams)) == len(grams):
        return 0, n_chars
    seen: Counter[tuple[str, ...]] = Counter()
    n_repeated = covered_to = 0
    for start, gram in enumerate(grams):
        if seen[gram]:
            n_repeated += sum(map(len, tokens[max(start, covered_to) : start + _N]))
            covered_to = start + _N
        seen[gram] = 1
    return n_repeated, n_chars


@cache
def _kind_table() -> NDArray[np.uint8]:
    """Return the kind of each code point: _OTHER for letters and ordinary punctuation, _BLANK, _DIGIT or _SYMBOL."""
    table = np.zeros(0x110000, dtype=np.uint8)
    for code in range(0x30000):  # nearly all above are unassigned or for private use
        char = chr(code)
        category = unicodedata.category(char)
        if char.isspace():
            table[code] = _BLANK
        elif category == "Nd":
            table[code] = _DIGIT
        elif category[0] in "PSC" and char not in _ORDINARY:
            table[code] = _SYMBOL
    return table
