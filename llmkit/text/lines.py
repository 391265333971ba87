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


def unify_returns(text: str) -> str:
    """Return a complete text with every kind of line ending replaced with a line feed."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def replace_lone_returns(stream: Iterable[str], *, is_quoted: bool = False) -> Iterator[str]:
    r"""Replace each carriage return that is not before a line feed with a line feed; `\r\n` is kept.

    With `is_quoted`, carriage returns inside quotes are kept too, except in files of old Macs, whose only line ending
    is `\r`: the first piece with a line ending has no line feed.
    """
    held = ""
    is_inside = 0
    is_plain = None if is_quoted else True
    for text in stream:
        text = held + text
        held = "\r" if text.endswith("\r") else ""
        text = text.removesuffix("\r")
        has_lone = text.count("\r") != text.count("\r\n")
        if is_plain is None and (has_lone or "\n" in text):
            is_plain = "\n" not in text
        if is_plain or not has_lone:
            is_inside ^= text.count('"') & 1
            yield _LONE_RETURN.sub("\n", text) if has_lone else text
            continue
        parts = text.split('"')
        for number in range(is_inside, len(parts), 2):  # outside of quotes
            parts[number] = _LONE_RETURN.sub("\n", parts[number])
        is_inside ^= (len(parts) - 1) & 1
        yield '"'.join(parts)
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
