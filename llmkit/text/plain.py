"""Read plain text and Markdown: a document is the file, a line, or a paragraph.

Markdown is kept as it is. Line ends are left to the cleaner where the document is the file.
"""

import io
from collections.abc import Iterable, Iterator

from llmkit.config.prepare import Read
from llmkit.core.errors import DataError
from llmkit.text.documents import Document, make_documents
from llmkit.text.encodings import TextStream
from llmkit.text.sources import Entry, Source

MAX_ROW_CHARS = 64_000_000


def read_plain(entry: Entry, source: Source, read: Read) -> Iterator[Document]:
    """Documents of a .txt or .md file; longer ones than `read.max_doc_chars` in parts."""
    with entry.open(source) as file:
        stream = TextStream(file, read.encoding, entry.path)
        if read.documents == "file":
            yield from make_documents(stream, entry.path, 0, read.max_doc_chars)
        else:
            cut_at = "\n" if read.documents == "line" else "\n\n"
            yield from _read_pieces(stream, cut_at, entry.path, read.max_doc_chars)
        source.encoding = stream.encoding


def _read_pieces(stream: Iterable[str], cut_at: str, path: str, max_chars: int) -> Iterator[Document]:
    """Documents between line ends or blank lines; one that exceeds all bounds is cut in mid-stream."""
    index = 0
    rest = ""
    for text in unify_line_ends(stream):
        *pieces, rest = (rest + text).split(cut_at)
        for piece in pieces:
            if piece := piece.strip("\n"):
                yield from make_documents([piece], path, index, max_chars)
                index += 1
        if len(rest) > MAX_ROW_CHARS:
            raise row_too_long(f"{path}, {'line' if cut_at == chr(10) else 'paragraph'} {index + 1}")
    if rest := rest.strip("\n"):
        yield from make_documents([rest], path, index, max_chars)


def unify_line_ends(stream: Iterable[str]) -> Iterator[str]:
    """The same text with every kind of line end as one line feed."""
    decoder = io.IncrementalNewlineDecoder(None, translate=True)
    for text in stream:
        yield decoder.decode(text)
    yield decoder.decode("", final=True)


def split_lines(stream: Iterable[str], path: str) -> Iterator[str]:
    """Lines without their ends; only line feeds end a line here. DataError where a line exceeds 64 M characters."""
    waiting: list[str] = []
    n_waiting = 0
    n_lines = 0
    for text in stream:
        first, *lines = text.split("\n")
        waiting.append(first)
        n_waiting += len(first)
        if n_waiting > MAX_ROW_CHARS:
            raise row_too_long(f"{path}, line {n_lines + 1}")
        if lines:
            yield "".join(waiting)
            yield from lines[:-1]
            n_lines += len(lines)
            waiting, n_waiting = [lines[-1]], len(lines[-1])
    if n_waiting:
        yield "".join(waiting)


def row_too_long(where: str) -> DataError:
    """The error for a row that would not fit in memory."""
    return DataError(
        f"a single row is longer than {MAX_ROW_CHARS:,} characters",
        where=where,
        hint="is it a table at all? A long text belongs into a .txt file, which is read in parts",
    )
