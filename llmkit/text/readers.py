"""Read the documents of all inputs.

READERS maps the suffix of a format to its reader; entries.py determines the format of a file. With `read.skip_bad` each
file is read twice: the first pass checks that it can be read to its end, so a damaged file is skipped as a whole.
Without `read.skip_bad`, reading continues after a damaged file, so that one error reports all damaged files. Nothing is
cleaned here.
"""

from collections.abc import Callable, Iterator, Sequence

from llmkit.config.prepare import Read
from llmkit.core.console import list_some
from llmkit.core.errors import DataError, LlmkitError, Problem
from llmkit.text.corpora import read_builtin, read_dataset
from llmkit.text.documents import Document
from llmkit.text.entries import AccessDenied, Entry, find_entries
from llmkit.text.formats.mail import read_eml, read_mbox
from llmkit.text.formats.markup import read_epub, read_html
from llmkit.text.formats.mediawiki import read_dump
from llmkit.text.formats.office import read_docx, read_odt
from llmkit.text.formats.pdf import read_pdf
from llmkit.text.formats.plain import read_plain
from llmkit.text.formats.rtf import read_rtf
from llmkit.text.formats.subtitles import read_subtitles
from llmkit.text.formats.warc import read_warc
from llmkit.text.inputs import display_name, find_files
from llmkit.text.records.row_documents import read_rows
from llmkit.text.records.table_files import TABLE_ENDINGS
from llmkit.text.sources import Source, log, report_notes

READERS: dict[str, Callable[[Entry, Source, Read], Iterator[Document]]] = {
    ".txt": read_plain,
    ".md": read_plain,
    "": read_plain,
    ".html": read_html,
    ".htm": read_html,
    ".xhtml": read_html,
    ".epub": read_epub,
    **dict.fromkeys(TABLE_ENDINGS, read_rows),
    ".docx": read_docx,
    ".odt": read_odt,
    ".pdf": read_pdf,
    ".rtf": read_rtf,
    ".srt": read_subtitles,
    ".vtt": read_subtitles,
    ".mbox": read_mbox,
    ".eml": read_eml,
    ".warc": read_warc,
    ".wet": read_warc,
    ".wat": read_warc,
    ".xml": read_dump,
}


def read_documents(inputs: Sequence[str], read: Read, sources: list[Source]) -> Iterator[Document]:
    """Yield the documents of all inputs, in a fixed order; `sources` gets one record per source.

    A record is appended when its source is opened, and is complete when the next one is opened; its notes are logged at
    the end.

    Raises:
        DataError, AccessDenied: files cannot be read; the error names each file and the line or byte.
    """
    bad: list[LlmkitError] = []
    yield from read_files(find_files(inputs), read, sources, bad)
    raise_bad_files(bad)
    report_notes(sources)


MAX_BAD_FILES, MAX_LISTED = 1000, 10
"""Reading stops after MAX_BAD_FILES unreadable files; the error lists MAX_LISTED problems."""


def read_files(files: Sequence[str], read: Read, sources: list[Source], bad: list[LlmkitError]) -> Iterator[Document]:
    """Like `read_documents`, for the result of `find_files`; adds the errors of unreadable files to `bad`."""
    for name in files:
        if len(bad) >= MAX_BAD_FILES:
            return
        corpus = read_dataset if name.startswith("hf:") else read_builtin if name.startswith("builtin:") else None
        if corpus is None:
            yield from _read_file(name, read, sources, bad)
        else:
            sources.append(Source(name))
            yield from _count(corpus(name, sources[-1], read), sources[-1])


def raise_bad_files(errors: Sequence[LlmkitError]) -> None:
    """Raise one error for all files that cannot be read: up to ten problems, then the number of files.

    Files with the same problem are reported as one problem, with the location of the first file.
    """
    if len(errors) < 2:
        for error in errors:
            raise error
        return
    places: dict[tuple[str, str], list[str]] = {}
    for error in errors:
        for problem in error.problems:
            places.setdefault((problem.what, problem.hint), []).append(problem.where)
    problems = [Problem(what, list_some(where, 1), hint) for (what, hint), where in list(places.items())[:MAX_LISTED]]
    if len(problems) > 1:
        n_files = f"{len(errors):,} files" if len(errors) < MAX_BAD_FILES else f"{len(errors):,} files or more"
        what = f"{n_files} cannot be read" + (", the first of them above" if len(places) > MAX_LISTED else "")
        hint = "correct or remove them; --skip-bad skips and counts them"
        problems.append(Problem(what, "the inputs", hint))
    raise next((type(error) for error in errors if isinstance(error, DataError)), AccessDenied).from_problems(problems)


def _read_file(name: str, read: Read, sources: list[Source], bad: list[LlmkitError]) -> Iterator[Document]:
    archive = Source(display_name(name))
    n_entries = 0
    try:
        for entry in find_entries(name, archive):
            n_entries += 1
            source = Source(entry.path)
            sources.append(source)
            try:
                yield from _read_entry(entry, source, read)
                if not source.documents and not source.skipped:
                    source.skip("empty file", entry.path)
            except (DataError, AccessDenied) as error:
                _take_error(error, source, read, bad)
        if not n_entries and not archive.skipped:
            archive.skip("archive without files", archive.path)
    except (DataError, AccessDenied) as error:
        _take_error(error, archive, read, bad)
    if archive.skipped:
        sources.append(archive)


def _take_error(error: LlmkitError, source: Source, read: Read, bad: list[LlmkitError]) -> None:
    """Count an unreadable file if `read.skip_bad` is set, else add its error to `bad`."""
    if read.skip_bad:
        source.skip("unreadable file", f"{source.path}: {error.problems[0].what}")
    else:
        bad.append(error)


def _read_entry(entry: Entry, source: Source, read: Read) -> Iterator[Document]:
    """Yield the documents of a file; with `read.skip_bad` only if the complete file can be read."""
    if not read.skip_bad:
        yield from _count(READERS[entry.ending](entry, source, read), source)
        return
    with entry.make_reopenable() as copy:
        _check(copy, read)
        yield from _count(READERS[copy.ending](copy, source, read), source)


def _check(entry: Entry, read: Read) -> None:
    """Read a file to its end.

    Raises:
        DataError: it cannot be read.
    """
    level = log.level
    log.setLevel("ERROR")  # skipped items are logged in the second pass
    try:
        for _ in READERS[entry.ending](entry, Source(entry.path), read):
            pass
    finally:
        log.setLevel(level)


def _count(documents: Iterator[Document], source: Source) -> Iterator[Document]:
    for document in documents:
        source.characters += len(document.text)
        source.documents += document.last
        yield document
