"""Tidy the white space of a document: line ends, paragraph indents, blank lines.

Spaces at line ends go, except just two, which are Markdown's line break; indents of full-width spaces (U+3000)
or before Chinese go, since they are typography; more than two blank lines become two; blank lines at the start
and the end go, and a line feed that ends the text stays. Spaces inside a line and the indents of other verse and
code stay. tinyshakespeare comes through unchanged.

Across parts the white space at an edge is held back until the next part shows what it is.
"""

import re
from collections.abc import Iterable, Iterator

from llmkit.text.documents import StepCounts
from llmkit.text.look import look_at
from llmkit.text.parts import mark_last

_BLANKS = " \t\xa0\u3000"
_CHINESE = re.compile(r"[\u2e80-\u9fff\uf900-\ufaff]")
_CHINESE_INDENT = re.compile(rf"\n[ \t\xa0]+[“‘（《「『【〔—…]*{_CHINESE.pattern}")
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
        if not begun:
            tidied = _drop_blank_start(tidied)
        body = tidied.rstrip(_BLANKS + "\n")
        held = tidied[len(body) :]
        begun = begun or bool(body)
        if last and begun and "\n" in held:
            body += "\n"
        # Nothing is ever added or replaced, so equal lengths mean an equal text.
        body = untidy if len(body) == len(untidy) else body  # the very object, which need not be looked at again
        n_out += len(body)
        yield body
    count.changed += n_in != n_out


def _tidy(text: str, starts_line: bool) -> str:
    has_indent = "\u3000" in look_at(text).others or _has_chinese_indent(text, starts_line)
    ends = None if has_indent else _find_blank_ends(text, len(text) // _FEW_ENDS)
    if ends is not None:
        text = _trim_lines(text, ends, starts_line)
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


def _find_blank_ends(text: str, most: int) -> list[int] | None:
    """Where line feeds stand behind blanks; None if there are more than `most`."""
    ends: list[int] = []
    for blank in _BLANKS:
        place = text.find(blank + "\n") if blank in text else -1
        while place >= 0 and len(ends) <= most:
            ends.append(place + 1)
            place = text.find(blank + "\n", place + 2)
    return sorted(ends) if len(ends) <= most else None


def _trim_lines(text: str, ends: list[int], starts_line: bool) -> str:
    """Trim those lines alone that end there."""
    pieces: list[str] = []
    place = 0
    for end in ends:
        begin = text.rfind("\n", place, end) + 1 or place
        gone = "x" if begin == 0 and not starts_line else ""  # as in `_tidy`
        pieces += (text[place:begin], _trim(gone + text[begin:end])[len(gone) :])
        place = end
    return "".join((*pieces, text[place:])) if ends else text


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
    if not _CHINESE.search("".join(look_at(text).others)):
        return False
    return bool(_CHINESE_INDENT.search(text) or (starts_line and _CHINESE_INDENT.match("\n" + text[:100])))


def _drop_blank_start(text: str) -> str:
    """Without blank lines at the start; the indent of the first line that is not blank stays."""
    rest = text.lstrip(_BLANKS + "\n")
    before = text[: len(text) - len(rest)]
    return before.rpartition("\n")[2] + rest
