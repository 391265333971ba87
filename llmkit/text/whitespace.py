"""Tidy the white space of a document: line ends, paragraph indents, blank lines.

Spaces at line ends go, except just two, which are Markdown's line break; indents of full-width spaces (U+3000)
or before Chinese go, since they are typography; more than two blank lines become two; blank lines at the start
and the end go, and a line feed that ends the text stays. Spaces inside a line and the indents of other verse and
code stay. tinyshakespeare comes through unchanged.

Across parts the white space at an edge is held back until the next part shows what it is.
"""

import re
from collections.abc import Iterable, Iterator

from llmkit.text.documents import StepCounts, mark_last
from llmkit.text.scan import TextScan, cache_scan, known_utf8, scan_text

_BLANKS = " \t\xa0\u3000"
_CHINESE = re.compile(r"[\u2e80-\u9fff\uf900-\ufaff]")
_CHINESE_INDENT = re.compile(rf"\n[ \t\xa0]+[“‘（《「『【〔—…]*{_CHINESE.pattern}")
_BLANK_ENDS = tuple(f"{blank}\n".encode() for blank in _BLANKS)
_FEW_BYTES = 5_000
"""Below this looking for one blank after the other is faster, above it numpy."""
_FEW_ENDS = 500
"""With fewer trailing blanks than one in so many characters, only their lines are looked at."""
_MANY_LINES = re.compile(r"\n{4,}")


def tidy_whitespace(texts: Iterable[str], count: StepCounts) -> Iterator[str]:
    """The parts of one document, tidied as if they were one text."""
    held = ""  # white space at the end of what has come, as tidy as it can be yet
    n_in = n_out = 0
    begun = False
    for text, last in mark_last(texts):
        n_in += len(text)
        untidy = held + text
        tidied = _tidy(untidy, starts_line=not begun)
        blank_start = "" if begun else _find_blank_start(tidied)
        body = tidied[len(blank_start) :].rstrip(_BLANKS + "\n")
        held = tidied[len(blank_start) + len(body) :]
        begun = begun or bool(body)
        end: str | None = held
        if last and begun and "\n" in held:
            body += "\n"
            end = held[1:] if held[0] == "\n" else None
        # Nothing is ever added or replaced, so equal lengths mean an equal text.
        body = (
            untidy if len(body) == len(untidy) else _keep_utf8(tidied, blank_start, end, body)
        )  # the very object, already looked at
        n_out += len(body)
        yield body
    count.changed += n_in != n_out


def _tidy(text: str, starts_line: bool) -> str:
    scan = scan_text(text)
    has_indent = "\u3000" in scan.others or _has_chinese_indent(text, starts_line)
    ends = None if has_indent else _find_blank_ends(scan.utf8, len(text) // _FEW_ENDS)
    if ends is not None:
        text = _trim_lines(scan, ends, starts_line)
    else:
        # Line by line is ten times faster than a pattern, which stops at every space. The "x" stands for the
        # part of the first line that is already gone.
        *lines, rest = (text if starts_line else "x" + text).split("\n")
        lines = [_trim(line) if line and line[-1] in _BLANKS else line for line in lines]
        lines.append(rest)
        if has_indent:
            lines = [_drop_indent(line) if line and line[0] in _BLANKS else line for line in lines]
        text = "\n".join(lines)[not starts_line :]
    if "\n\n\n\n" in text:
        text = _MANY_LINES.sub("\n\n\n", text)
    return text


def _find_blank_ends(utf8: bytes, most: int) -> list[int] | None:
    """Where line feeds stand behind blanks, in bytes; None if there are more than `most`."""
    if len(utf8) >= _FEW_BYTES:
        return _find_many_blank_ends(utf8, most)
    ends: list[int] = []
    for blank_end in _BLANK_ENDS:
        place = utf8.find(blank_end)
        while place >= 0 and len(ends) <= most:
            ends.append(place + len(blank_end) - 1)
            place = utf8.find(blank_end, place + len(blank_end))
    return sorted(ends) if len(ends) <= most else None


def _find_many_blank_ends(utf8: bytes, most: int) -> list[int] | None:
    import numpy as np

    codes = np.frombuffer(utf8, np.uint8)
    places = np.flatnonzero(codes[1:] == ord("\n")) + 1
    before = codes[places - 1]
    is_blank = (before == ord(" ")) | (before == ord("\t"))
    for place in np.flatnonzero((before == 0xA0) | (before == 0x80)):  # the last byte of other characters too
        is_blank[place] = utf8.endswith(_BLANK_ENDS, 0, int(places[place]) + 1)
    return places[is_blank].tolist() if np.count_nonzero(is_blank) <= most else None


def _trim_lines(scan: TextScan, ends: list[int], starts_line: bool) -> str:
    """Trim those lines alone that end there."""
    if not ends:
        return scan.text
    pieces: list[bytes] = []
    place = 0
    for end in ends:
        begin = scan.utf8.rfind(b"\n", place, end) + 1 or place
        gone = "x" if begin == 0 and not starts_line else ""  # as in `_tidy`
        line = _trim(gone + scan.utf8[begin:end].decode("utf-8", "surrogatepass"))[len(gone) :]
        pieces += (scan.utf8[place:begin], line.encode("utf-8", "surrogatepass"))
        place = end
    utf8 = b"".join((*pieces, scan.utf8[place:]))
    return cache_scan(utf8.decode("utf-8", "surrogatepass"), utf8)


def _keep_utf8(whole: str, start: str, end: str | None, text: str) -> str:
    """`text`, which is `whole` without `start` and `end`, remembered with its UTF-8 where that of `whole` is.

    Without `end` the text does not stand in `whole`.
    """
    if end is None or (utf8 := known_utf8(whole)) is None:
        return text
    return cache_scan(text, utf8[len(start.encode()) : len(utf8) - len(end.encode())])


def _trim(line: str) -> str:
    trimmed = line.rstrip(_BLANKS)
    if trimmed and line.endswith("  ") and len(line) == len(trimmed) + 2:
        return line
    return trimmed


def _drop_indent(line: str) -> str:
    body = line.lstrip(_BLANKS)
    indent = line[: len(line) - len(body)]
    return body if "\u3000" in indent or _CHINESE_INDENT.match("\n" + line[: len(indent) + 9]) else line


def _has_chinese_indent(text: str, starts_line: bool) -> bool:
    if not _CHINESE.search("".join(scan_text(text).others)):
        return False
    return bool(_CHINESE_INDENT.search(text) or (starts_line and _CHINESE_INDENT.match("\n" + text[:100])))


def _find_blank_start(text: str) -> str:
    """Blank lines at the start; the indent of the first line that is not blank is not among them."""
    before = text[: len(text) - len(text.lstrip(_BLANKS + "\n"))]
    return before[: before.rfind("\n") + 1]
