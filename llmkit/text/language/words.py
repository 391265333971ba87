"""Count words, for the perplexity per word, and find Chinese word boundaries with jieba.

Counted words are separated by white space, and each line end counts as one word, as in WikiText and PTB. The count
is the number of tokens of llmkit's `word` tokenizer, so it does not depend on the tokenizer of the model. Chinese,
Japanese, Thai and related scripts have no spaces between words, so text in them has no word count.

jieba sees only runs of Chinese characters; the words of all other text come from the tokenizer.
"""

import importlib.util
import logging
import re
from collections.abc import Mapping
from importlib.metadata import version
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from llmkit.core.errors import EnvironmentFault
from llmkit.text.scan import TextScan, scan_text

MAX_UNSPACED_SHARE = 0.1
"""Maximum fraction of `unspaced` characters in a text with a word count: an English book may quote Chinese."""

# Thai, Lao and Tibetan; Burmese; Khmer; kana; Chinese.
UNSPACED = re.compile(
    "[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+"
)
_SPACES = frozenset("\x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000").union(map(chr, range(0x2000, 0x200B)))
_FEW_BYTES = 5_000
"""Length in bytes below which `bytes.split` is faster; above it, numpy is up to ten times as fast."""


def count_words(text: str, *, ends_document: bool) -> dict[str, int]:
    """Count `words`, with line ends and the document's end, and `unspaced`, the characters of scripts without spaces.

    A text that contains the word tokenizer's <eos> or <pad> literally has three tokens there, but one word here.
    """
    scan = scan_text(text)
    n_words = _count_separated(scan) + scan.utf8.count(b"\n") + ends_document
    may_be_unspaced = UNSPACED.search("".join(scan.others))
    unspaced = sum(map(len, UNSPACED.findall(text))) if may_be_unspaced else 0
    return {"words": n_words, "unspaced": unspaced}


def _count_separated(scan: TextScan) -> int:
    """Return the number of words separated by white space. Unlike in str.split, U+001C to U+001F do not separate."""
    data = scan.utf8
    for space in scan.others & _SPACES:
        data = data.replace(space.encode(), b" ")
    if len(data) < _FEW_BYTES:
        return len(data.split())
    codes = np.frombuffer(data, np.uint8)
    is_space = (codes == 32) | (codes - 9 < 5)  # unsigned, so values below 9 wrap around
    return int(np.count_nonzero(is_space[:-1] > is_space[1:])) + (not is_space[0])


def valid_word_count(totals: Mapping[str, int]) -> int | None:
    """Return the word count of a text; None if more than MAX_UNSPACED_SHARE of its characters are unspaced.

    `totals` has the sums of `count_words` over the text's parts, and `characters`.
    """
    return totals["words"] if totals["unspaced"] <= MAX_UNSPACED_SHARE * totals["characters"] else None


_CHINESE = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+")


def choose_segmenter(wanted: Literal["auto", "jieba", "characters"]) -> str:
    """Return the name of the segmenter of Chinese words for manifests: `characters`, or `jieba` with its version.

    Raises:
        EnvironmentFault: jieba is requested and not installed.
    """
    installed = importlib.util.find_spec("jieba") is not None
    if wanted == "jieba" and not installed:
        hint = "pip install 'llmkit[chinese]', or set prepare.chinese_words to characters"
        raise EnvironmentFault("jieba is not installed", where="prepare.chinese_words", hint=hint)
    return f"jieba {version('jieba')}" if installed and wanted != "characters" else "characters"


def chinese_mask(text: str) -> NDArray[np.bool_]:
    """Return, for each character, whether it is Chinese."""
    found = np.zeros(len(text), bool)
    for run in _CHINESE.finditer(text):
        found[run.start() : run.end()] = True
    return found


def chinese_continuation_mask(text: str) -> NDArray[np.bool_]:
    """Return, for each character, whether it is Chinese and continues the word of the previous character."""
    inside = np.zeros(len(text), bool)
    runs = list(_CHINESE.finditer(text))
    if not runs:
        return inside
    import jieba  # loads 50 MB of dictionary in half a second

    jieba.setLogLevel(logging.ERROR)
    for run in runs:
        inside[run.start() : run.end()] = True
        start = run.start()
        for word in jieba.cut(run.group()):
            inside[start] = False
            start += len(word)
    return inside
