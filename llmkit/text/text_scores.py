"""Score how likely texts are, in nats, to choose among the decodings of the same bytes.

The score of a text is the logarithm of its probability under a simple model: letters follow each other as in the
language that fits the script's words best, with other languages mixed in at 10 %; Chinese, Japanese and Korean
characters have their frequencies; symbols have costs that depend on their neighbours. Two scripts in one word, an
upper-case letter after a lower-case one and symbols between letters cost extra. ASCII characters are scored too, so that
encodings that join them with a preceding byte compare fairly.

Knows nothing of bytes and encodings.
"""

import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from llmkit.text.letters import SCRIPTS, LetterTables, load_letters

_SAME_LANGUAGE = 0.9
_MIXED_SCRIPT = -9.0
_UPPER_AFTER_LOWER = -6.0
_LOWER_AFTER_CAPITALS = -4.0
_CAPITAL = -1.0
_BETWEEN_LETTERS = -5.0
_BESIDE_LETTER = -3.0
_BOX_AFTER_BOX = 7.0
_COSTS = {
    " ": 0.5, "\n": 0.5, "0123456789": 2.3, ".,": 2.0, "-'\"():;?!": 3.0, "/=_*<>": 4.5, "’": 4.5, "“”": 5.0,
    "–—«»": 5.5, "…„‘‚¿¡": 6.0, "\u00a0\u200c•°€": 7.0, "№·‹›": 7.5, "£§©®ºª²³\u200d\u200e\u200f": 8.0, "±µ×™½\u00ad´¥": 9.0,
    "¼¾‰†‡¶¢÷": 10.0, "¬¨¹": 11.0, "،؛؟": 5.0, "٠١٢٣٤٥٦٧٨٩۰۱۲۳۴۵۶۷۸۹": 6.0, "ـ": 7.0, "ฯๆ": 7.0, "๐๑๒๓๔๕๖๗๘๙": 7.0,
    "、。，": 4.0, "「」『』：；！？（）・　ー“”《》": 5.0, "\ufffd": 20.0,
}  # fmt: skip
_INSIDE_WORDS = "’'·-\u00ad\u200c\u200d‐־"
_LOOSE = "–—“”„«»‘‚…()/.,:;?!\"\u00a0*_=<>&@#"
"""Punctuation, which may stand beside letters; other symbols stand beside spaces and digits."""


@cache
def _load_costs() -> tuple[Any, Any, Any, Any]:
    """Costs of single characters, of standing between letters and of standing beside one, and upper case."""
    costs, between, beside = np.full(0x10000, -12.0, np.float32), np.zeros(0x10000), np.zeros(0x10000)
    costs[:0x80] = -5.0
    costs[0x80:0xA0] = -25.0
    costs[0x2500:0x25A0] = -9.0
    costs[0x2200:0x2300] = -11.0
    costs[0x3000:0x3040] = -8.0
    costs[0xD800:0xF900] = -16.0
    costs[0xFF01:0xFF5F] = -7.0
    costs[0xFF61:0xFFA0] = -12.0
    for chars, cost in _COSTS.items():
        for char in chars:
            costs[ord(char)] = -cost
    for code in range(0x80, 0x3000):
        char = chr(code)
        if unicodedata.category(char)[0] == "M":
            costs[code] = -8.0
        elif char not in _INSIDE_WORDS and not 0x2500 <= code < 0x25A0:
            between[code] = _BETWEEN_LETTERS if char not in "–—" else -2.0
            if char not in _LOOSE and unicodedata.category(char) not in ("Nd", "Cf", "Zs"):
                beside[code] = _BESIDE_LETTER
    is_upper = np.array([chr(code).isupper() for code in range(0x3000)] + [False] * (0x10000 - 0x3000))
    return costs, between.astype(np.float32), beside.astype(np.float32), is_upper


def score_texts(texts: Sequence[str]) -> Any:
    """The scores of the texts, float64 of shape (texts,)."""
    tables = load_letters()
    chars = [np.frombuffer(f"\n{text}\n".encode("utf-32-le", "surrogatepass"), "<u4") for text in texts]
    document = np.repeat(np.arange(len(texts)), [len(each) for each in chars])
    codes = np.minimum(np.concatenate(chars), 0xFFFF)
    script, letter = tables.script[codes], tables.letter[codes]
    score = np.bincount(document, _score_symbols(codes, script, tables), len(texts))
    for number in range(len(SCRIPTS)):
        places = np.flatnonzero(script == number)
        if len(places):
            score += _score_words(number, places, script, letter, document, len(texts), tables)
    return score + _score_ideographs(codes, document, len(texts), tables)


def _score_symbols(codes: Any, script: Any, tables: LetterTables) -> Any:
    """For each character that is no letter its cost, and for letters those of case and mixed scripts."""
    costs, between, beside, is_upper = _load_costs()
    is_letter = script >= 0
    after, before = np.roll(is_letter, 1), np.roll(is_letter, -1)  # the texts begin and end with line feeds
    scores = np.where(is_letter | (tables.ideograph[codes] > 0), 0, costs[codes])
    scores += np.where(is_letter, 0, between[codes] * (after & before) + beside[codes] * (after | before))
    is_box = (codes >= 0x2500) & (codes < 0x25A0)
    scores += _BOX_AFTER_BOX * (is_box & np.roll(is_box, 1))
    upper = is_upper[codes] & is_letter
    lower = is_letter & ~upper & (script < SCRIPTS.index("hebrew"))
    scores += _UPPER_AFTER_LOWER * (upper & np.roll(lower, 1)) + _CAPITAL * (upper & ~np.roll(upper, 1))
    scores += _LOWER_AFTER_CAPITALS * (lower & np.roll(upper, 1) & np.roll(upper, 2))
    return scores + _MIXED_SCRIPT * (is_letter & after & (script != np.roll(script, 1)))


def _score_words(
    number: int, places: Any, script: Any, letter: Any, document: Any, n_documents: int, tables: LetterTables
) -> Any:
    """The score of the words of one script, by document, each in the language that fits it best."""
    log_p = tables.pairs[number].log_p
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
    scores = np.zeros(n_documents)
    scores[of_word[firsts]] = np.add.reduceat(words, firsts, axis=1).max(axis=0)
    return scores


def _score_ideographs(codes: Any, document: Any, n_documents: int, tables: LetterTables) -> Any:
    places = np.flatnonzero(tables.ideograph[codes])
    if not len(places):
        return np.zeros(n_documents)
    log_p = tables.ideograph_log_p[:, tables.ideograph[codes[places]]]
    return np.max([np.bincount(document[places], each, n_documents) for each in log_p], axis=0)
