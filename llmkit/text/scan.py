"""What a text has in it, found in one scan of its UTF-8, so that a step with nothing to do costs next to nothing.

Most of what the steps look for is not ordinary ASCII, and beside that a text has a few dozen different characters.
UTF-8 is scanned two to ten times as fast as a str with one curly quote in it, and its case is folded without decoding.

Knows nothing of what the steps do.
"""

_ORDINARY = bytes([*b"\t\n", *range(32, 127)])
_LINE_MARKS = b"\v\f\r"
_LOWER = bytes(range(256)).lower()
_FEW_BYTES = 2_000
"""Of characters that are not ordinary; with more of them a table of all characters is faster than a set."""
_MAX_REPLACED = 12
"""Different characters that are folded one after the other; Greek and Russian have more, and take casefold's time."""


class TextScan:
    """One text, seen once."""

    __slots__ = ("_odd", "_others", "_utf8", "text")

    def __init__(self, text: str, utf8: bytes | None = None) -> None:
        self.text = text
        self._utf8 = utf8
        self._odd: bytes | None = None
        self._others: frozenset[str] | None = None

    @property
    def utf8(self) -> bytes:
        """A lone surrogate as UTF-8 would have it."""
        if self._utf8 is None:
            self._utf8 = self.text.encode("utf-8", "surrogatepass")
        return self._utf8

    @property
    def odd(self) -> bytes:
        """The bytes of the UTF-8 that are not printable ASCII, tab or line feed."""
        if self._odd is None:
            self._odd = self.utf8.translate(None, _ORDINARY)
        return self._odd

    @property
    def others(self) -> frozenset[str]:
        """The different characters that are neither printable ASCII nor its white space."""
        if self._others is None:
            self._others = _distinct(self.odd.translate(None, _LINE_MARKS).decode("utf-8", "surrogatepass"))
        return self._others


def _distinct(text: str) -> frozenset[str]:
    if len(text) < _FEW_BYTES:
        return frozenset(text)
    import numpy as np

    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
    seen = np.zeros(int(codes.max()) + 1, bool)
    seen[codes] = True
    return frozenset(map(chr, np.flatnonzero(seen).tolist()))


_last = TextScan("")


def scan_text(text: str) -> TextScan:
    """Scan the text; the last scan is kept, since each step of cleaning scans the same text."""
    global _last
    scan = _last
    if scan.text is not text:
        scan = _last = TextScan(text)
    return scan


def cache_scan(text: str, utf8: bytes, others: str | None = None) -> str:
    """The text; a look at it, if that comes next, has its UTF-8 already, and its `others`."""
    global _last
    _last = TextScan(text, utf8)
    _last._others = None if others is None else frozenset(others)
    return text


def known_utf8(text: str) -> bytes | None:
    """The UTF-8 of the text that was looked at last, if it is this one."""
    return _last._utf8 if _last.text is text else None


def decode(utf8: bytes, others: str | None = None) -> str:
    """The text, remembered with its UTF-8."""
    return cache_scan(utf8.decode(), utf8, others)


def casefold_utf8(text: str, without: bytes = b"") -> bytes:
    """`text.casefold()` in UTF-8, without some characters of ASCII that have no case."""
    scan = scan_text(text)
    cased = [char for char in scan.others if char.casefold() != char]
    is_unspaced = len(scan.utf8) > 2 * len(text)  # Chinese, where a search for three bytes stops everywhere
    if len(cased) > (1 if is_unspaced else _MAX_REPLACED):
        return text.casefold().encode("utf-8", "surrogatepass").translate(None, without)
    folded = scan.utf8.translate(_LOWER, without)
    for char in cased:  # what one becomes never folds again, so their order is all one
        folded = folded.replace(char.encode(), char.casefold().encode())
    return folded
