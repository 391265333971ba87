"""Measure how much of the held-out text is also in the train split.

A text is reduced to the UTF-8 bytes of its casefolded letters and digits, without space and punctuation, and windows of
50 bytes (50 letters, 16 Chinese characters) are hashed. The sample consists of the windows with the smallest hashes.
The upper bits of a hash depend on the window's first 8 bytes only, so one multiplication decides whether a window is
sampled, and only sampled windows are hashed in full. Sampling depends on the window alone, so the same windows of a
copied passage are sampled in both texts (Manber 1994; Schleimer et al. 2003), even if it is wrapped or punctuated
differently.

Does not find paraphrases or translations. At most 200,000 windows of the held-out text are kept.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from llmkit.text.documents import Document
from llmkit.text.scan import casefold_utf8, scan_text

WINDOW_BYTES = 50
_MAX_WINDOWS = 200_000  # the standard error of the fraction is then about 0.1 %
_BYTES_AT_ONCE = 1 << 19
_ANCHOR = 0x9E3779B97F4A7C15
_ANCHOR_BITS = 24
_WORDS = (0, 8, 16, 24, 32, 40, WINDOW_BYTES - 8)
"""Offsets of the 8-byte words that cover a window."""
_FILTER_BITS = 20
# Latin-1 signs, general and Chinese punctuation, full-width forms of ASCII punctuation.
_MARKS = "\x80-\xa9\xab-\xb4\xb6-\xb9\xbb-\xbf\u2000-\u206f\u3000-\u303f\ufe30-\ufe4f\uff01-\uff0f\uff1a-\uff20"
_LEADS = (0xE2, 0xE3, 0xEF)
"""First UTF-8 bytes of the _MARKS beyond Latin-1, which have three bytes."""
_FEW_BYTES, _MAX_REPLACED = 5_000, 12
"""Maximum size of a text and maximum number of distinct non-ASCII characters to use bytes.replace instead of numpy."""
_ASCII_MARKS = bytes(code for code in range(128) if not chr(code).isalnum())


@dataclass(frozen=True, slots=True)
class Overlap:
    """Amount of held-out text that is also in the train split."""

    share: float
    """Fraction of the sampled held-out windows that are in train; a repeated passage counts once."""
    n_windows: int
    """Number of distinct held-out windows in the sample."""
    n_found: int
    every: int
    """Sampling interval: one window in `every` was sampled."""
    window_bytes: int = WINDOW_BYTES


Hashes = NDArray[np.uint64]
Offsets = NDArray[np.int64]
Sample = tuple[Hashes, int]
"""(sorted hashes, every): a sample of one in `every` windows of a text."""


def sample_windows(held_out: Iterable[Document], n_bytes: int) -> Sample:
    """Sample windows of a held-out text or of one of its shards; `n_bytes` is the size of the whole text."""
    every = 1
    while n_bytes > 4 * _MAX_WINDOWS * every:  # folding and repetition remove up to 3/4 of the windows
        every *= 2
    return merge_windows((hashes, every) for hashes in _hash_windows(held_out, _below(every)))


def merge_windows(samples: Iterable[Sample]) -> Sample:
    """Merge the samples of a text's shards; the result does not depend on how the text is cut into shards."""
    kept = np.empty(0, dtype=np.uint64)
    waiting: list[Hashes] = []  # merged only when there are many, because merging sorts
    every, n_waiting = 1, 0
    for hashes, shard_every in chain(samples, [(None, 1)]):
        every = max(every, shard_every)
        if hashes is not None:
            waiting.append(_downsample(hashes, every))
            n_waiting += len(waiting[-1])
        if hashes is None or n_waiting > 2 * _MAX_WINDOWS:
            kept = _unique(_downsample(np.concatenate([kept, *waiting]), every))
            waiting, n_waiting = [], 0
            while len(kept) > _MAX_WINDOWS:
                every *= 2
                kept = _downsample(kept, every)
    return kept, every


