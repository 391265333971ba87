"""Split decoded text, which arrives in pieces, into lines."""

import io
import re
from collections.abc import Iterable, Iterator

from llmkit.core.errors import DataError

MAX_ROW_CHARS = 64_000_000
_LONE_RETURN = re.compile(r"\r(?!\n)")


def unify_line_ends(stream: Iterable[str]) -> Iterator[str]:
    """Yield the text with every kind of line ending replaced with a line feed."""
    decoder = io.IncrementalNewlineDecoder(None, translate=True)
    for text in stream:
        yield decoder.decode(text)
    yield decoder.decode("", final=True)


def replace_lone_returns(stream: Iterable[str]) -> Iterator[str]:
    r"""Yield the text with carriage returns that no line feed follows replaced by line feeds; `\r\n` is kept."""
    held = ""
    for text in stream:
        text = held + text
        held = "\r" if text.endswith("\r") else ""
        text = text.removesuffix("\r")
        yield _LONE_RETURN.sub("\n", text) if text.count("\r") != text.count("\r\n") else text
    if held:
        yield "\n"


def split_lines(stream: Iterable[str], path: str) -> Iterator[str]:
    """Yield the lines without line feeds. Raises DataError if a line exceeds MAX_ROW_CHARS."""
    waiting: list[str] = []
    n_waiting = 0
    n_lines = 0
    for text in stream:
        first, *lines = text.split("\n")
        waiting.append(first)
        n_waiting += len(first)
        if n_waiting > MAX_ROW_CHARS:
            raise row_too_long_error(f"{path}, line {n_lines + 1}")
        if lines:
            yield "".join(waiting)
            yield from lines[:-1]
            n_lines += len(lines)
            waiting, n_waiting = [lines[-1]], len(lines[-1])
    if n_waiting:
        yield "".join(waiting)


def row_too_long_error(where: str) -> DataError:
    """Return the error for a row that might not fit in memory."""
    return DataError(
        f"a single row is longer than {MAX_ROW_CHARS:,} characters",
        where=where,
        hint="is this a table? Put a long text into a .txt file, which is read in parts",
    )
