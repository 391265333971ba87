"""Read the text layer of .pdf files with pypdf (extra: documents), one document per file.

Pages are joined with a newline, so that a sentence may continue on the next page. Line ends are kept: words
hyphenated at the end of a line stay hyphenated, and page numbers and running titles stay in the text. Raises DataError
for a file of images without text, which needs OCR, and for a file with a password; pages without text are counted.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

from llmkit.config.prepare import Read
from llmkit.core.errors import DataError, EnvironmentFault
from llmkit.text.documents import Document, make_documents
from llmkit.text.entries import Entry
from llmkit.text.sources import Source

MAX_PAGES = 100_000


def read_pdf(entry: Entry, source: Source, read: Read) -> Iterator[Document]:
    """Yield the text of a .pdf file as one document."""
    try:
        import pypdf
    except ImportError:
        hint = "pip install 'llmkit[documents]', or convert it to .txt"
        raise EnvironmentFault("reading .pdf needs pypdf", where=entry.path, hint=hint) from None
    with entry.open_seekable(source) as file:
        with _translate(entry.path):
            reader = pypdf.PdfReader(file)
            _open_encrypted(reader, entry.path)
            n_pages = len(reader.pages)
        if n_pages > MAX_PAGES:
            raise _bad_pdf(f"{n_pages:,} pages; the maximum is {MAX_PAGES:,}", entry.path)
        texts = _read_pages(reader, n_pages, source, entry.path)
        first = next(texts, None)
        if first is None:
            what = f"this is a scanned PDF without text ({n_pages} pages of images)"
            raise DataError(what, where=entry.path, hint="run OCR on it (ocrmypdf), or skip it with --skip-bad")
        pages = (text + "\n" for text in chain([first], texts))
        yield from make_documents(pages, entry.path, 0, read.max_doc_chars)


def _read_pages(reader: Any, n_pages: int, source: Source, path: str) -> Iterator[str]:
    """Yield the texts of the pages that have text."""
    for number in range(n_pages):
        with _translate(f"{path}, page {number + 1}"):
            text = str(reader.pages[number].extract_text())
        if text.strip():
            yield text.rstrip("\n")
        else:
            source.skipped["page without text"] += 1


def _open_encrypted(reader: Any, path: str) -> None:
    if not reader.is_encrypted:
        return
    try:
        is_open = bool(reader.decrypt(""))  # many PDFs have an empty password, to forbid printing
    except Exception as error:
        if "cryptography" not in str(error):
            raise
        hint = "pip install cryptography, or save it without encryption"
        raise EnvironmentFault("reading this encrypted PDF needs cryptography", where=path, hint=hint) from None
    if not is_open:
        what = "this is an encrypted PDF"
        raise DataError(what, where=path, hint="save it without its password, or skip it with --skip-bad")


@contextmanager
def _translate(path: str) -> Iterator[None]:
    """Convert exceptions of pypdf, including built-in ones for damaged files, to DataError.

    Hides pypdf's warnings about errors in a file that it repairs.
    """
    logger = logging.getLogger("pypdf")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (DataError, EnvironmentFault):
        raise
    except (Exception, RecursionError) as error:
        raise _bad_pdf(f"{type(error).__name__}: {error}"[:300], path) from None
    finally:
        logger.setLevel(level)


def _bad_pdf(problem: str, path: str) -> DataError:
    hint = "save it again with another program, convert it to .txt, or skip it with --skip-bad"
    return DataError(f"the PDF cannot be read: {problem}", where=path, hint=hint)
