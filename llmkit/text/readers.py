"""Read the documents of the inputs that the user named.

READERS has one line per suffix. With `read.skip_bad` each file is read twice, first to check that it can be read to its
end, so that a damaged file is skipped as a whole. Nothing is cleaned here.
"""

import io
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import BinaryIO, cast

from llmkit.config.prepare import Read
from llmkit.core.errors import DataError
from llmkit.text.corpora import read_builtin, read_dataset
from llmkit.text.documents import Document
from llmkit.text.markup import read_epub, read_html
from llmkit.text.plain import read_plain
from llmkit.text.row_documents import read_rows
from llmkit.text.sources import Entry, Source, find_entries, find_files, log, report_notes
from llmkit.text.table_files import TABLE_ENDINGS

READERS: dict[str, Callable[[Entry, Source, Read], Iterator[Document]]] = {
    ".txt": read_plain,
    ".md": read_plain,
    "": read_plain,
    ".html": read_html,
    ".htm": read_html,
    ".xhtml": read_html,
    ".epub": read_epub,
    **dict.fromkeys(TABLE_ENDINGS, read_rows),
}


def read_documents(inputs: Sequence[str], read: Read, sources: list[Source]) -> Iterator[Document]:
    """The documents of all inputs, in a fixed order; `sources` gets one record per source.

    A record is appended when its source is opened, and is complete when the next one is opened; its notes are logged
    at the end. DataError names the file, and the line or byte, that cannot be read.
    """
    yield from read_files(find_files(inputs), read, sources)
    report_notes(sources)


def read_files(files: Sequence[str], read: Read, sources: list[Source]) -> Iterator[Document]:
    """As `read_documents`, of the result of `find_files`."""
    for name in files:
        source = Source(name)
        if name.startswith("hf:"):
            sources.append(source)
            yield from _count(read_dataset(name, source, read), source)
        elif name.startswith("builtin:"):
            sources.append(source)
            yield from _count(read_builtin(name, source, read), source)
        else:
            yield from _read_file(name, read, sources)


def _read_file(name: str, read: Read, sources: list[Source]) -> Iterator[Document]:
    archive = Source(name)
    for entry in _skip_damaged(find_entries(name, archive), archive, read):
        if entry.path == "-" and read.skip_bad:
            entry = _copy_stdin(entry)
        source = Source(entry.path)
        sources.append(source)
        reader = READERS[entry.ending]
        if read.skip_bad and (problem := _find_problem(reader(entry, Source(entry.path), read))):
            source.skip("unreadable file", f"{entry.path}: {problem.problems[0].what}")
            continue
        yield from _count(reader(entry, source, read), source)
        if not source.documents and not source.skipped:
            source.skip("empty file", entry.path)
    if archive.skipped:
        sources.append(archive)


def _skip_damaged(entries: Iterator[Entry], archive: Source, read: Read) -> Iterator[Entry]:
    try:
        yield from entries
    except DataError as error:
        if not read.skip_bad:
            raise
        archive.skip("unreadable file", f"{archive.path}: {error.problems[0].what}")


def _find_problem(documents: Iterator[Document]) -> DataError | None:
    level = log.level
    log.setLevel("ERROR")  # skipped items are logged in the second pass
    try:
        for _ in documents:
            pass
    except DataError as error:
        return error
    finally:
        log.setLevel(level)
    return None


def _copy_stdin(entry: Entry) -> Entry:
    """Copy standard input to disk, so that it can be read twice."""
    copy = tempfile.TemporaryFile()  # noqa: SIM115 - stays open while the entry is in use
    with entry.open_raw() as raw:
        while chunk := raw.read(1 << 20):
            copy.write(chunk)

    def reopen() -> BinaryIO:
        copy.seek(0)
        return cast(BinaryIO, io.BufferedReader(io.FileIO(copy.fileno(), closefd=False)))

    return replace(entry, open_raw=reopen)


def _count(documents: Iterator[Document], source: Source) -> Iterator[Document]:
    for document in documents:
        source.characters += len(document.text)
        source.documents += document.last
        yield document
