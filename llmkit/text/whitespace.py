"""Tidy the white space of a document: line ends, paragraph indents, blank lines.

Spaces at line ends go, full-width indents (U+3000) go, three and more line feeds become two, blank lines at the
start and the end go; a line feed that ends the text stays. Spaces inside a line and the indents of verse and
code stay. Across parts the white space at an edge is held back until the next part shows what it is.
"""

import re
from collections.abc import Iterable, Iterator

from llmkit.text.documents import StepCounts

_BLANKS = " \t\xa0\u3000"
_TRAILING = re.compile(f"[{_BLANKS}]+\n")
_INDENT = re.compile(rf"^[ \t\xa0]*\u3000[{_BLANKS}]*", re.M)
_INDENT_INSIDE = re.compile(rf"(?<=\n)[ \t\xa0]*\u3000[{_BLANKS}]*")
_MANY_LINES = re.compile(r"\n{3,}")


def tidy_whitespace(texts: Iterable[str], count: StepCounts) -> Iterator[str]:
    """The parts of one document, tidied as if they were one text."""
    held = ""  # white space at the end of what has come, as tidy as it can be yet
    n_in = n_out = 0
    begun = False
    for text in texts:
        n_in += len(text)
        tidied = _tidy(held + text, starts_line=not begun)
        if not begun:
            tidied = _drop_blank_start(tidied)
        body = tidied.rstrip(_BLANKS + "\n")
        held = tidied[len(body) :]
        if body:
            begun = True
            n_out += len(body)
            yield body
    if begun and "\n" in held:
        n_out += 1
        yield "\n"
    # Nothing is ever added or replaced, so equal lengths mean an equal text.
    count.changed += n_in != n_out


def _tidy(text: str, starts_line: bool) -> str:
    if any(blank + "\n" in text for blank in _BLANKS):
        text = _TRAILING.sub("\n", text)
    if "\u3000" in text:
        text = (_INDENT if starts_line else _INDENT_INSIDE).sub("", text)
    if "\n\n\n" in text:
        text = _MANY_LINES.sub("\n\n", text)
    return text


def _drop_blank_start(text: str) -> str:
    """Without blank lines at the start; the indent of the first line that is not blank stays."""
    rest = text.lstrip(_BLANKS + "\n")
    before = text[: len(text) - len(rest)]
    return before.rpartition("\n")[2] + rest
