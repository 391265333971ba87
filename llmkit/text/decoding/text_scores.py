"""Score how likely texts are, in nats, to choose among the decodings of the same bytes.

The score of a text is the logarithm of its probability under a simple model: letter bigrams of the language that fits
the words of a script best, mixed with 10 % of other languages; frequencies of Chinese, Japanese and Korean characters;
costs of symbols that depend on their neighbours. Two scripts in one word, an upper-case letter after a lower-case one
and symbols between letters cost extra. ASCII characters are scored too, for a fair comparison with encodings that join
them to a preceding byte.

Independent of bytes or encodings.
"""

import unicodedata
from collections.abc import Container, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from llmkit.text.decoding.letters import IDEOGRAPHIC, SCRIPTS, LetterTables, load_letters

_SAME_LANGUAGE = 0.9
_UNEXPECTED_LANGUAGE = -4.0
_MIXED_SCRIPT = -9.0
_IDEOGRAPH_BESIDE_LETTER = -4.5
_IDEOGRAPH_BETWEEN_LETTERS = -10.0
_VOICED_AFTER_OTHER = -8.0
_SINGLE_KANA = -8.0
_UPPER_AFTER_LOWER = -6.0
_LOWER_AFTER_CAPITALS = -4.0
_CAPITAL = -1.0
_BETWEEN_LETTERS = -5.0
_BESIDE_LETTER = -3.0
_BOX_AFTER_BOX, _BOX_AFTER_SAME = 4.0, 4.0
_THREE_SAME_LETTERS = -8.0
_LETTER_AFTER_DIGIT = -6.0
_BOX_BESIDE_LETTER = -6.0
_OPENING_AFTER_LETTER = -5.0
_CLOSING_ALONE = -5.0
_APOSTROPHE_AT_EDGE = -2.0
_OTHER_SCRIPT = -4.0
_COSTS = {
    " ": 0.5, "\n": 0.5, "0123456789": 2.3, ".,": 2.0, "-'\"():;?!": 3.0, "/=_*<>": 4.5,
    "’": 4.5, "“”": 5.0, "–—«»": 5.5, "…„‘‚¿¡": 6.0, "\u00a0\u200c•°€": 7.0, "№·‧‹›": 7.5,
    "£§©®ºª²³\u200d\u200e\u200f": 8.0, "±µ×™½\u00ad´¥": 9.0, "¼¾‰†‡¶¢÷": 10.0, "¬¨¹": 11.0,
    "،؛؟": 5.0, "٠١٢٣٤٥٦٧٨٩۰۱۲۳۴۵۶۷۸۹": 6.0, "ـ": 7.0, "ฯๆ": 7.0, "๐๑๒๓๔๕๖๗๘๙": 7.0,
    "、。，": 4.0, "「」『』：；！？（）・　ー“”《》": 5.0, "\ufffd": 20.0,
}  # fmt: skip
_INSIDE_WORDS = "’'·‧-\u00ad\u200c\u200d‐־"
_LOOSE = '–—“”„«»‘‚…()/.,:;?!"\u00a0*_=<>&@#'
"""Punctuation that may be next to letters; other symbols are expected next to spaces and digits."""


_OPENING = [ord(char) for char in "‚„¿¡"]
_DIGITS = [ord(char) for char in "0123456789"]
_VOICED_MARKS = [0xFF9E, 0xFF9F]
_VOICED_KANA = [ord(char) for char in "ｳｶｷｸｹｺｻｼｽｾｿﾀﾁﾂﾃﾄﾊﾋﾌﾍﾎ"]
"""Half-width kana before the marks of voiced sounds."""


