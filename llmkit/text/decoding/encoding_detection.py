"""Detect the encoding of bytes without a byte order mark: the one whose decoded text is the most probable.

The candidates are the single-byte and East Asian encodings that Python supports and that are in use. Encodings that
decode to the same text form one reading. Only words with non-ASCII bytes are decoded, each once, so that a frequent
name counts once.

Independent of files, byte order marks or errors.
"""

import codecs
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmkit.text.decoding.text_scores import is_plausible, score_texts


@dataclass(frozen=True, slots=True)
class Candidate:
    """Rarity of an encoding, in nats, and the languages that are written in it."""

    rarity: float
    languages: frozenset[str]


_WEST = "en de fr es pt it ca nl da nb sv fi is et af ga eu sq cy eo tl id"
_CENTRAL = "en de cs sk pl hu ro hr sl sq"
_BALTIC = "en de et lv lt"
_TURKISH = "en de tr"
_CYRILLIC = "en ru uk be bg sr mk kk mn"
_GREEK, _HEBREW, _ARABIC, _THAI, _VIETNAMESE = "en el", "en he", "en ar fa ur", "en th", "en vi fr"

# In order of preference among encodings that decode to the same text: Windows, then ISO and KOI8, then DOS and Mac,
# then rare ones.
_GROUPS = (
    (0.0, _WEST, "cp1252"),
    (0.0, _CENTRAL, "cp1250"),
    (0.0, _CYRILLIC, "cp1251"),
    (0.0, _GREEK, "cp1253"),
    (0.0, _TURKISH, "cp1254"),
    (0.0, _HEBREW, "cp1255"),
    (0.0, _ARABIC, "cp1256"),
    (0.0, _BALTIC, "cp1257"),
    (0.0, _VIETNAMESE, "cp1258"),
    (0.0, _THAI, "cp874"),
    (1.0, _WEST, "latin-1 iso8859-15"),
    (1.0, _CENTRAL, "iso8859-2"),
    (1.0, _CYRILLIC, "iso8859-5 koi8-r koi8-u"),
    (1.0, _GREEK, "iso8859-7"),
    (1.0, _HEBREW, "iso8859-8"),
    (1.0, _TURKISH, "iso8859-9"),
    (1.0, _BALTIC, "iso8859-13"),
    (1.0, _ARABIC, "iso8859-6"),
    (2.5, _CYRILLIC, "cp866 mac-cyrillic"),
    (2.5, _CENTRAL, "cp852 mac-latin2"),
    (2.5, _WEST, "cp850 cp437 mac-roman"),
    (2.5, _TURKISH, "cp857"),
    (2.5, _GREEK, "cp737"),
    (2.5, _HEBREW, "cp862"),
    (2.5, _BALTIC, "cp775"),
    (4.0, _BALTIC, "iso8859-4"),
    (4.0, "en ro fr it hu", "iso8859-16"),
    (4.0, "en is da nb sv", "iso8859-10 cp865 cp861 mac-iceland"),
    (4.0, "en eo tr", "iso8859-3"),
    (4.0, "en cy ga", "iso8859-14"),
    (4.0, _GREEK, "mac-greek cp869"),
    (4.0, _TURKISH, "mac-turkish"),
    (4.0, _CYRILLIC, "cp855"),
    (4.0, _ARABIC, "cp720"),
    (4.0, "en pt", "cp860"),
    (4.0, "en fr", "cp863"),
    (4.0, "en uk", "cp1125"),
    (0.0, "zh-hans zh-hant en", "gb18030"),
    (0.0, "zh-hant en", "cp950"),
    (1.0, "zh-hant en", "big5hkscs"),
    (0.0, "ja en", "cp932"),
    (1.0, "ja en", "euc_jp"),
    (0.0, "ko en", "cp949"),
    (4.0, "ko en", "johab"),
)
_MULTI_BYTE = ("gb18030", "cp950", "big5hkscs", "cp932", "euc_jp", "cp949", "johab")
CANDIDATES = {
    name: Candidate(rarity, frozenset(languages.split()))
    for rarity, languages, names in _GROUPS
    for name in names.split()
}
SINGLE_BYTE = {name: candidate for name, candidate in CANDIDATES.items() if name not in _MULTI_BYTE}
_ALL_LANGUAGES = frozenset().union(*(each.languages for each in CANDIDATES.values()))
MARGIN = 3.0
"""Minimum lead of the best reading over the second, in nats. Measured with benchmarks/encodings.py."""
_RARE_MARGIN = 6.0
_MIN_RATE = -4.6
"""Minimum score of text, in nats per byte of the words with non-ASCII bytes. Correct readings have -2 to -4.3."""
_MIN_RATED_BYTES = 6
_SYMBOL_IN_WORD = re.compile(r"[^\W\d_][¡-¬®-¶¸-¿×÷†‡‰ˆ˜™][^\W\d_]")
_SAMPLE_BYTES = 6000
_FIRST_BYTES = 1000
_FIRST_MARGIN = 100.0
"""Readings that are worse than the best by more than this, in nats of the first part of the sample, are discarded."""
_UTF8_CHAR = rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}"
_UTF8_WORD = re.compile(rb"(?:[\x00-\x7f]|" + _UTF8_CHAR + rb")+")
_FIND_UTF8 = re.compile(_UTF8_CHAR)
_HIGH_PAIR = re.compile(rb"[\x80-\xff]{2}")
_MIN_ASCII_PER_HIGH = 8
_MAX_TAKEN_GAIN = 15.0
"""Maximum lead in nats with which an East Asian encoding is not trusted for ASCII text with single other bytes."""
_TAKES_LETTER = re.compile(rb"[\x80-\xff][A-Za-z][a-z]")
_TAKES_ASCII = re.compile(rb"(?<![\x80-\xff])(?:[\x80-\xff]{2})*[\x80-\xff][A-Za-z]")
_ASCII = bytes(range(128))
_SPACES = bytes.maketrans(b"\n\r\t", b"   ")
_MIN_UTF8_SHARE = 0.8
_MAX_STRAY_COST = 12.0
"""Maximum loss in nats of a line that is decoded with a byte in another encoding, compared with the line without it."""
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
_SAME_FAMILY = {"cp950", "big5hkscs"}
"""Encodings that differ in a few punctuation marks only; the more likely one is chosen, however small its lead."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The decoded text of a sample, and all encodings that decode to it."""

    encodings: tuple[str, ...]
    text: str
    score: float
    """Nats."""


