"""Find the distinct non-ASCII characters of a text in one scan of its UTF-8.

Cleaning steps mostly change characters outside printable ASCII, of which a text has only a few dozen distinct ones, so
a step can skip a text without characters to change. Scanning UTF-8 is two to ten times as fast as scanning a str
that contains a character beyond Latin-1, such as a curly quote. `casefold_utf8` works on UTF-8 for the same reason.

Independent of the cleaning steps.
"""

import numpy as np

_ORDINARY = bytes([*b"\t\n", *range(32, 127)])
_LINE_MARKS = b"\v\f\r"
_LOWER = bytes(range(256)).lower()
_FEW_BYTES = 2_000
"""Minimum number of non-ASCII characters for which a table of all code points is faster than a set."""
_MAX_REPLACED = 12
"""Maximum number of distinct cased characters for bytes.replace. Texts with more, such as Greek or Russian, are folded
by str.casefold.
"""


class TextScan:
    """One text with its UTF-8 and its non-ASCII characters, each computed once."""

    __slots__ = ("_odd", "_others", "_utf8", "text")

    def __init__(self, text: str, utf8: bytes | None = None) -> None:
        self.text = text
        self._utf8 = utf8
        self._odd: bytes | None = None
        self._others: frozenset[str] | None = None

    @property
    def utf8(self) -> bytes:
        """UTF-8 of the text, with lone surrogates encoded too."""
        if self._utf8 is None:
            self._utf8 = self.text.encode("utf-8", "surrogatepass")
        return self._utf8

    @property
    def odd(self) -> bytes:
        """The UTF-8 without printable ASCII, tabs and line feeds."""
        if self._odd is None:
            self._odd = self.utf8.translate(None, _ORDINARY)
        return self._odd

    @property
    def others(self) -> frozenset[str]:
        """The distinct characters that are neither printable ASCII nor ASCII white space."""
        if self._others is None:
            self._others = _distinct(self.odd.translate(None, _LINE_MARKS).decode("utf-8", "surrogatepass"))
        return self._others


def _distinct(text: str) -> frozenset[str]:
    if len(text) < _FEW_BYTES:
        return frozenset(text)
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
    seen = np.zeros(int(codes.max()) + 1, bool)
    seen[codes] = True
    return frozenset(map(chr, np.flatnonzero(seen).tolist()))


_last = TextScan("")


def scan_text(text: str) -> TextScan:
    """Scan the text; the last scan is cached, since the steps of cleaning scan the same text in turn."""
    global _last
    scan = _last
    if scan.text is not text:
        scan = _last = TextScan(text)
    return scan


def cache_scan(text: str, utf8: bytes, others: str | None = None) -> str:
    """Return the text, and cache its UTF-8 and `others` for the next `scan_text`."""
    global _last
    _last = TextScan(text, utf8)
    _last._others = None if others is None else frozenset(others)
    return text


def known_utf8(text: str) -> bytes | None:
    """Return the cached UTF-8 of the text, if it was scanned last."""
    return _last._utf8 if _last.text is text else None


def decode(utf8: bytes, others: str | None = None) -> str:
    """Decode UTF-8, and cache it with the text."""
    return cache_scan(utf8.decode(), utf8, others)


def casefold_utf8(text: str, without: bytes = b"") -> bytes:
    """Return `text.casefold()` as UTF-8 without the ASCII characters in `without`, which must be uncased."""
    scan = scan_text(text)
    cased = [char for char in scan.others if char.casefold() != char]
    is_unspaced = len(scan.utf8) > 2 * len(text)  # in Chinese, bytes.replace stops at every character
    if len(cased) > (1 if is_unspaced else _MAX_REPLACED):
        return text.casefold().encode("utf-8", "surrogatepass").translate(None, without)
    folded = scan.utf8.translate(_LOWER, without)
    for char in cased:  # folding is idempotent, so the order does not matter
        folded = folded.replace(char.encode(), char.casefold().encode())
    return folded
