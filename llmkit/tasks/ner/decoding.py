"""Choose the tags of sentences from the scores of their words."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from llmkit.tables.tag_schemes import OUTSIDE

Scores = NDArray[np.float32]


def tag_names(types: Sequence[str]) -> list[str]:
    """Return the labels of a tagger for these types of entities, in the order of their ids."""
    return [OUTSIDE, *(f"{prefix}-{kind}" for kind in types for prefix in "BI")]


def find_allowed(tags: Sequence[str]) -> NDArray[np.bool_]:
    """Return which tag may follow which, (tags + 1, tags); the last row is the beginning of a sentence.

    An I- tag follows only B- or I- of its own type.
    """
    allowed = np.ones((len(tags) + 1, len(tags)), bool)
    for number, tag in enumerate(tags):
        if tag.startswith("I-"):
            allowed[:, number] = [before[2:] == tag[2:] and before != OUTSIDE for before in tags] + [False]
    return allowed


def decode_greedily(scores: Scores) -> NDArray[np.int64]:
    """Return the id of the best tag of each word; scores are (words, tags)."""
    best: NDArray[np.int64] = scores.argmax(1)
    return best


def decode_constrained(scores: Scores, allowed: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the ids of the allowed sequence with the largest sum of scores (Viterbi 1967)."""
    if not len(scores):
        return np.zeros(0, np.int64)
    costs = np.where(allowed, 0.0, -np.inf)
    total = scores[0] + costs[-1]
    best_before = np.zeros(scores.shape, np.int64)
    for word in range(1, len(scores)):
        paths = total[:, None] + costs[:-1]
        best_before[word] = paths.argmax(0)
        total = paths.max(0) + scores[word]
    tags = [int(total.argmax())]
    for word in range(len(scores) - 1, 0, -1):
        tags.append(int(best_before[word, tags[-1]]))
    return np.array(tags[::-1], np.int64)