@dataclass(frozen=True, slots=True)
class Guess:
    """The encoding of some bytes; `rival` and `utf8_word` are reasons not to trust it."""

    encodings: tuple[str, ...]
    """Encodings that decode to the same text, the preferred one first."""
    rival: str | None = None
    """Another encoding that is nearly as likely and decodes the bytes to a different text."""
    is_text: bool = True
    """False if no encoding gives likely text; `rival` is then the second best."""
    utf8_word: bytes | None = None
    """A word of valid UTF-8 in bytes that are otherwise not UTF-8."""


def detect_legacy(data: bytes, *, complete: bool) -> Guess:
    """Detect UTF-8 or a legacy encoding of bytes that are not all ASCII and have no byte order mark.

    `complete`: the bytes do not end inside a character. If at least 80 % of the non-ASCII bytes are valid UTF-8, the
    bytes are damaged UTF-8.
    """
    if is_valid(data, "utf-8", complete=complete):
        return Guess(("utf-8",))
    n_high = len(data.translate(None, _ASCII))
    n_valid = sum(map(len, _FIND_UTF8.findall(data)))
    if n_valid >= _MIN_UTF8_SHARE * n_high:
        return Guess(("utf-8",))
    readings = rank_encodings(sample_words(data))
    if not _HIGH_PAIR.search(data) and len(data) > _MIN_ASCII_PER_HIGH * n_high:
        # cp949 decodes the bytes of `°C` in `20 °C` as one Korean character.
        singles = [each for each in readings if SINGLE_BYTE.keys() & {*each.encodings}]
        if singles and readings[0].score - singles[0].score < _MAX_TAKEN_GAIN:
            readings = singles
    best = readings[0]
    if n_valid and (word := find_utf8_word(data, best.encodings[0])):
        others = b" ".join(
            each for each in dict.fromkeys(data.split()) if not _UTF8_WORD.fullmatch(each) or each.isascii()
        )
        return Guess(rank_encodings(sample_words(others))[0].encodings, utf8_word=word)
    if not is_text(best):
        return Guess(best.encodings, readings[min(1, len(readings) - 1)].encodings[0], is_text=False)
    rivals = [each for each in readings[1:] if not {*each.encodings, *best.encodings} <= _SAME_FAMILY]
    # One byte is little evidence for a rare encoding.
    is_rare = complete and n_high == 1 and min(CANDIDATES[name].rarity for name in best.encodings) > 0
    is_sure = not rivals or best.score - rivals[0].score >= (_RARE_MARGIN if is_rare else MARGIN)
    # A stray byte looks like an East Asian character that consumes the ASCII letter after it.
    if n_high <= 2 and not SINGLE_BYTE.keys() & {*best.encodings} and _TAKES_LETTER.search(data):
        rivals = [each for each in rivals if SINGLE_BYTE.keys() & {*each.encodings}]
        is_sure = not rivals
    valid = tuple(name for name in best.encodings if is_valid(data, name))
    return Guess(valid or best.encodings, None if is_sure else rivals[0].encodings[0])


