"""Read plain text and Markdown: a document is a file, a line, or a paragraph.

Markdown is not converted. If a document is a file, its line ends are left to the cleaner.
"""

import io
from collections.abc import Iterable, Iterator
from typing import Literal

from llmkit.config.prepare import Read
from llmkit.core.errors import DataError
from llmkit.text.documents import Document, make_documents
from llmkit.text.encodings import TextStream
from llmkit.text.sources import Entry, Source

MAX_ROW_CHARS = 64_000_000


def read_plain(entry: Entry, source: Source, read: Read) -> Iterator[Document]:
    """Documents of a .txt or .md file."""
    with entry.open(source) as file:
        stream = TextStream(file, read.encoding, entry.path)
        if read.documents == "file":
            yield from make_documents(stream, entry.path, 0, read.max_doc_chars)
        else:
            yield from _split_documents(stream, read.documents, entry.path, read.max_doc_chars)
        source.encoding, source.example = stream.encoding, stream.example


def _split_documents(
    stream: Iterable[str], unit: Literal["line", "paragraph"], path: str, max_chars: int
) -> Iterator[Document]:
    separator = "\n" if unit == "line" else "\n\n"
    index = 0
    rest = ""
    for text in unify_line_ends(stream):
        *pieces, rest = (rest + text).split(separator)
        for piece in pieces:
            if piece := piece.strip("\n"):
                yield from make_documents([piece], path, index, max_chars)
                index += 1
        if len(rest) > MAX_ROW_CHARS:
            raise row_too_long_error(f"{path}, {unit} {index + 1}")
    if rest := rest.strip("\n"):
        yield from make_documents([rest], path, index, max_chars)


def unify_line_ends(stream: Iterable[str]) -> Iterator[str]:
    """The same text with every kind of line end replaced by a line feed."""
    decoder = io.IncrementalNewlineDecoder(None, translate=True)
    for text in stream:
        yield decoder.decode(text)
    yield decoder.decode("", final=True)


def split_lines(stream: Iterable[str], path: str) -> Iterator[str]:
    """Lines without their line feeds. DataError if a line exceeds MAX_ROW_CHARS."""
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
    """The error for a row that might not fit in memory."""
    return DataError(
        f"a single row is longer than {MAX_ROW_CHARS:,} characters",
        where=where,
        hint="is this a table? Put a long text into a .txt file, which is read in parts",
    )
