"""Look for held-out text that is also in the train split.

A text is folded to the UTF-8 bytes of its letters and digits, without case, space and punctuation, and every
window of 50 bytes (50 letters, 16 Chinese characters) is hashed. The windows whose hash is a multiple of a power
of two are the sample, chosen by the text alone, so that the same passage is sampled alike on both sides wherever
it stands (Manber 1994; "0 mod p"). So a copied passage is found though it is wrapped or punctuated otherwise.

Does not find paraphrases or translations. At most 200,000 windows of the held-out text are kept.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

from llmkit.text.documents import Document

WINDOW_BYTES = 50
_MOST_WINDOWS = 200_000  # a share is then right to about 0.1 %
# General and Chinese punctuation, full-width forms of the ASCII marks, and the Latin-1 signs, in UTF-8: U+0080-A9,
# AB-B4, B6-B9, BB-BF, 2000-206F, 3000-303F, FE30-FE4F, FF01-FF0F, FF1A-FF20. A pattern that begins with a fixed byte is
# searched for at memory speed, so there is one for each such byte.
_MARKS = tuple(
    re.compile(pattern)
    for pattern in (
        rb"\xc2[\x80-\xa9\xab-\xb4\xb6-\xb9\xbb-\xbf]",
        rb"\xe2(?:\x80[\x80-\xbf]|\x81[\x80-\xaf])",
        rb"\xe3\x80[\x80-\xbf]",
        rb"\xef(?:\xb8[\xb0-\xbf]|\xb9[\x80-\x8f]|\xbc[\x81-\x8f\x9a-\xa0])",
    )
)
_ASCII_MARKS = bytes(code for code in range(128) if not chr(code).isalnum())


@dataclass(frozen=True, slots=True)
class Overlap:
    """How much of the held-out text is in train too."""

    share: float
    """Of the held-out windows, those that are in train; a passage twice in the held-out text counts once."""
    n_windows: int
    """Different held-out windows looked at."""
    n_found: int
    every: int
    """One window in so many was looked at."""
    window_bytes: int = WINDOW_BYTES


def find_overlap(train: Iterable[Document], held_out: Iterable[Document]) -> Overlap:
    """Share of the held-out text's windows that the train text has too; 0 where there is none to look at."""
    hashes, every = sample_windows(held_out)
    return count_overlap(find_windows(train, hashes, every), every)


def sample_windows(held_out: Iterable[Document]) -> tuple[Any, int]:
    """(sorted hashes, n): the sample of the text's windows, one in n of them."""
    import numpy as np

    wanted = np.empty(0, dtype=np.uint64)
    waiting = [wanted]  # merged now and then: sorting millions for each small document would never end
    every, n_waiting = 1, 0
    for hashes in chain(_hash_windows(held_out), [None]):
        if hashes is not None:
            waiting.append(hashes[hashes & np.uint64(every - 1) == 0])
            n_waiting += len(waiting[-1])
        if hashes is None or n_waiting > 10 * _MOST_WINDOWS:
            wanted = _unique(np.concatenate([wanted, *waiting]))
            waiting, n_waiting = [], 0
            while len(wanted) > _MOST_WINDOWS:
                every *= 2
                wanted = wanted[wanted & np.uint64(every - 1) == 0]
    return wanted, every


def merge_windows(samples: Iterable[tuple[Any, int]]) -> tuple[Any, int]:
    """What `sample_windows` gives for a text from what it gives for the pieces of it. Whether a window is in the sample
    goes by its hash and by how many there are in all, so it is the same."""
    import numpy as np

    samples = list(samples)
    every = max((each for _, each in samples), default=1)
    kept = [hashes[hashes & np.uint64(every - 1) == 0] for hashes, _ in samples]
    merged = _unique(np.concatenate([np.empty(0, np.uint64), *kept]))
    while len(merged) > _MOST_WINDOWS:
        every *= 2
        merged = merged[merged & np.uint64(every - 1) == 0]
    return merged, every


def _unique(hashes: Any) -> Any:
    """As np.unique, which goes by a table of hashes (numpy 2.4): 2.05 s for 2 million where this takes 0.11."""
    import numpy as np

    hashes.sort()
    return hashes[np.append(True, hashes[1:] != hashes[:-1])[: len(hashes)]]


def find_windows(train: Iterable[Document], wanted: Any, every: int) -> Any:
    """For each hash of the sample, whether the train text has it; of a text in pieces, any piece may."""
    import numpy as np

    found = np.zeros(len(wanted), dtype=bool)
    if len(wanted):
        for hashes in _hash_windows(train):
            hashes = hashes[hashes & np.uint64(every - 1) == 0]
            places = np.searchsorted(wanted, hashes)
            places[places == len(wanted)] = 0
            found[places[wanted[places] == hashes]] = True
    return found


def count_overlap(found: Any, every: int) -> Overlap:
    """What `find_windows` found, as a share."""
    n_found = int(found.sum())
    return Overlap(n_found / max(1, len(found)), len(found), n_found, every)


def _hash_windows(documents: Iterable[Document]) -> Iterator[Any]:
    """Hashes of all windows, about a million at a time; no window spans two documents."""
    import numpy as np

    carried = b""
    for document in documents:
        data = carried + _fold(document.text)
        carried = b"" if document.last else data[max(0, len(data) - WINDOW_BYTES + 1) :]
        if len(data) >= WINDOW_BYTES:
            yield _roll(np.frombuffer(data, dtype=np.uint8))


def _fold(text: str) -> bytes:
    data = text.casefold().encode("utf-8", "surrogatepass").translate(None, _ASCII_MARKS)
    if not text.isascii():
        for marks in _MARKS:
            data = marks.sub(b"", data)
    return data


def _roll(data: Any) -> Any:
    """A polynomial hash of each window, built by doubling: lengths 1, 2, 4, ... joined to WINDOW_BYTES."""
    import numpy as np

    n_windows = len(data) - WINDOW_BYTES + 1
    power = data.astype(np.uint64) + np.uint64(1)
    length, base = 1, 0x9E3779B97F4A7C15
    joined, joined_length = None, 0
    rest = WINDOW_BYTES
    while True:
        if rest & 1:
            tail = power if joined is None else power[joined_length:]
            joined = tail if joined is None else joined[: len(tail)] * np.uint64(base) + tail[: len(joined)]
            joined_length += length
        rest >>= 1
        if not rest:
            break
        power = power[:-length] * np.uint64(base) + power[length:]
        length, base = length * 2, base * base % (1 << 64)
    assert joined is not None
    hashes = joined[:n_windows]
    # The low bits of a polynomial are weak; the sample is taken by them.
    return (hashes ^ (hashes >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9) >> np.uint64(1)
