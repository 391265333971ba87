"""The word baseline: each word gets its most frequent tag in the train rows.

Words are compared as written, then in lower case; a word that no train row has is O.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Sentence = tuple[Sequence[str], Sequence[int]]
"""The words of a row and the ids of their tags."""


class WordBaseline:
    """The most frequent tag of each word; ties go to the lower id."""

    def __init__(self, sentences: Iterable[Sentence]) -> None:
        counts: defaultdict[str, Counter[int]] = defaultdict(Counter)
        folded: defaultdict[str, Counter[int]] = defaultdict(Counter)
        for words, tags in sentences:
            for word, tag in zip(words, tags, strict=True):
                counts[word][tag] += 1
                folded[word.lower()][tag] += 1
        self._tags, self._folded = (
            {word: min(tags, key=lambda tag: (-tags[tag], tag)) for word, tags in each.items()}
            for each in (counts, folded)
        )

    def predict(self, words: Iterable[str]) -> NDArray[np.int64]:
        """Return the id of the tag of each word."""
        tags = [self._tags.get(word, self._folded.get(word.lower(), 0)) for word in words]
        return np.array(tags, np.int64)
