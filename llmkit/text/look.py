"""What a text has in it, found in one look at its UTF-8, so that a step with nothing to do costs next to nothing.

Most of what the steps look for is not ordinary ASCII, and beside that a text has a few dozen different characters.
UTF-8 is scanned two to ten times as fast as a str with one curly quote in it, and its case is folded without decoding.

Knows nothing of what the steps do.
"""

_ORDINARY = bytes([*b"\t\n\v\f\r", *range(32, 127)])
_MOST_REPLACED = 12
"""Different characters that are folded one after the other; Greek and Russian have more, and take casefold's time."""


class Look:
    """One text, seen once."""

    __slots__ = ("_others", "_utf8", "text")

    def __init__(self, text: str, utf8: bytes | None = None) -> None:
        self.text = text
        self._utf8 = utf8
        self._others: frozenset[str] | None = None

    @property
    def utf8(self) -> bytes:
        """A lone surrogate as UTF-8 would have it."""
        if self._utf8 is None:
            self._utf8 = self.text.encode("utf-8", "surrogatepass")
        return self._utf8

    @property
    def others(self) -> frozenset[str]:
        """The different characters that are neither printable ASCII nor its white space."""
        if self._others is None:
            self._others = frozenset(self.utf8.translate(None, _ORDINARY).decode("utf-8", "surrogatepass"))
        return self._others


_last = Look("")


def look_at(text: str) -> Look:
    """A look at the text; the last one is kept, since one step after the other looks at the same text."""
    global _last
    look = _last
    if look.text is not text:
        look = _last = Look(text)
    return look


def decode(utf8: bytes) -> str:
    """The text; a look at it, if that comes next, has its UTF-8 already."""
    global _last
    look = _last = Look(utf8.decode(), utf8)
    return look.text


def casefold_utf8(text: str) -> bytes:
    """`text.casefold()` in UTF-8."""
    look = look_at(text)
    cased = [char for char in look.others if char.casefold() != char]
    if len(cased) > _MOST_REPLACED:
        return text.casefold().encode("utf-8", "surrogatepass")
    folded = look.utf8.lower()  # of bytes: ASCII alone
    for char in cased:  # what one becomes never folds again, so their order is all one
        folded = folded.replace(char.encode(), char.casefold().encode())
    return folded