def _unique(hashes: Hashes) -> Hashes:
    """Return the distinct hashes, sorted. np.unique uses a hash table since numpy 2.4 and takes 2.05 s for 2 million
    values; this function takes 0.11 s.
    """
    hashes.sort()
    is_new = np.append(True, hashes[1:] != hashes[:-1])
    return hashes.compress(is_new[: len(hashes)])


def find_windows(train: Iterable[Document], samples: Sequence[Sample]) -> list[NDArray[np.bool_]]:
    """Return, for each sample, a mask of its hashes that occur in the train text or in this shard of it."""
    searches = [_Search(*sample) for sample in samples]
    if wanted := [search.wanted for search in searches if len(search.wanted)]:
        for hashes in _hash_windows(train, _one_of(wanted, min(every for _, every in samples))):
            for search in searches:
                search.mark_found(hashes)
    return [search.found for search in searches]


Choose = Callable[[Hashes], NDArray[np.bool_]]
"""Returns a mask of the windows to hash, given the products of their first 8 bytes and _ANCHOR."""


def _below(every: int) -> Choose:
    """Return a function that chooses the windows that may be in a sample of 1/`every` of the windows."""
    limit = np.uint64(-(-(1 << 64) // min(every, 1 << _ANCHOR_BITS)) - 1)
    return lambda products: products <= limit


def _one_of(wanted: Sequence[Hashes], every: int) -> Choose:
    """Return a function that chooses the windows that may have a wanted hash.

    `every` is the smallest sampling interval of the wanted samples.
    """
    if every > 1:
        return _below(every)
    known = np.zeros(1 << _FILTER_BITS, bool)
    for hashes in wanted:
        known[_upper_bits(hashes)] = True
    return lambda products: known.take(_upper_bits(products))


def _upper_bits(hashes: Hashes) -> Offsets:
    return (hashes >> np.uint64(64 - _FILTER_BITS)).view(np.int64)


class _Search:
    """A sample and a mask of its hashes that were found; a lookup table rejects nearly all other hashes."""

    def __init__(self, wanted: Hashes, every: int) -> None:
        self.wanted, self._every = wanted, every
        self.found = np.zeros(len(wanted), dtype=bool)
        self._build_filter()

    def _build_filter(self) -> None:
        self._may_be_wanted = np.zeros(1 << _FILTER_BITS, dtype=bool)
        self._may_be_wanted[_lower_bits(self.wanted[~self.found])] = True
        self._n_hits = 0

    def mark_found(self, hashes: Hashes) -> None:
        hashes = _downsample(hashes, self._every)
        hashes = hashes.compress(self._may_be_wanted.take(_lower_bits(hashes)))
        hashes.sort()  # searchsorted is faster for sorted values
        indices = np.searchsorted(self.wanted, hashes)
        indices[indices == len(self.wanted)] = 0
        indices = indices[self.wanted[indices] == hashes]
        self.found[indices] = True
        self._n_hits += len(indices)
        if self._n_hits > len(self.wanted) // 8:  # rebuild without the hashes that were found
            self._build_filter()


def _downsample(hashes: Hashes, every: int) -> Hashes:
    """Return 1/`every` of the hashes: those below a threshold."""
    # `compress` is twice as fast as indexing by a mask, and `take` is twice as fast as indexing by offsets.
    return hashes.compress(hashes < np.uint64((1 << 64) // every)) if every > 1 else hashes


def _lower_bits(hashes: Hashes) -> Offsets:
    """Return indices into the filter table: the lower bits, because all hashes of a sample have similar upper bits."""
    return (hashes & np.uint64((1 << _FILTER_BITS) - 1)).view(np.int64)


def count_overlap(found: NDArray[np.bool_], every: int) -> Overlap:
    """Count the overlap from a mask of `find_windows`."""
    n_found = int(found.sum())
    return Overlap(n_found / max(1, len(found)), len(found), n_found, every)


def _hash_windows(documents: Iterable[Document], choose: Choose) -> Iterator[Hashes]:
    """Yield arrays of the hashes of the chosen windows; no window spans two documents."""
    waiting: list[bytes] = []  # short documents are joined: a numpy call costs as much as hashing a thousand bytes
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
            unfinished = data[ends[-1] if ends else 0 :]
            waiting, ends = [unfinished[max(0, len(unfinished) - WINDOW_BYTES + 1) :]], []
            n_waiting = len(waiting[0])
    yield from _hash_joined(b"".join(waiting), ends, choose)


def _hash_joined(data: bytes, ends: list[int], choose: Choose) -> Iterator[Hashes]:
    """Yield the hashes of the chosen windows. The documents in `data` end at `ends`; the last may be unfinished."""
    n_windows = max(0, len(data) - WINDOW_BYTES + 1)
    all_ends = np.array([*ends, len(data)])
    for start in range(0, n_windows, _BYTES_AT_ONCE):
        offsets = _choose_offsets(data, start, min(_BYTES_AT_ONCE, n_windows - start), choose)
        ends_after = all_ends.take(np.searchsorted(all_ends, offsets, side="right"))
        yield _hash_at(data, offsets.compress(offsets + WINDOW_BYTES <= ends_after))


def _choose_offsets(data: bytes, start: int, n_windows: int, choose: Choose) -> Offsets:
    """Return the unsorted offsets of the windows that `choose` selects among `n_windows` windows after `start`."""
    found = []
    for shift in range(min(8, n_windows)):
        words = np.frombuffer(data, "<u8", (n_windows - shift + 7) // 8, start + shift)
        found.append(np.flatnonzero(choose(words * np.uint64(_ANCHOR))) * 8 + (start + shift))
    return np.concatenate(found)


def _hash_at(data: bytes, offsets: Offsets) -> Hashes:
    """Return 64-bit hashes of the windows at `offsets`; their upper bits come from the product of the first word."""
    words = np.ndarray((max(0, len(data) - 7),), "<u8", data, strides=(1,))  # the word at each byte
    hashes = np.zeros(len(offsets), np.uint64)
    for shift in _WORDS:
        hashes ^= words[offsets + shift]
        hashes *= np.uint64(0xBF58476D1CE4E5B9)
        hashes ^= hashes >> np.uint64(29)
    upper = np.uint64((1 << 64) - (1 << (64 - _ANCHOR_BITS)))
    return (words[offsets] * np.uint64(_ANCHOR) & upper) | hashes >> np.uint64(_ANCHOR_BITS)


def _fold(text: str) -> bytes:
    """Return the casefolded letters and digits of the text as UTF-8."""
    data = casefold_utf8(text)
    others = scan_text(text).others
    if len(data) < _FEW_BYTES and len(others) <= _MAX_REPLACED:
        for char in others:  # casefolding turns no character into a mark
            if _mark_table()[min(ord(char), 0xFFFF)]:
                data = data.replace(char.encode(), b"")
        return data.translate(None, _ASCII_MARKS)
    if not others:
        return data.translate(None, _ASCII_MARKS)
    blanked = bytearray(data)  # each mark is replaced by spaces, which are deleted with the ASCII marks
    codes = np.frombuffer(blanked, np.uint8)
    marks = _mark_table()
    offsets = np.flatnonzero(codes == 0xC2)
    offsets = offsets[marks[codes[offsets + 1]]]  # after the byte 0xC2, the next byte equals the code point
    codes[offsets] = codes[offsets + 1] = ord(" ")
    for lead in _LEADS:
        offsets = np.flatnonzero(codes == lead)
        middle, end = (codes[offsets + shift] & np.uint16(63) for shift in (1, 2))
        offsets = offsets[marks[(lead & 15) << 12 | middle << 6 | end]]
        codes[offsets] = codes[offsets + 1] = codes[offsets + 2] = ord(" ")
    return bytes(blanked.translate(None, _ASCII_MARKS))


@cache
def _mark_table() -> NDArray[np.bool_]:
    """Return, for each 16-bit code point, whether it is one of the _MARKS."""
    is_mark = np.zeros(1 << 16, bool)
    for first, last in re.findall("(.)-(.)", _MARKS):
        is_mark[ord(first) : ord(last) + 1] = True
    return is_mark