def is_text(reading: Reading) -> bool:
    """Whether the words with non-ASCII bytes are likely text of some language; always true for a few bytes."""
    words = [word for word in reading.text.split() if not word.isascii()]
    joined = " ".join(words)
    n_bytes = len(joined.encode(reading.encodings[0], "replace"))
    n_symbols = sum(_SYMBOL_IN_WORD.search(word) is not None for word in words)
    if n_bytes < _MIN_RATED_BYTES:
        return True
    (found,) = score_texts([_compose(joined)], [CANDIDATES[reading.encodings[0]].languages])
    return found.score >= _MIN_RATE * n_bytes and (n_symbols < 2 or 5 * n_symbols < len(words))


def is_valid(data: bytes, encoding: str, *, complete: bool = False) -> bool:
    """Whether the bytes are valid in the encoding; unless `complete`, the last character may be truncated."""
    try:
        codecs.getincrementaldecoder(encoding)().decode(data, complete)
    except UnicodeDecodeError:
        return False
    return True


def find_utf8_word(data: bytes, encoding: str) -> bytes | None:
    """Return a word of valid UTF-8 in bytes of another encoding, if all such words together are more probable as
    UTF-8.
    """
    found = (word for word in set(data.split()) if not word.isascii() and _UTF8_WORD.fullmatch(word))
    words = sorted(word for word in found if is_plausible(word.decode("utf-8", "replace")))
    if not words:
        return None
    joined = b" ".join(words)[:_SAMPLE_BYTES]
    texts = [joined.decode("utf-8", "ignore"), joined.decode(encoding, "replace")]
    as_utf8, as_legacy = (found.score for found in score_texts(texts, [_ALL_LANGUAGES, CANDIDATES[encoding].languages]))
    if as_utf8 - as_legacy < MARGIN:
        return None
    return max(words, key=lambda word: len(_FIND_UTF8.findall(word)))


def sample_words(data: bytes, *, n_bytes: int = _SAMPLE_BYTES) -> bytes:
    """Return the distinct words with non-ASCII bytes, and half as many bytes of other words, joined by spaces."""
    high: dict[bytes, None] = {}
    other: dict[bytes, None] = {}
    n_high = n_other = 0
    for word in data.split():
        if word.isascii():
            if n_other < n_bytes // 2 and word not in other:
                other[word[:60]] = None
                n_other += len(word)
        elif word not in high:
            high[word[: n_bytes - n_high]] = None
            n_high += len(word)
            if n_high >= n_bytes:
                break
    return b" ".join([*high, *other]) + (b"" if n_high >= n_bytes else b"\n")


def rank_encodings(sample: bytes, candidates: Iterable[str] = tuple(CANDIDATES)) -> list[Reading]:
    """Return the readings of a sample, most probable first."""
    readings = _rank(lambda name: sample[:_FIRST_BYTES].decode(name, "replace"), candidates)
    if len(sample) <= _FIRST_BYTES:
        return readings
    likely = {name for each in readings if each.score > readings[0].score - _FIRST_MARGIN for name in each.encodings}
    likely.update(*(each.encodings for each in readings[:2]))
    return _rank(lambda name: sample.decode(name, "replace"), [name for name in CANDIDATES if name in likely])


