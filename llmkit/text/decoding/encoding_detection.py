"""Detect the encoding of bytes without a byte order mark: the one whose decoded text is the most probable.

The candidates are the single-byte and East Asian encodings that Python supports and that are in use. Encodings that
decode to the same text form one reading. Only a sample of the words is decoded: those with non-ASCII bytes, each once,
so that a frequent name counts once, and some ASCII words, because they indicate the language.

Independent of files, byte order marks or errors.
"""

import codecs
import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from llmkit.text.decoding.text_scores import is_plausible, score_texts


@dataclass(frozen=True, slots=True)
class Candidate:
    """Rarity of an encoding, in nats that are subtracted from its score, and the languages that are written in it."""

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
FIRST_BYTES = 1000
_FIRST_MARGIN = 100.0
"""Readings whose score of the first part of the sample is this many nats below the best are discarded."""
_UTF8_CHAR = rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}"
_UTF8_WORD = re.compile(rb"(?:[\x00-\x7f]|" + _UTF8_CHAR + rb")+")
_FIND_UTF8 = re.compile(_UTF8_CHAR)
_HIGH_PAIR = re.compile(rb"[\x80-\xff]{2}")
_MIN_ASCII_PER_HIGH = 8
_MIN_EAST_ASIAN_LEAD = 15.0
"""Minimum lead, in nats, of an East Asian encoding over single-byte ones, if non-ASCII bytes are few and isolated."""
_TAKES_LETTER = re.compile(rb"[\x80-\xff][A-Za-z][a-z]")
ASCII = bytes(range(128))
_SPACES = bytes.maketrans(b"\n\r\t", b"   ")
_MIN_UTF8_SHARE = 0.8
_MAX_STRAY_COST = 12.0
"""Maximum loss, in nats, of a text with a decoded stray byte, compared with the text without the byte."""
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
    bytes count as damaged UTF-8.
    """
    if is_valid(data, "utf-8", complete=complete):
        return Guess(("utf-8",))
    n_high = len(data.translate(None, ASCII))
    n_valid = sum(map(len, _FIND_UTF8.findall(data)))
    if n_valid >= _MIN_UTF8_SHARE * n_high:
        return Guess(("utf-8",))
    readings = rank_encodings(sample_words(data))
    if not _HIGH_PAIR.search(data) and len(data) > _MIN_ASCII_PER_HIGH * n_high:
        # cp949 decodes the bytes of `°C` in `20 °C` as one Korean character.
        singles = [each for each in readings if SINGLE_BYTE.keys() & {*each.encodings}]
        if singles and readings[0].score - singles[0].score < _MIN_EAST_ASIAN_LEAD:
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
    # East Asian encodings decode a stray byte and the ASCII letter after it as one character.
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
    (found,) = score_texts([compose(joined)], [CANDIDATES[reading.encodings[0]].languages])
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
    """Return a sample of the distinct words, joined by spaces.

    It has up to `n_bytes` bytes of the words with non-ASCII bytes, and about half of that of the ASCII words.
    """
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
    readings = _rank(lambda name: sample[:FIRST_BYTES].decode(name, "replace"), candidates)
    if len(sample) <= FIRST_BYTES:
        return readings
    likely = {name for each in readings if each.score > readings[0].score - _FIRST_MARGIN for name in each.encodings}
    likely.update(*(each.encodings for each in readings[:2]))
    return _rank(lambda name: sample.decode(name, "replace"), [name for name in CANDIDATES if name in likely])


def score_as(sample: bytes, encoding: str) -> float:
    """Return the score of the sample in an encoding, in nats, for the best language; UTF-8 ignores invalid bytes."""
    text = sample.decode(encoding, "ignore" if encoding == "utf-8" else "replace")
    (found,) = score_texts([compose(text)], [_ALL_LANGUAGES])
    return found.score


def rank_stray_byte(data: bytes, start: int, end: int) -> Reading | None:
    """Return the word around a byte that is invalid UTF-8; the byte is decoded in the single-byte encoding that the
    context supports. None if the context supports no encoding.
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
    scores = score_texts([compose(text) for text in names], languages)
    readings = []
    for (text, same), found in zip(names.items(), scores, strict=True):
        language = found.language
        preferred = sorted(same, key=lambda name: language not in CANDIDATES[name].languages)
        score = found.score - min(CANDIDATES[name].rarity for name in same)
        readings.append(Reading(tuple(preferred), text, score))
    return sorted(readings, key=lambda reading: -reading.score)


def compose(text: str) -> str:
    """Compose letters with their marks: cp1258 stores Vietnamese tones as separate characters."""
    return text if unicodedata.is_normalized("NFC", text) else unicodedata.normalize("NFC", text)
