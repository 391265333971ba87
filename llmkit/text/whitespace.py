"""Tidy the white space of a document: line ends, paragraph indents, blank lines.

Spaces at line ends go, except just two, which are Markdown's line break; full-width indents (U+3000) go; more
than two blank lines become two; blank lines at the start and the end go, and a line feed that ends the text
stays. Spaces inside a line and the indents of verse and code stay. tinyshakespeare comes through unchanged.

Across parts the white space at an edge is held back until the next part shows what it is.
"""

import re
from collections.abc import Iterable, Iterator

from llmkit.text.documents import StepCounts
from llmkit.text.parts import mark_last

_BLANKS = " \t\xa0\u3000"
_TRAILING = re.compile(f"(?:(?<![{_BLANKS}])(?!  \n)|(?<=\n))[{_BLANKS}]+\n")
_INDENT = re.compile(rf"^[ \t\xa0]*\u3000[{_BLANKS}]*", re.M)
_INDENT_INSIDE = re.compile(rf"(?<=\n)[ \t\xa0]*\u3000[{_BLANKS}]*")
_MANY_LINES = re.compile(r"\n{4,}")


def tidy_whitespace(texts: Iterable[str], count: StepCounts) -> Iterator[str]:
    """The parts of one document, tidied as if they were one text."""
    held = ""  # white space at the end of what has come, as tidy as it can be yet
    n_in = n_out = 0
    begun = False
    for text, last in mark_last(texts):
        n_in += len(text)
        tidied = _tidy(held + text, starts_line=not begun)
        if not begun:
            tidied = _drop_blank_start(tidied)
        body = tidied.rstrip(_BLANKS + "\n")
        held = tidied[len(body) :]
        begun = begun or bool(body)
        if last and begun and "\n" in held:
            body += "\n"
        n_out += len(body)
        yield body
    # Nothing is ever added or replaced, so equal lengths mean an equal text.
    count.changed += n_in != n_out


def _tidy(text: str, starts_line: bool) -> str:
    if any(blank + "\n" in text for blank in _BLANKS):
        text = _TRAILING.sub("\n", text)
    if "\u3000" in text:
        text = (_INDENT if starts_line else _INDENT_INSIDE).sub("", text)
    if "\n\n\n\n" in text:
        text = _MANY_LINES.sub("\n\n\n", text)
    return text


def _drop_blank_start(text: str) -> str:
    """Without blank lines at the start; the indent of the first line that is not blank stays."""
    rest = text.lstrip(_BLANKS + "\n")
    before = text[: len(text) - len(rest)]
    return before.rpartition("\n")[2] + rest
