"""Judge whole documents by rules that hold for Chinese as for English; a document that fails one is dropped.

The rules are those of Rae et al. 2021 (Gopher, appendix A1.1), told in characters instead of words, with words
and Chinese characters both as tokens of the 5-grams. A long document is judged as a whole, except for its
5-grams, which are compared within each part.
"""

import re
from collections import Counter
from collections.abc import Iterable
from functools import cache
from typing import Any

from llmkit.config.prepare import Quality

_OTHER, _BLANK, _DIGIT, _SYMBOL = range(4)
_ORDINARY = frozenset(".,!?;:'\"-()，。！？；：、“”‘’（）《》「」『』…—·")
TOKEN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff\u3040-\u30ff]|[^\W_]+")
"""A Chinese character, a kana, or a word."""
_N = 5


def has_rules(rules: Quality) -> bool:
    """Whether any rule is switched on."""
    return rules != Quality()


def find_fault(texts: Iterable[str], rules: Quality) -> str:
    """The first rule that the document breaks, in words for the receipt; empty if none."""
    kinds = [0, 0, 0, 0]
    n_chars = n_in_old_lines = n_in_grams = n_in_repeated_grams = 0
    lines_seen: set[int] = set()
    for text in texts:
        n_chars += len(text)
        kinds = [old + new for old, new in zip(kinds, _count_kinds(text), strict=True)]
        if rules.max_repeated_line_share < 1:
            n_in_old_lines += _count_in_seen_lines(text, lines_seen)
        if rules.max_repeated_ngram_share < 1:
            repeated, all_chars = _count_in_repeated_ngrams(text)
            n_in_repeated_grams += repeated
            n_in_grams += all_chars
    visible = max(1, n_chars - kinds[_BLANK])
    if n_chars - kinds[_BLANK] < rules.min_chars:
        return "too short"
    if kinds[_SYMBOL] / visible > rules.max_symbol_share:
        return "too many symbols"
    if kinds[_DIGIT] / visible > rules.max_digit_share:
        return "too many digits"
    if n_in_old_lines / visible > rules.max_repeated_line_share:
        return "repeated lines"
    if n_in_repeated_grams / max(1, n_in_grams) > rules.max_repeated_ngram_share:
        return "repeated 5-grams"
    return ""


def _count_in_seen_lines(text: str, seen: set[int]) -> int:
    """Visible characters in lines that equal an earlier one."""
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
    """(characters in 5-grams that came before in this text, characters in all tokens)."""
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


def _count_kinds(text: str) -> list[int]:
    """How many characters are letters and ordinary punctuation, blank, digits, symbols."""
    import numpy as np

    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    return [int(n) for n in np.bincount(_kind_table()[codes], minlength=4)]


@cache
def _kind_table() -> Any:
    import unicodedata

    import numpy as np

    table = np.zeros(0x110000, dtype=np.uint8)
    for code in range(0x30000):  # beyond are private use and unassigned planes
        char = chr(code)
        category = unicodedata.category(char)
        if char.isspace():
            table[code] = _BLANK
        elif category == "Nd":
            table[code] = _DIGIT
        elif category[0] in "PSC" and char not in _ORDINARY:
            table[code] = _SYMBOL
    return table
