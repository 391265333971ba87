"""Detect the encoding of a whole page or message, and decode it in the charset that it declares."""

import codecs
import re

from llmkit.text.decoding.encoding_detection import Guess, detect_legacy, sample_words, score_as
from llmkit.text.decoding.excerpts import find_high
from llmkit.text.decoding.unmarked_encodings import WINDOW_BYTES, detect_wide

# UTF-32 comes before UTF-16, because its little-endian mark begins with that of UTF-16.
MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
UNICODE = ("ascii", "utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "utf-16", "utf-32", "utf-7")
HAS_C1 = re.compile("[\x80-\x9f]")
MIN_UNLIKELY = 20.0
"""Minimum lead, in nats, for an encoding to count as much likelier than the one that the user or the page names."""
_DECLARED_AS = {"gb2312": "gb18030", "gbk": "gb18030", "iso-8859-1": "cp1252", "us-ascii": "utf-8"}
_NO_CHARSETS = ("unicode-escape", "raw-unicode-escape", "unicode_escape", "raw_unicode_escape", "idna", "punycode")


def detect_encoding(head: bytes, *, complete: bool) -> str:
    """Return the codec name for the first bytes of a file; `complete` says whether these are all of its bytes."""
    found = find_mark(head)[0] or detect_wide(head) or ("ascii" if head.isascii() else "")
    return found or detect_legacy(head, complete=complete).encodings[0]


def find_mark(head: bytes) -> tuple[str, int]:
    """Return the encoding that a byte order mark names, and the length of the mark; ("", 0) if there is none."""
    return next(((name, len(mark)) for mark, name in MARKS if head.startswith(mark)), ("", 0))


def decode_declared(data: bytes, charset: str) -> tuple[str, str] | None:
    """Return a page or message decoded in the charset that it declares, and the codec; None if the declaration is
    wrong.

    As in browsers, iso-8859-1 is cp1252. A declaration counts as wrong if the decoded text has control characters, or
    is much less likely than the text in another encoding.
    """
    name = _DECLARED_AS.get(charset.lower(), charset.lower())
    try:
        if not name or codecs.lookup(name).name in _NO_CHARSETS:
            return None
        text = data.decode(name)
    except (LookupError, ValueError):
        return None
    if data.isascii() or codecs.lookup(name).name in UNICODE:
        return text, name
    if HAS_C1.search(text):
        return None
    guess, _, is_likelier = compare_encoding(data, name)
    is_sure = guess.rival is None and guess.utf8_word is None and name not in guess.encodings
    return None if is_sure and is_likelier else (text, name)


def compare_encoding(data: bytes, encoding: str) -> tuple[Guess, bytes, bool]:
    """Compare `encoding` with the most likely encoding of the bytes near the first non-ASCII byte.

    Returns the most likely encoding, these bytes, and whether it is much more likely than `encoding`.
    """
    start = max(0, find_high(data) - 1000)
    window = data[start : start + WINDOW_BYTES]
    guess = detect_legacy(window, complete=len(data) <= start + WINDOW_BYTES)
    sample = sample_words(window)
    lead = score_as(sample, guess.encodings[0]) - score_as(sample, encoding)
    return guess, window, lead > MIN_UNLIKELY
