"""Find the line of a file where the encoding changes.

A line counts only if its text is much more likely in another encoding: by chance, rare words are a little more likely
in a wrong encoding. In data above 64 KB only a sample of the lines is scored, together with the lines that have the
rarest pairs of bytes.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from llmkit.text.decoding.encoding_detection import (
    ASCII,
    CANDIDATES,
    FIRST_BYTES,
    MARGIN,
    SINGLE_BYTE,
    compose,
    rank_encodings,
    sample_words,
)
from llmkit.text.decoding.text_scores import score_texts

_TAKES_ASCII = re.compile(rb"(?<![\x80-\xff])(?:[\x80-\xff]{2})*[\x80-\xff][A-Za-z]")
_CHANGE_MARGIN = 15.0
_CHANGE_MARGIN_PER_BYTE = 0.3
"""Minimum lead of another encoding, summed over lines: in nats, and in nats per non-ASCII byte."""
_LINE_MARGIN = 10.0
"""Minimum gain in nats for a line to count. Rare Chinese words gain up to 9.5 nats in another encoding by chance."""
_MAX_SUSPECTS = 3
_MAX_SCORED_BYTES = 1 << 16
_MAX_RARE_LINES = 20
_MIN_RARE_PAIRS = 8
_MAX_LINE_BYTES = 900
_LINE = re.compile(rb"[^\n\r]{0,900}(?:[\n\r ]+|\Z)|[^\n\r]+[\n\r]*")
"""A line, or a piece of a long line up to a space."""


def find_change(data: bytes, encoding: str) -> tuple[int, str] | None:
    """Return the offset of the first line that is much more likely in another encoding, and that encoding.

    Candidates are the best encodings of the three lines with the lowest scores in total and per byte. A candidate is
    accepted if the total gain of the lines that it improves is large enough.
    """
    lines = _sample_lines(data, encoding) if encoding in CANDIDATES else []
    if len(lines) < 2:
        return None
    samples = [sample for _, sample in lines]
    texts, own = _score_lines(samples, encoding)
    lengths = np.array([len(sample) for sample in samples])
    losses = np.quantile(own / lengths, 0.9) * lengths - own
    worst = dict.fromkeys(n for by in (losses, losses / lengths) for n in np.argsort(-by)[:_MAX_SUSPECTS])
    suspects = [samples[number] for number in worst if losses[number] > MARGIN]
    rivals = dict.fromkeys(rank_encodings(sample)[0].encodings[0] for sample in suspects)
    for rival in rivals:
        rival_texts, scores = _score_lines(samples, rival)
        gains = np.where([a != b for a, b in zip(texts, rival_texts, strict=True)], scores - own, 0.0)
        if rival not in SINGLE_BYTE and encoding in SINGLE_BYTE:  # the rival decodes `°C` in `20°C` as one character
            gains = np.where([_TAKES_ASCII.search(sample) is None for sample in samples], gains, 0.0)
        better = np.flatnonzero(gains > _LINE_MARGIN)
        n_high = sum(len(samples[number].translate(None, ASCII)) for number in better)
        if gains[better].sum() - CANDIDATES[rival].rarity > max(_CHANGE_MARGIN, _CHANGE_MARGIN_PER_BYTE * n_high):
            return lines[int(better[0])][0], rival
    return None


def _sample_lines(data: bytes, encoding: str) -> list[tuple[int, bytes]]:
    """Return (offset, sample of the words) of each line with non-ASCII bytes.

    In large data, only every n-th of these lines and the lines with the rarest pairs of bytes are returned.
    """
    found = [(start, line) for start, line in _split_lines(data, encoding) if not line.isascii()]
    step = max(1, len(data) // _MAX_SCORED_BYTES) | 1  # odd, so that if two kinds of lines alternate, both are seen
    numbers = {*range(0, len(found), step), *(_find_rare_lines(data, found) if step > 1 else ())}
    lines = [found[number] for number in sorted(numbers)]
    return [(start, sample_words(line, n_bytes=_MAX_LINE_BYTES)[:FIRST_BYTES]) for start, line in lines]


def _find_rare_lines(data: bytes, lines: Sequence[tuple[int, bytes]]) -> set[int]:
    """Return the numbers of the lines whose pairs of bytes are the rarest in the data, in total or on average."""
    codes = np.frombuffer(data, np.uint8).astype(np.int32)
    pairs = codes[:-1] * 256 + codes[1:]
    is_high = (codes[:-1] > 127) | (codes[1:] > 127)
    counts = np.bincount(pairs[is_high], minlength=1 << 16)
    rarity = np.where(is_high, np.log(max(1, counts.sum()) / np.maximum(1, counts[pairs])), 0.0)
    sums, n_high = (np.concatenate([[0.0], np.cumsum(each)]) for each in (rarity, is_high))
    starts = np.array([start for start, _ in lines])
    ends = np.minimum(starts + [len(line) for _, line in lines], len(pairs))
    totals, numbers = sums[ends] - sums[starts], np.maximum(1, n_high[ends] - n_high[starts])
    excess = totals - numbers * rarity.sum() / max(1, is_high.sum())
    means = np.where(numbers >= _MIN_RARE_PAIRS, totals / numbers, 0.0)
    return {int(n) for by in (excess, means) for n in np.argsort(-by)[:_MAX_RARE_LINES]}


def _split_lines(data: bytes, encoding: str) -> Iterator[tuple[int, bytes]]:
    """Yield (offset, line); a long line is cut at spaces, or else between characters of the encoding."""
    for match in _LINE.finditer(data):
        start, end = match.span()
        while end - start > 2 * _MAX_LINE_BYTES:
            ends = range(start + _MAX_LINE_BYTES, start + _MAX_LINE_BYTES - 4, -1)
            cut = next((each for each in ends if _is_whole(data[start:each], encoding)), ends[0])
            yield start, data[start:cut]
            start = cut
        yield start, data[start:end]


def _is_whole(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _score_lines(samples: Sequence[bytes], encoding: str) -> tuple[list[str], Any]:
    """Return the decoded samples, and an array of their scores."""
    texts = [compose(sample.decode(encoding, "replace")) for sample in samples]
    found = score_texts(texts, [CANDIDATES[encoding].languages] * len(texts))
    return texts, np.array([each.score for each in found])
