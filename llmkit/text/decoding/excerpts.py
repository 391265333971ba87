"""Choose lines of text, undecoded or decoded, to show in messages and receipts."""

import re

_NON_ASCII_LINE = re.compile(r"[^\n\r]*[^\x00-\x7f][^\n\r]*")
EXAMPLE_CHARS = 60


def find_example(text: str) -> str:
    """Return the first line with a non-ASCII character, shortened."""
    found = _NON_ASCII_LINE.search(text)
    return shorten(found[0]) if found else ""


def shorten(text: str) -> str:
    """Return the part of a line around its first non-ASCII character."""
    text = " ".join(text.split())
    first = next((n for n, char in enumerate(text) if ord(char) > 127), 0)
    start = max(0, first - EXAMPLE_CHARS // 2) if len(text) > EXAMPLE_CHARS else 0
    return text[start : start + EXAMPLE_CHARS]


def line_at(data: bytes, position: int) -> bytes:
    """Return the line around a position, at most 200 bytes on each side."""
    start = max(data.rfind(b"\n", 0, position) + 1, position - 200)
    end = data.find(b"\n", position)
    return data[start : min(len(data) if end < 0 else end, position + 200)]


def find_difference(data: bytes, first: str, second: str) -> tuple[int, bytes]:
    """Return the position and bytes of the line in which the most characters differ between two encodings.

    More than four different characters count as four; the first of several such lines is returned.
    """
    position, best = 0, (-1, 0, b"")
    for line in data.splitlines(keepends=True):
        if not line.isascii():
            pairs = zip(line.decode(first, "replace"), line.decode(second, "replace"), strict=False)
            best = max(best, (min(4, sum(a != b for a, b in pairs)), -position, line))
        position += len(line)
    return -best[1], best[2]


def find_high(head: bytes) -> int:
    """Return the offset of the first non-ASCII byte, or the length if all bytes are ASCII."""
    try:
        head.decode("ascii")  # ten times as fast as a regular expression
    except UnicodeDecodeError as error:
        return error.start
    return len(head)
