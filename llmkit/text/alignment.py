"""Map the characters of a normalized text to the characters of the given text.

The two texts are compared by words. A word that changed its length is mapped as a whole, so a part of it may cover more
characters than it came from, never fewer.
"""

import re
from difflib import SequenceMatcher
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_PIECES = re.compile(r"[a-zA-Z0-9]+|.", re.DOTALL)


class Alignment(NamedTuple):
    """For each character of the normalized text, the first character that it came from, and the one after the last."""

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]


def align_characters(given: str, normalized: str) -> Alignment | None:
    """Return the characters of `given` that each character of `normalized` came from; None if positions are equal."""
    if len(given) == len(normalized):
        return None
    before, after = _PIECES.findall(given), _PIECES.findall(normalized)
    edges = [list(accumulate(map(len, pieces), initial=0)) for pieces in (before, after)]
    starts, ends = np.zeros((2, len(normalized)), np.int64)
    for operation, begin, end, other_begin, other_end in SequenceMatcher(
        None, before, after, autojunk=False
    ).get_opcodes():
        first, last = edges[0][begin], edges[0][end]
        target = slice(edges[1][other_begin], edges[1][other_end])
        n_characters = target.stop - target.start
        if operation == "equal" or (operation == "replace" and n_characters == last - first):
            starts[target] = np.arange(first, last)
            ends[target] = starts[target] + 1
        else:
            starts[target], ends[target] = first, last
    return Alignment(starts, ends)