@cache
def _load_costs() -> tuple[Any, Any, Any, Any]:
    """Return (costs of single characters, costs between letters, costs next to a letter, upper-case mask)."""
    costs, between, beside = np.full(0x10000, -12.0, np.float32), np.zeros(0x10000), np.zeros(0x10000)
    costs[:0x80] = -5.0
    costs[0x80:0xA0] = -25.0
    costs[0x2500:0x25A0] = -10.0
    costs[0x2200:0x2300] = -11.0
    costs[0x3000:0x3040] = -8.0
    costs[0xD800:0xF900] = -16.0
    costs[0xFF01:0xFF5F] = -9.0
    costs[0xFF61:0xFFA0] = -6.0
    costs[0xFF66:0xFF9E] = -4.3
    costs[_VOICED_MARKS] = -3.0
    for chars, cost in _COSTS.items():
        for char in chars:
            costs[ord(char)] = -cost
    for code in range(0x80, 0x3000):
        char = chr(code)
        if unicodedata.category(char)[0] == "M":
            costs[code] = -8.0
        elif 0x2500 <= code < 0x25A0:
            beside[code] = _BOX_BESIDE_LETTER
        elif char not in _INSIDE_WORDS:
            between[code] = _BETWEEN_LETTERS if char not in "–—" else -2.0
            if char not in _LOOSE and unicodedata.category(char) not in ("Nd", "Cf", "Zs"):
                beside[code] = _BESIDE_LETTER
    for first, last in ((0x3001, 0x3030), (0xFF01, 0xFFF0)):
        beside[first:last], between[first:last] = _BESIDE_LETTER, _BETWEEN_LETTERS
    is_upper = np.array([chr(code).isupper() for code in range(0x3000)] + [False] * (0x10000 - 0x3000))
    return costs, between.astype(np.float32), beside.astype(np.float32), is_upper


@dataclass(frozen=True, slots=True)
class TextScore:
    """The score of a text in nats, and the language that fits its non-ASCII letters best, empty if it has none."""

    score: float
    language: str = ""


def score_texts(texts: Sequence[str], languages: Sequence[Container[str]]) -> list[TextScore]:
    """Return the scores of the texts. `languages` has the expected languages of each text; any other costs 4 nats."""
    tables = load_letters()
    chars = [np.frombuffer(f"\n{text}\n".encode("utf-32-le", "surrogatepass"), "<u4") for text in texts]
    document = np.repeat(np.arange(len(texts)), [len(each) for each in chars])
    codes = np.minimum(np.concatenate(chars), 0xFFFF)
    script, letter = tables.script[codes], tables.letter[codes]
    score = np.bincount(document, _score_symbols(codes, script, tables), len(texts))
    score += np.array([_CLOSING_ALONE * _has_closing_alone(text) for text in texts])
    found = [""] * len(texts)
    n_letters = np.zeros(len(texts))
    n_words = np.zeros((len(SCRIPTS) + 1, len(texts)))
    for number, names in enumerate([*(table.languages for table in tables.pairs), IDEOGRAPHIC]):
        is_here = script == number if number < len(SCRIPTS) else tables.ideograph[codes] > 0
        places = np.flatnonzero(is_here)
        if not len(places):
            continue
        if number < len(SCRIPTS):
            log_p = tables.pairs[number].log_p
            by_language = _score_words(number, places, script, letter, document, len(texts), log_p)
        else:
            log_p = tables.ideograph_log_p[:, tables.ideograph[codes[places]]]
            by_language = np.stack([np.bincount(document[places], each, len(texts)) for each in log_p])
        n_words[number] = np.bincount(document[places], ~is_here[places - 1], len(texts))
        n_high = np.bincount(document[places], codes[places] > 0x7F, len(texts))
        unexpected = np.array([[name not in expected for expected in languages] for name in names])
        by_language += _UNEXPECTED_LANGUAGE * (unexpected & (n_high > 0))
        score += by_language.max(axis=0)
        best = by_language.argmax(axis=0)
        for n in np.flatnonzero(n_high > n_letters):
            found[n] = names[best[n]]
        n_letters = np.maximum(n_letters, n_high)
    # The entropy of the scripts of the words: a single word of another script is less likely than many.
    shares = n_words / np.maximum(n_words.sum(axis=0), 1)
    n_scripts = np.count_nonzero(n_words, axis=0)
    score += (n_words * np.log(np.maximum(shares, 1e-9))).sum(axis=0) + _OTHER_SCRIPT * np.maximum(0, n_scripts - 1)
    return [TextScore(float(each), name) for each, name in zip(score, found, strict=True)]


