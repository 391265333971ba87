"""Cut plain text into documents: lines, paragraphs, or the text between separators.

A line ends only at a line feed or carriage return; U+2028 stays inside a line. A paragraph ends at a blank line, which
may contain white space, at a form feed, or at U+2029; in paragraphs, U+2028 and U+0085 also end a line.
"""

import re
import signal
import threading
from collections.abc import Iterable, Iterator

from llmkit.config.prepare import Read
from llmkit.core.errors import DataError
from llmkit.text.documents import Document, make_documents
from llmkit.text.lines import MAX_ROW_CHARS, row_too_long_error, unify_line_ends
from llmkit.text.sources import Source

_LINE = re.compile("\n")
_BLANK = "(?:[^\\S\n\u0085\u2028\u2029]|[\u200b\u2060\ufeff])*"
_PARAGRAPH = re.compile(f"[\n\u0085\u2028](?:{_BLANK}[\n\u0085\u2028])+|\n*\f\n*|\u2029")
_MAX_SEPARATOR_CHARS = 1000
"""Maximum length of a separator in a text that arrives in pieces."""

_MIN_LINES = 10
"""Minimum number of lines for a note on a file without blank lines."""
MAX_SEPARATOR_SECONDS = 10.0
"""Maximum CPU time to search one piece of text for the user's separator. A pattern that does not backtrack needs
milliseconds.
"""


def split_documents(stream: Iterable[str], read: Read, source: Source) -> Iterator[Document]:
    """Yield the non-blank documents of a text; adds a note to `source` if the separator or a blank line is missing.

    Raises:
        DataError: a document exceeds MAX_ROW_CHARS, or the separator backtracks for longer than MAX_SEPARATOR_SECONDS.
    """
    pattern = {"line": _LINE, "paragraph": _PARAGRAPH}.get(read.documents) or re.compile(read.separator, re.MULTILINE)
    margin = 0 if read.documents == "line" else _MAX_SEPARATOR_CHARS
    unit = "document" if read.documents == "separator" else read.documents
    index = n_pieces = n_lines = 0
    for text in _split(unify_line_ends(stream), pattern, margin, f"{source.path}, {unit}"):
        n_pieces += 1
        if (text := text.strip("\n")) and not text.isspace():
            yield from make_documents([text], source.path, index, read.max_doc_chars)
            index += 1
            n_lines += text.count("\n") + 1
    if n_pieces > 1 or not index:
        return
    if read.documents == "separator":
        line_ends = "; every line end is read as \\n" if "\\r" in read.separator else ""
        source.notes[
            f"prepare.read.separator {read.separator!r} does not occur, so the file is one document{line_ends}"
        ] = ""
    if read.documents == "paragraph" and n_lines >= _MIN_LINES:
        what = "no blank line, so the file is one document; to make each line a document: prepare.read.documents=line"
        source.notes[what] = f"{n_lines:,} lines"


def _split(stream: Iterable[str], pattern: re.Pattern[str], margin: int, where: str) -> Iterator[str]:
    """Yield the parts that `pattern.split` returns for the complete text; empty matches also separate parts.

    A match that ends within `margin` characters of the end of a piece is searched again together with the next piece.
    """
    buffer, start, searched, n_found = "", 0, 0, 0
    for piece in stream:
        buffer, searched, start = buffer[start:] + piece, max(0, searched - start), 0
        waits = len(buffer)
        for match in _find_all(pattern, buffer, searched, where):
            if match.end() >= len(buffer) - margin:
                waits = match.start()
                break
            yield buffer[start : match.start()]
            start, n_found = match.end(), n_found + 1
        searched = max(start, min(waits, len(buffer) - _MAX_SEPARATOR_CHARS))
        if len(buffer) - start > MAX_ROW_CHARS:
            raise row_too_long_error(f"{where} {n_found + 1}")
    for match in _find_all(pattern, buffer, start, where):
        yield buffer[start : match.start()]
        start = match.end()
    yield buffer[start:]


def _find_all(pattern: re.Pattern[str], text: str, start: int, where: str) -> Iterable[re.Match[str]]:
    """Like `pattern.finditer`, but a user's pattern may take at most MAX_SEPARATOR_SECONDS.

    The limit needs a Unix signal, so it applies in the main thread only.
    """
    is_own = pattern in (_LINE, _PARAGRAPH)
    if is_own or not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        return pattern.finditer(text, start)

    def stop(*_: object) -> None:
        raise DataError(
            f"prepare.read.separator {pattern.pattern!r} takes more than {MAX_SEPARATOR_SECONDS:g} seconds",
            where=where,
            hint="do not nest repetitions: write a+ instead of (a+)+",
        )

    previous = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, MAX_SEPARATOR_SECONDS)
    try:
        return list(pattern.finditer(text, start))
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, previous)
