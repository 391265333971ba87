"""Look for held-out text that is also in the train split.

A text is folded to the UTF-8 bytes of its letters and digits, without case, space and punctuation, and windows of 50
bytes (50 letters, 16 Chinese characters) are hashed. The sample is the windows with the smallest hashes. The upper
bits of a hash come from the window's first 8 bytes alone, so one multiplication tells which windows are in the sample
and only those are hashed. The choice depends on the text alone, so the same passage is sampled alike on both sides
wherever it stands (Manber 1994; Schleimer et al. 2003), and a copied passage is found though it is wrapped or
punctuated differently.

Does not find paraphrases or translations. At most 200,000 windows of the held-out text are kept.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Any

from llmkit.text.documents import Document
from llmkit.text.scan import casefold_utf8, scan_text

WINDOW_BYTES = 50
_MAX_WINDOWS = 200_000  # a share is then right to about 0.1 %
_BYTES_AT_ONCE = 1 << 19
_ANCHOR = 0x9E3779B97F4A7C15
_ANCHOR_BITS = 24
_WORDS = (0, 8, 16, 24, 32, 40, WINDOW_BYTES - 8)
"""Where the words of 8 bytes begin that cover a window."""
_FILTER_BITS = 20
# The Latin-1 signs, general and Chinese punctuation, full-width forms of the ASCII marks.
_MARKS = "\x80-\xa9\xab-\xb4\xb6-\xb9\xbb-\xbf\u2000-\u206f\u3000-\u303f\ufe30-\ufe4f\uff01-\uff0f\uff1a-\uff20"
_LEADS = (0xE2, 0xE3, 0xEF)
"""The first of the three bytes of a mark beyond Latin-1, in UTF-8."""
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


Sample = tuple[Any, int]
"""(sorted hashes, n): of the windows of a text, one in n."""


def sample_windows(held_out: Iterable[Document], n_bytes: int) -> Sample:
    """The sample of a held-out text or of a shard of it; `n_bytes` is the size of the whole text."""
    every = 1
    while n_bytes > 4 * _MAX_WINDOWS * every:  # so that few are hashed in vain; repeated and folded away are up to 3/4
        every *= 2
    return merge_windows((hashes, every) for hashes in _hash_windows(held_out, _below(every)))


def merge_windows(samples: Iterable[Sample]) -> Sample:
    """The sample of a text from those of its shards. Whether a window is in it goes by its hash and by how many there
    are in all, so it does not depend on the shards."""
    import numpy as np

    kept = np.empty(0, dtype=np.uint64)
    waiting: list[Any] = []  # merged now and then: sorting millions for each small document would never end
    every, n_waiting = 1, 0
    for hashes, of_shard in chain(samples, [(None, 1)]):
        every = max(every, of_shard)
        if hashes is not None:
            waiting.append(_thin_out(hashes, every))
            n_waiting += len(waiting[-1])
        if hashes is None or n_waiting > 2 * _MAX_WINDOWS:
            kept = _unique(_thin_out(np.concatenate([kept, *waiting]), every))
            waiting, n_waiting = [], 0
            while len(kept) > _MAX_WINDOWS:
                every *= 2
                kept = _thin_out(kept, every)
    return kept, every


def _unique(hashes: Any) -> Any:
    """As np.unique, which goes by a table of hashes (numpy 2.4): 2.05 s for 2 million where this takes 0.11."""
    import numpy as np

    hashes.sort()
    return hashes[np.append(True, hashes[1:] != hashes[:-1])[: len(hashes)]]


def find_windows(train: Iterable[Document], samples: Sequence[Sample]) -> list[Any]:
    """For each sample a mask of its hashes: whether the train text has them. Of a text in shards, any shard may."""
    searches = [_Search(*sample) for sample in samples]
    if wanted := [search.wanted for search in searches if len(search.wanted)]:
        for hashes in _hash_windows(train, _one_of(wanted, min(every for _, every in samples))):
            for search in searches:
                search.look_in(hashes)
    return [search.found for search in searches]


Choose = Callable[[Any], Any]
"""From the products of the first words of windows, a mask of the windows to be hashed."""


def _below(every: int) -> Choose:
    """Those that may be in a sample of one in `every`."""
    import numpy as np

    limit = np.uint64(-(-(1 << 64) // min(every, 1 << _ANCHOR_BITS)) - 1)
    return lambda products: products <= limit


def _one_of(wanted: Sequence[Any], every: int) -> Choose:
    """Those whose upper bits one of the wanted hashes has; none of these is above one in `every`."""
    import numpy as np

    if every > 1:
        return _below(every)
    known = np.zeros(1 << _FILTER_BITS, bool)
    for hashes in wanted:
        known[_upper_bits(hashes)] = True
    return lambda products: known.take(_upper_bits(products))


def _upper_bits(hashes: Any) -> Any:
    import numpy as np

    return (hashes >> np.uint64(64 - _FILTER_BITS)).view(np.int64)


class _Search:
    """One sample, and which of it was found. A short table says of nearly all other hashes that they are not in it."""

    def __init__(self, wanted: Any, every: int) -> None:
        import numpy as np

        self.wanted, self._every = wanted, every
        self.found = np.zeros(len(wanted), dtype=bool)
        self._fill()

    def _fill(self) -> None:
        import numpy as np

        self._may_be_wanted = np.zeros(1 << _FILTER_BITS, dtype=bool)
        self._may_be_wanted[_shorten(self.wanted[~self.found])] = True
        self._n_hits = 0

    def look_in(self, hashes: Any) -> None:
        import numpy as np

        hashes = _thin_out(hashes, self._every)
        hashes = hashes.compress(self._may_be_wanted.take(_shorten(hashes)))
        hashes.sort()  # each search then begins where the one before ended
        places = np.searchsorted(self.wanted, hashes)
        places[places == len(self.wanted)] = 0
        places = places[self.wanted[places] == hashes]
        self.found[places] = True
        self._n_hits += len(places)
        if self._n_hits > len(self.wanted) // 8:  # what was found need not be looked up again
            self._fill()


def _thin_out(hashes: Any, every: int) -> Any:
    """One in `every` of the hashes: the smallest of all possible ones."""
    import numpy as np

    # compress and take do what brackets do, in half the time.
    return hashes.compress(hashes < np.uint64((1 << 64) // every)) if every > 1 else hashes


def _shorten(hashes: Any) -> Any:
    """Table positions from the lower bits of the hashes; the upper bits are similar within a sample."""
    import numpy as np

    return (hashes & np.uint64((1 << _FILTER_BITS) - 1)).view(np.int64)


def count_overlap(found: Any, every: int) -> Overlap:
    """What `find_windows` found, as a share."""
    n_found = int(found.sum())
    return Overlap(n_found / max(1, len(found)), len(found), n_found, every)


def _hash_windows(documents: Iterable[Document], choose: Choose) -> Iterator[Any]:
    """Hashes of the chosen windows, many bytes at a time; no window spans two documents."""
    waiting: list[bytes] = []  # short documents go together: a call of numpy takes as long as a thousand bytes
    ends: list[int] = []
    n_waiting = 0
    for document in documents:
        waiting.append(_fold(document.text))
        n_waiting += len(waiting[-1])
        if document.last:
            ends.append(n_waiting)
        if n_waiting >= _BYTES_AT_ONCE:
            data = b"".join(waiting)
            yield from _hash_joined(data, ends, choose)
            begun = data[ends[-1] if ends else 0 :]
            waiting, ends = [begun[max(0, len(begun) - WINDOW_BYTES + 1) :]], []
            n_waiting = len(waiting[0])
    yield from _hash_joined(b"".join(waiting), ends, choose)


def _hash_joined(data: bytes, ends: list[int], choose: Choose) -> Iterator[Any]:
    """Hashes of the chosen windows of documents that stand one after another and end at `ends`; the last may go on."""
    import numpy as np

    n_windows = max(0, len(data) - WINDOW_BYTES + 1)
    all_ends = np.array([*ends, len(data)])
    for start in range(0, n_windows, _BYTES_AT_ONCE):
        places = _choose_places(data, start, min(_BYTES_AT_ONCE, n_windows - start), choose)
        ends_after = all_ends.take(np.searchsorted(all_ends, places, side="right"))
        yield _hash_at(data, places.compress(places + WINDOW_BYTES <= ends_after))


def _choose_places(data: bytes, start: int, n_windows: int, choose: Choose) -> Any:
    """Where the chosen ones of `n_windows` windows from `start` begin; not in order."""
    import numpy as np

    found = []
    for shift in range(min(8, n_windows)):
        words = np.frombuffer(data, "<u8", (n_windows - shift + 7) // 8, start + shift)
        found.append(np.flatnonzero(choose(words * np.uint64(_ANCHOR))) * 8 + (start + shift))
    return np.concatenate(found)


def _hash_at(data: bytes, places: Any) -> Any:
    """Hashes of 64 bits of the windows that begin at `places`; the upper bits are those of the anchor's product."""
    import numpy as np

    words = np.ndarray((max(0, len(data) - 7),), "<u8", data, strides=(1,))  # one that begins at each byte
    hashes = np.zeros(len(places), np.uint64)
    for shift in _WORDS:
        hashes ^= words[places + shift]
        hashes *= np.uint64(0xBF58476D1CE4E5B9)
        hashes ^= hashes >> np.uint64(29)
    upper = np.uint64((1 << 64) - (1 << (64 - _ANCHOR_BITS)))
    return (words[places] * np.uint64(_ANCHOR) & upper) | hashes >> np.uint64(_ANCHOR_BITS)


def _fold(text: str) -> bytes:
    import numpy as np

    data = casefold_utf8(text)
    if not scan_text(text).others:
        return data.translate(None, _ASCII_MARKS)
    blanked = bytearray(data)  # every mark becomes spaces, which go with the marks of ASCII
    codes = np.frombuffer(blanked, np.uint8)
    marks = _find_marks()
    places = np.flatnonzero(codes == 0xC2)
    places = places[marks[codes[places + 1]]]  # behind this byte the next one is the character's number
    codes[places] = codes[places + 1] = ord(" ")
    for lead in _LEADS:
        places = np.flatnonzero(codes == lead)
        middle, end = (codes[places + shift] & np.uint16(63) for shift in (1, 2))
        places = places[marks[(lead & 15) << 12 | middle << 6 | end]]
        codes[places] = codes[places + 1] = codes[places + 2] = ord(" ")
    return bytes(blanked.translate(None, _ASCII_MARKS))


@cache
def _find_marks() -> Any:
    """For each character number of 16 bits, whether it is one of the _MARKS."""
    import numpy as np

    is_mark = np.zeros(1 << 16, bool)
    for first, last in re.findall("(.)-(.)", _MARKS):
        is_mark[ord(first) : ord(last) + 1] = True
    return is_mark
