"""Split decoded text, which arrives in pieces, into lines."""

import io
from collections.abc import Iterable, Iterator

from llmkit.core.errors import DataError

MAX_ROW_CHARS = 64_000_000


def unify_line_ends(stream: Iterable[str]) -> Iterator[str]:
    """Yield the text with every kind of line ending replaced with a line feed."""
    decoder = io.IncrementalNewlineDecoder(None, translate=True)
    for text in stream:
        yield decoder.decode(text)
    yield decoder.decode("", final=True)


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