def _score_symbols(codes: Any, script: Any, tables: LetterTables) -> Any:
    """Return the cost of each symbol, and for letters the costs of case and of mixed scripts."""
    costs, between, beside, is_upper = _load_costs()
    is_letter = script >= 0
    # np.roll does not join letters of two texts, because each text begins and ends with a line feed.
    after, before = np.roll(is_letter, 1), np.roll(is_letter, -1)
    scores = np.where(is_letter | (tables.ideograph[codes] > 0), 0, costs[codes])
    scores += np.where(is_letter, 0, between[codes] * (after & before) + beside[codes] * (after | before))
    is_box = (codes >= 0x2500) & (codes < 0x25A0)
    scores += _BOX_AFTER_BOX * (is_box & np.roll(is_box, 1)) + _BOX_AFTER_SAME * (is_box & (codes == np.roll(codes, 1)))
    scores += _OPENING_AFTER_LETTER * (np.isin(codes, _OPENING) & after)
    scores += _APOSTROPHE_AT_EDGE * ((codes == ord("’")) & (after ^ before))
    is_third = (codes == np.roll(codes, 1)) & (codes == np.roll(codes, 2))
    scores += _THREE_SAME_LETTERS * (is_letter & is_third & (codes > 0x7F))
    is_cased = is_letter & (script < SCRIPTS.index("hebrew"))
    scores += _LETTER_AFTER_DIGIT * (is_cased & (codes > 0x7F) & np.isin(np.roll(codes, 1), _DIGITS))
    upper = is_upper[codes] & is_letter
    lower = is_letter & ~upper & (script < SCRIPTS.index("hebrew"))
    scores += _UPPER_AFTER_LOWER * (upper & np.roll(lower, 1)) + _CAPITAL * (upper & ~np.roll(upper, 1))
    scores += _LOWER_AFTER_CAPITALS * (lower & np.roll(upper, 1) & np.roll(upper, 2))
    scores += _MIXED_SCRIPT * (is_letter & after & (script != np.roll(script, 1)))
    is_ideograph = tables.ideograph[codes] > 0
    scores += _IDEOGRAPH_BETWEEN_LETTERS * (is_ideograph & after & before)
    is_kana = (codes >= 0xFF66) & (codes < 0xFFA0)
    scores += _SINGLE_KANA * (is_kana & ~np.roll(is_kana, 1) & ~np.roll(is_kana, -1))
    scores += _VOICED_AFTER_OTHER * (np.isin(codes, _VOICED_MARKS) & ~np.isin(np.roll(codes, 1), _VOICED_KANA))
    return scores + _IDEOGRAPH_BESIDE_LETTER * ((is_ideograph & after) * 1.0 + (is_ideograph & before))


def _score_words(
    number: int, places: Any, script: Any, letter: Any, document: Any, n_documents: int, log_p: Any
) -> Any:
    """Return the scores of the words of one script in each language, of shape (languages, documents)."""
    previous = np.where(script[places - 1] == number, letter[places - 1], 0)
    is_last = script[places + 1] != number
    starts = np.flatnonzero(previous == 0)
    pairs = log_p[:, previous, letter[places]]
    pairs[:, is_last] += log_p[:, letter[places[is_last]], 0]
    words = np.add.reduceat(pairs, starts, axis=1)
    if len(log_p) > 1:
        other = np.logaddexp.reduce(words, axis=0) + np.log((1 - _SAME_LANGUAGE) / len(log_p))
        words = np.logaddexp(words + np.log(_SAME_LANGUAGE), other)
    of_word = document[places[starts]]
    firsts = np.flatnonzero(np.diff(of_word, prepend=-1))
    scores = np.zeros((len(log_p), n_documents))
    scores[:, of_word[firsts]] = np.add.reduceat(words, firsts, axis=1)
    return scores


def is_plausible(text: str) -> bool:
    """Whether 95 % of the characters are printable ASCII, white space, known letters, emoji or common symbols."""
    tables = load_letters()
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
    is_emoji = (codes >= 0x1F000) & (codes < 0x20000)
    codes = np.minimum(codes, 0xFFFF)
    is_known = is_emoji | (tables.script[codes] >= 0) | (tables.ideograph[codes] > 0) | (_load_costs()[0][codes] > -11)
    is_control = (codes < 32) & ~np.isin(codes, [9, 10, 11, 12, 13])
    return bool((is_known & ~is_control).mean() >= 0.95)


def _has_closing_alone(text: str) -> bool:
    """Whether the text has a closing quotation mark without any opening one."""
    return "”" in text and not any(mark in text for mark in ("“", "„", " ”", "\n”"))
