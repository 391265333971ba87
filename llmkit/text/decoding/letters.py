"""Fold letters, find their scripts, and load the table of letter pairs by language (letter_pairs.npz).

docs/make_letter_pairs.py builds the table and documents its sources.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

PAIRS_FILE = Path(__file__).with_name("letter_pairs.npz")
PAIR_SCALE = 16
"""The tables hold round(-PAIR_SCALE * ln P), where P is the probability of a letter given the previous letter, or of an
ideograph; 255 means not seen.
"""
SCRIPTS = ("latin", "greek", "cyrillic", "hebrew", "arabic", "thai")
IDEOGRAPHIC = ("zh-hans", "zh-hant", "ja", "ko")
_RANGES = (
    ("latin", 0x41, 0x5A), ("latin", 0x61, 0x7A), ("latin", 0xC0, 0xD6), ("latin", 0xD8, 0xF6),
    ("latin", 0xF8, 0x24F), ("latin", 0x1E00, 0x1EFF), ("greek", 0x386, 0x386),
    ("greek", 0x388, 0x3FF), ("cyrillic", 0x400, 0x52F), ("hebrew", 0x5B0, 0x5BC), ("hebrew", 0x5D0, 0x5EA),
    ("hebrew", 0x5F0, 0x5F2), ("arabic", 0x621, 0x652), ("arabic", 0x66E, 0x6D3), ("thai", 0xE01, 0xE3A),
    ("thai", 0xE40, 0xE4E),
)  # fmt: skip
# Letters that older encodings replace by others, including the two ways to write some Romanian letters.
_SAME = str.maketrans("șțیىکςİΐΰ", "şţييكσiιυ")
# Weights in `_smooth`: of single letters for pairs, and of the uniform distribution for single letters.
_UNSEEN = 0.02
_ANY_LETTER = 0.03


def fold(char: str) -> str:
    """Return the letter in lower case; variants that older encodings lack are replaced."""
    return (char.lower()[:1] or char).translate(_SAME)


def script_of(char: str) -> str:
    """Return the script of a letter; empty for other characters and for Chinese, Japanese and Korean."""
    code = ord(char)
    return next((script for script, first, last in _RANGES if first <= code <= last), "")


@dataclass(frozen=True, slots=True)
class PairTable:
    """Logarithms of pair probabilities of the languages of one script."""

    languages: tuple[str, ...]
    log_p: Any
    """(languages, letters + 1, letters + 1), float32; index 0 is a word boundary."""


@dataclass(frozen=True, slots=True)
class LetterTables:
    """All tables, and arrays that map code points below 0x10000 to their indices."""

    script: Any
    """Index in SCRIPTS, -1 for no letter."""
    letter: Any
    """Index in the script's table, from 1."""
    pairs: tuple[PairTable, ...]
    ideograph: Any
    """Index in `ideograph_log_p`; 0 for characters that are not in it."""
    ideograph_log_p: Any
    """(4, ideographs + 1), float32, in the order of IDEOGRAPHIC."""


@cache
def load_letters() -> LetterTables:
    """Load the tables, smoothed."""
    script, letter = np.full(0x10000, -1, np.int8), np.zeros(0x10000, np.int16)
    ideograph = np.zeros(0x10000, np.int32)
    pairs = []
    with np.load(PAIRS_FILE) as file:
        for number, name in enumerate(SCRIPTS):
            index = {char: n for n, char in enumerate(str(file[f"{name}_letters"]), 1)}
            for code in range(0x41, 0x2000):
                if script_of(chr(code)) == name and (found := index.get(fold(chr(code)))):
                    script[code], letter[code] = number, found
            log_p = _smooth(file[f"{name}_pairs"])
            pairs.append(PairTable(tuple(str(file[f"{name}_languages"]).split()), log_p))
        chars = [ord(char) for char in str(file["ideographs"])]
        ideograph[chars] = np.arange(1, len(chars) + 1)
        costs = file["ideograph_costs"].astype(np.float32)
        costs[costs == 255] = 18 * PAIR_SCALE
        log_ideographs = np.concatenate([np.full((len(IDEOGRAPHIC), 1), -18, np.float32), -costs / PAIR_SCALE], axis=1)
    return LetterTables(script, letter, tuple(pairs), ideograph, log_ideographs)


def _smooth(costs: Any) -> Any:
    """Interpolate pairs with single letters, and single letters with a uniform distribution, to avoid zero
    probabilities.
    """
    p = np.where(costs == 255, 0, np.exp(-costs.astype(np.float32) / PAIR_SCALE))
    single = p.mean(axis=1, keepdims=True)
    single = (1 - _ANY_LETTER) * single / single.sum(axis=2, keepdims=True) + _ANY_LETTER / p.shape[2]
    p = np.where(p.any(axis=2, keepdims=True), p, single)
    return np.log((1 - _UNSEEN) * p + _UNSEEN * single)
