"""Count the words of a text, as perplexity a word divides by them.

A word stands between white space, and each line end counts as one more, as in WikiText and PTB: so the words of a text
are the tokens of the `word` tokenizer, whatever tokenizer a model has.

Chinese, Japanese, Thai and their neighbours write no space between words. What stands between white space is a clause
there, and a figure over such "words" would only look like one.
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
"""The share of a text's characters that may be of scripts without spaces: an English book may quote Chinese."""

# Thai, Lao and Tibetan; Burmese; Khmer; kana; Chinese.
_UNSPACED = re.compile(
    "[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+"
)
_SPACES = frozenset("\x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000").union(map(chr, range(0x2000, 0x200B)))
_FEW_BYTES = 5_000
"""Below this splitting is the quicker way, above it numpy is up to ten times as fast."""


def count_words(text: str, *, ends_document: bool) -> dict[str, int]:
    """`words`, line ends and the document's end among them, and `unspaced`, the characters of scripts without spaces.

    A text that spells the word tokenizer's own <eos> or <pad> has three tokens there and no more than one word here.
    """
    scan = scan_text(text)
    n_words = _count_spaced(scan) + scan.utf8.count(b"\n") + ends_document
    may_be_unspaced = _UNSPACED.search("".join(scan.others))
    unspaced = sum(map(len, _UNSPACED.findall(text))) if may_be_unspaced else 0
    return {"words": n_words, "unspaced": unspaced}


def _count_spaced(scan: TextScan) -> int:
    """What stands between white space. U+001C to U+001F are that to str.split, but not to Unicode or tokenizers."""
    data = scan.utf8
    for space in scan.others & _SPACES:
        data = data.replace(space.encode(), b" ")
    if len(data) < _FEW_BYTES:
        return len(data.split())
    import numpy as np

    codes = np.frombuffer(data, np.uint8)
    is_space = (codes == 32) | (codes - 9 < 5)  # unsigned: what is below 9 is large
    return int(np.count_nonzero(is_space[:-1] > is_space[1:])) + (not is_space[0])


def choose_words(totals: Mapping[str, int]) -> int | None:
    """The words of a text from the summed counts of its parts and its `characters`; None where they are no words."""
    return totals["words"] if totals["unspaced"] <= MAX_UNSPACED_SHARE * totals["characters"] else None


_CHINESE = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+")


def choose_word_cutter(wanted: Literal["auto", "jieba", "characters"]) -> str:
    """What cuts Chinese into words here: `characters`, or `jieba` with its version, as manifests name it.

    Raises:
        EnvironmentFault: jieba is asked for and not installed.
    """
    installed = importlib.util.find_spec("jieba") is not None
    if wanted == "jieba" and not installed:
        hint = "pip install 'llmkit[chinese]', or set prepare.chinese_words to characters"
        raise EnvironmentFault("jieba is not installed", where="prepare.chinese_words", hint=hint)
    return f"jieba {version('jieba')}" if installed and wanted != "characters" else "characters"


def find_chinese(text: str) -> NDArray[np.bool_]:
    """For each character, whether it is Chinese."""
    found = np.zeros(len(text), bool)
    for run in _CHINESE.finditer(text):
        found[run.start() : run.end()] = True
    return found


def find_word_interiors(text: str) -> NDArray[np.bool_]:
    """For each character, whether it is Chinese and goes on with the word of the character before it."""
    inside = np.zeros(len(text), bool)
    runs = list(_CHINESE.finditer(text))
    if not runs:
        return inside
    import jieba  # half a second and 50 MB of dictionary, only where there is Chinese

    jieba.setLogLevel(logging.ERROR)
    for run in runs:
        inside[run.start() : run.end()] = True
        start = run.start()
        for word in jieba.cut(run.group()):
            inside[start] = False
            start += len(word)
    return inside
