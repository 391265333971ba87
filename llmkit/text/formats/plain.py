"""Read plain text and Markdown: a document is a file or a part of one (boundaries.py).

Markdown is not converted. If a document is a whole file, cleaning normalizes its line endings.
"""

from collections.abc import Iterator

from llmkit.config.prepare import Read
from llmkit.text.boundaries import split_documents
from llmkit.text.decoding.encodings import TextStream
from llmkit.text.documents import Document, make_documents
from llmkit.text.entries import Entry
from llmkit.text.shapes import watch_shape
from llmkit.text.sources import Source


def read_plain(entry: Entry, source: Source, read: Read) -> Iterator[Document]:
    """Yield the documents of a .txt or .md file."""
    with entry.open(source) as file:
        stream = TextStream(file, read.encoding, entry.path)
        if read.documents == "file":
            yield from make_documents(watch_shape(stream, source), entry.path, 0, read.max_doc_chars)
        else:
            yield from split_documents(stream, read, source)
        stream.record(source)
