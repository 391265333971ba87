"""Normalize the white space of a document: trailing blanks, paragraph indents, blank lines.

Removes blanks at line ends, except exactly two spaces, which are Markdown's line break; indents of full-width spaces
(U+3000) or before Chinese text, which only mark paragraphs; blank lines beyond two in a row; and blank lines at the
start and the end. Keeps a line feed at the end of the text, spaces inside a line and all other indents (verse, code).
tinyshakespeare stays unchanged.

White space at the end of a part is held back until the next part arrives.
"""

import re
from collections.abc import Iterable, Iterator

import numpy as np

from llmkit.text.documents import StepCounts, mark_last
from llmkit.text.scan import TextScan, cache_scan, known_utf8, scan_text

_BLANKS = " \t\xa0\u3000"
_CHINESE = re.compile(r"[\u2e80-\u9fff\uf900-\ufaff]")
_CHINESE_INDENT = re.compile(rf"\n[ \t\xa0]+[“‘（《「『【〔—…]*{_CHINESE.pattern}")
_BLANK_ENDS = tuple(f"{blank}\n".encode() for blank in _BLANKS)
_FEW_BYTES = 5_000
"""Length in bytes below which bytes.find is faster than numpy."""
_FEW_ENDS = 500
"""If fewer than one in this many characters is a trailing blank, only the lines with trailing blanks are processed."""
_BLANK_LINE_RUN = re.compile(r"\n{4,}")


def normalize_whitespace(texts: Iterable[str], count: StepCounts) -> Iterator[str]:
    """Normalize the parts of one document as if they were one text."""
    held = ""  # normalized white space at the end of the parts so far
    n_in = n_out = 0
    begun = False
    for text, last in mark_last(texts):
        n_in += len(text)
        joined = held + text
        normalized = _normalize(joined, starts_line=not begun)
        blank_start = "" if begun else _find_blank_start(normalized)
        body = normalized[len(blank_start) :].rstrip(_BLANKS + "\n")
        held = normalized[len(blank_start) + len(body) :]
        begun = begun or bool(body)
        end: str | None = held
        if last and begun and "\n" in held:
            body += "\n"
            end = held[1:] if held[0] == "\n" else None
        # Characters are only removed, so equal lengths mean equal texts. The scan of the object `joined` is cached.
        body = joined if len(body) == len(joined) else _cache_utf8(normalized, blank_start, end, body)
        n_out += len(body)
        yield body
    count.changed += n_in != n_out


def _normalize(text: str, starts_line: bool) -> str:
    scan = scan_text(text)
    has_indent = "\u3000" in scan.others or _has_chinese_indent(text, starts_line)
    ends = None if has_indent else _find_blank_ends(scan.utf8, len(text) // _FEW_ENDS)
    if ends is not None:
        text = _trim_lines(scan, ends, starts_line)
    else:
        # Ten times as fast as a regular expression, which stops at every space. The "x" stands for the beginning of the
        # first line, which is in an earlier part.
        *lines, rest = (text if starts_line else "x" + text).split("\n")
        lines = [_trim(line) if line and line[-1] in _BLANKS else line for line in lines]
        lines.append(rest)
        if has_indent:
            lines = [_drop_indent(line) if line and line[0] in _BLANKS else line for line in lines]
        text = "\n".join(lines)[not starts_line :]
    if "\n\n\n\n" in text:
        text = _BLANK_LINE_RUN.sub("\n\n\n", text)
    return text


def _find_blank_ends(utf8: bytes, max_ends: int) -> list[int] | None:
    """Return the byte offsets of the line feeds that follow a blank; None if there are more than `max_ends`."""
    if len(utf8) >= _FEW_BYTES:
        codes = np.frombuffer(utf8, np.uint8)
        offsets = np.flatnonzero(codes[1:] == ord("\n")) + 1
        before = codes[offsets - 1]
        is_blank = (before == ord(" ")) | (before == ord("\t"))
        for i in np.flatnonzero((before == 0xA0) | (before == 0x80)):  # also the last byte of other characters
            is_blank[i] = utf8.endswith(_BLANK_ENDS, 0, int(offsets[i]) + 1)
        return offsets[is_blank].tolist() if np.count_nonzero(is_blank) <= max_ends else None
    ends: list[int] = []
    for blank_end in _BLANK_ENDS:
        offset = utf8.find(blank_end)
        while offset >= 0 and len(ends) <= max_ends:
            ends.append(offset + len(blank_end) - 1)
            offset = utf8.find(blank_end, offset + len(blank_end))
    return sorted(ends) if len(ends) <= max_ends else None


def _trim_lines(scan: TextScan, ends: list[int], starts_line: bool) -> str:
    """Return the scanned text after trimming the lines that end at the byte offsets `ends`."""
    if not ends:
        return scan.text
    pieces: list[bytes] = []
    position = 0
    for end in ends:
        begin = scan.utf8.rfind(b"\n", position, end) + 1 or position
        prefix = "x" if begin == 0 and not starts_line else ""  # as in `_normalize`
        line = _trim(prefix + scan.utf8[begin:end].decode("utf-8", "surrogatepass"))[len(prefix) :]
        pieces += (scan.utf8[position:begin], line.encode("utf-8", "surrogatepass"))
        position = end
    utf8 = b"".join((*pieces, scan.utf8[position:]))
    return cache_scan(utf8.decode("utf-8", "surrogatepass"), utf8)


def _cache_utf8(whole: str, start: str, end: str | None, text: str) -> str:
    """Cache the UTF-8 of `text` if that of `whole` is cached, and return `text`.

    `text` is `whole` without the beginning `start` and the end `end`. `end` is None if `text` is not such a slice.
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
    """Return the blank lines at the start, without the indent of the first line that is not blank."""
    before = text[: len(text) - len(text.lstrip(_BLANKS + "\n"))]
    return before[: before.rfind("\n") + 1]
