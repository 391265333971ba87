"""Map the characters of a normalized text to the characters of the original text.

The two texts are compared by pieces: words of ASCII letters and digits, and single other characters. If a changed
passage has another length, each of its characters is mapped to the complete original passage, so a range may be too
long, but never too short.
"""

import re
from difflib import SequenceMatcher
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_PIECES = re.compile(r"[a-zA-Z0-9]+|.", re.DOTALL)


class Alignment(NamedTuple):
    """For each character of the normalized text, the range of original characters that it came from; `ends` are
    exclusive.
    """

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]


def align_characters(given: str, normalized: str) -> Alignment | None:
    """Return the characters of `given` that each character of `normalized` came from.

    Returns None for texts of equal length, whose positions are assumed to be equal.
    """
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