def score_as(sample: bytes, encoding: str) -> float:
    """Return the score of the sample in an encoding, in nats, for the best language; UTF-8 ignores invalid bytes."""
    text = sample.decode(encoding, "ignore" if encoding == "utf-8" else "replace")
    (found,) = score_texts([_compose(text)], [_ALL_LANGUAGES])
    return found.score


def find_change(data: bytes, encoding: str) -> tuple[int, str] | None:
    """Return the offset of the first line that is much more likely in another encoding, and that encoding.

    Candidates are the best encodings of the three lines with the lowest scores in total and per byte. A candidate is
    accepted if the total gain of the lines that it improves is large enough. In data above 64 KB only a sample of the
    lines, and the lines with the rarest pairs of bytes, are scored.
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
        if rival in _MULTI_BYTE and encoding in SINGLE_BYTE:  # it decodes `°C` in `20°C` as one character
            gains = np.where([_TAKES_ASCII.search(sample) is None for sample in samples], gains, 0.0)
        better = np.flatnonzero(gains > _LINE_MARGIN)
        n_high = sum(len(samples[number].translate(None, _ASCII)) for number in better)
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
    return [(start, sample_words(line, n_bytes=_MAX_LINE_BYTES)[:_FIRST_BYTES]) for start, line in lines]


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
    texts = [_compose(sample.decode(encoding, "replace")) for sample in samples]
    found = score_texts(texts, [CANDIDATES[encoding].languages] * len(texts))
    return texts, np.array([each.score for each in found])


def rank_stray_byte(data: bytes, start: int, end: int) -> Reading | None:
    """Return the word around a byte that is invalid UTF-8; the byte is decoded in the single-byte encoding that the
    context supports. None if it supports no encoding.
    """
    before = data[max(0, start - 500) : start].lstrip(bytes(range(0x80, 0xC0))).translate(_SPACES)
    after = data[end : end + 200].translate(_SPACES)
    word_start, word_end = before.rfind(b" ") + 1, after.find(b" ") if b" " in after else len(after)
    word = decode_mixed(before[word_start:], "latin-1"), decode_mixed(after[:word_end], "latin-1")
    if any(
        char > "\u2e80" for part in word for char in part
    ):  # damaged Chinese: single bytes of another encoding do not occur in it
        return None
    context = decode_mixed(before[:word_start] + after[word_end:], "latin-1")

    def decode(name: str) -> str:
        return f"{word[0]}{data[start:end].decode(name, 'replace')}{word[1]} {context}"

    best, second, *_ = _rank(decode, SINGLE_BYTE)
    (without,) = score_texts([f"{word[0]}{word[1]} {context}"], [_ALL_LANGUAGES])
    if best.score - second.score < MARGIN or best.score < without.score - _MAX_STRAY_COST:
        return None
    return Reading(best.encodings, best.text.split(" ")[0], best.score)


def decode_mixed(data: bytes, encoding: str) -> str:
    """Decode valid UTF-8 as UTF-8, and all other bytes in `encoding`."""
    parts = []
    start = 0
    for match in _UTF8_WORD.finditer(data):
        parts += [data[start : match.start()].decode(encoding, "replace"), match[0].decode("utf-8", "replace")]
        start = match.end()
    return "".join([*parts, data[start:].decode(encoding, "replace")])


def _rank(decode: Callable[[str], str], candidates: Iterable[str]) -> list[Reading]:
    names: dict[str, list[str]] = {}
    for name in candidates:
        names.setdefault(decode(name), []).append(name)
    languages = [frozenset().union(*(CANDIDATES[name].languages for name in same)) for same in names.values()]
    scores = score_texts([_compose(text) for text in names], languages)
    readings = []
    for (text, same), found in zip(names.items(), scores, strict=True):
        language = found.language
        preferred = sorted(same, key=lambda name: language not in CANDIDATES[name].languages)
        score = found.score - min(CANDIDATES[name].rarity for name in same)
        readings.append(Reading(tuple(preferred), text, score))
    return sorted(readings, key=lambda reading: -reading.score)


def _compose(text: str) -> str:
    """Compose letters with their marks: cp1258 stores Vietnamese tones as separate characters."""
    return text if unicodedata.is_normalized("NFC", text) else unicodedata.normalize("NFC", text)
