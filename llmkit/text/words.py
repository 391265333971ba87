"""Count the words of a text, as perplexity a word divides by them.

A word stands between white space, and each line end counts as one more, as in WikiText and PTB: so the words of a text
are the tokens of the `word` tokenizer, whatever tokenizer a model has.

Chinese, Japanese, Thai and their neighbours write no space between words. What stands between white space is a clause
there, and a figure over such "words" would only look like one.
"""

import re
from collections.abc import Mapping

MOST_UNSPACED = 0.1
"""The share of a text's characters that may be of scripts without spaces: an English book may quote Chinese."""

# Thai, Lao and Tibetan; Burmese; Khmer; kana; Chinese.
_UNSPACED = re.compile(
    "[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+"
)
_UNSPACED_LEADS = b"\xe0\xe1\xe3\xe4\xe5\xe6\xe7\xe8\xe9\xef\xf0"
# White space to Python's split, but not to Unicode and so not to tokenizers.
_NO_SPACES = "\x1c\x1d\x1e\x1f"


def count_words(text: str, *, ends_document: bool) -> dict[str, int]:
    """`words`, line ends and the document's end among them, and `unspaced`, the characters of scripts without spaces.

    A text that spells the word tokenizer's own <eos> or <pad> has three tokens there and no more than one word here.
    """
    spaced = text
    for character in _NO_SPACES:
        spaced = spaced.replace(character, "x")  # the same text, uncopied, where it has none
    n_words = len(spaced.split()) + text.count("\n") + ends_document
    unspaced = sum(map(len, _UNSPACED.findall(text))) if _may_be_unspaced(text) else 0
    return {"words": n_words, "unspaced": unspaced}


def _may_be_unspaced(text: str) -> bool:
    """Quickly: whether any character's first byte in UTF-8 is one that a script without spaces has."""
    return not text.isascii() and len(data := text.encode("utf-8", "surrogatepass")) > len(
        data.translate(None, _UNSPACED_LEADS)
    )


def choose_words(totals: Mapping[str, int]) -> int | None:
    """The words of a text from the summed counts of its parts and its `characters`; None where they are no words."""
    return totals["words"] if totals["unspaced"] <= MOST_UNSPACED * totals["characters"] else None
