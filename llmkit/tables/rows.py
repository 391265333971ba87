"""Open a labelled table: one file in any format, a `hf:` data set, plain lines, or standard input.

Without a known suffix (`-`, .txt, none) the first lines decide the format: JSON, fastText labels, lines with tabs, or a
line of column names separated by commas. In all other cases each line is a text in a column `text`. Guesses are logged
once per file.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from llmkit.config.prepare import Read
from llmkit.core.errors import DataError
from llmkit.tables.joined_columns import split_names
from llmkit.text.corpora import read_dataset_rows
from llmkit.text.entries import find_entries
from llmkit.text.inputs import find_files, is_stream
from llmkit.text.lines import replace_lone_returns
from llmkit.text.records.column_names import LABEL_NAMES, LABELLED_TEXT_NAMES
from llmkit.text.records.delimited import detect_dialect, parse_records
from llmkit.text.records.plain_values import to_plain
from llmkit.text.records.rows import (
    FASTTEXT,
    Header,
    Rows,
    RowStream,
    open_text,
    read_text,
    read_values,
    require_unique,
)
from llmkit.text.records.table_files import TABLE_ENDINGS, read_entry
from llmkit.text.shapes import are_fasttext, find_table
from llmkit.text.sources import Source, describe_encodings, describe_notes, log_once

_MAX_SNIFFED_CHARS = 1 << 16
_MAX_SNIFFED_LINES = 1000
_JSON_BEGINS = re.compile(r'\s*(\{\s*["}]|\[\s*[\[\]{"])')  # but not "[sic] is a word", a plain line


Data = str | Sequence[str | dict[str, Any]]
"""A path, `-` for stdin, `hf:NAME[:CONFIG][@SPLIT]`, or the texts or rows themselves."""
IN_MEMORY = "the given rows"
"""Path of rows in memory, for messages."""


def open_rows(data: Data, read: Read, *, header: Header = "auto", wanted: Sequence[str] = ()) -> RowStream:
    """Open the rows of one file, of stdin, of a data set, or in memory.

    `wanted` are columns that the user named: a first line that contains one of these names is a header. With
    `read.skip_bad` bad rows are skipped, counted in `source.skipped` and logged.

    Raises:
        DataError: no such file, no rows, bad rows (with their line), or two columns with the same name. Bad rows after
            the sample raise during iteration.
    """
    wanted = list(dict.fromkeys([*wanted, *(part for name in wanted for part in split_names(name))]))
    if isinstance(data, str):
        path = data if data.startswith("hf:") else _find_file(data)
        stream = RowStream(Source(path), read, header=header, wanted=wanted)
        stream.keeps_line_ends = True
        stream.start(read_dataset_rows(stream) if path.startswith("hf:") else _read_file(stream))
    else:
        path = IN_MEMORY
        stream = RowStream(Source(path), read, header=header, wanted=wanted)
        stream.unit = "row"
        stream.start(read_values(stream, enumerate(map(to_plain, data), start=1)))
    if not stream.sample:
        skipped = "; ".join(f"{reason}: {n}" for reason, n in stream.source.skipped.items())
        below = " below the header" if stream.has_header else ""
        what = f"there are no rows{below}" + (f" that can be used ({skipped})" if skipped else "")
        no_header = "is the first line a row? Then set -s prepare.read.header=false"
        raise DataError(what, where=path, hint=no_header if stream.has_header else "give a file with texts")
    require_unique(stream.columns, stream.locate(1), has_header=stream.has_header is True)
    is_guess = read.encoding == "auto"
    stream.announce = partial(_log_notes, is_guess=is_guess)
    _log_notes(stream.source, is_guess=is_guess)
    return stream


def _log_notes(source: Source, *, is_guess: bool) -> None:
    """Log the notes of a source, and its encoding if that is a guess."""
    for note in [*(describe_encodings([source]) if is_guess else []), *describe_notes([source])]:
        log_once(note)


def _find_file(path: str) -> str:
    if path.startswith("builtin:"):
        raise DataError("a built-in corpus is not a table", where=path, hint="give .csv, .tsv, .jsonl or .parquet")
    found = find_files([path]) if not Path(path).is_dir() or path == "-" else []
    if len(found) == 1:
        return found[0]
    what = f"{len(found)} files match" if found else f"{path} is a folder"
    inside = (
        sorted(each for each in Path(path).glob("*") if each.suffix in TABLE_ENDINGS) if Path(path).is_dir() else []
    )
    named = [*map(str, inside), *found]
    hint = f"name one file, such as {named[0]}" if named else "name one file; this folder holds no table"
    raise DataError(f"{what}; one file is needed", where=path, hint=hint)


def _read_file(stream: RowStream) -> Rows:
    names = ["-"] if is_stream(stream.path) else [each.path for each in find_entries(stream.path, Source(stream.path))]
    if len(names) != 1:
        listed = ", ".join(name.rpartition("!")[2] for name in names[:5]) or "no readable file"
        hint = "give an archive with a single .csv, .tsv, .jsonl, .json or .parquet file, or unpack it"
        raise DataError(f"the archive holds {listed}; one table is needed", where=stream.path, hint=hint)
    entries = find_entries(stream.path, stream.source)  # keep a reference: it keeps the .zip open
    entry = next(entries)
    if entry.ending not in ("", ".txt", ".md", *TABLE_ENDINGS):
        raise DataError("this is a document, not a table", where=entry.path, hint="give .csv, .tsv, .jsonl or .parquet")
    if entry.ending in TABLE_ENDINGS:
        yield from read_entry(stream, entry)
    else:
        with open_text(entry, stream.source, stream.read) as text:
            ending, pieces = _sniff(stream, text)
            stream.may_guess_header = False  # every line is a row, unless the first one has known column names
            yield from read_text(stream, ending, pieces)
    next(entries, None)  # go on to the end of the archive, where it is checked for changes


def _sniff(stream: RowStream, text: Iterable[str]) -> tuple[str, Iterator[str]]:
    """Return (format, text) of a text without a known suffix, decided by the first lines."""
    pieces = replace_lone_returns(text, is_quoted=True)
    head = ""
    for piece in pieces:
        head += piece
        if len(head) > _MAX_SNIFFED_CHARS:
            break
    lines = [line.removesuffix("\r") for line in head.split("\n")[:_MAX_SNIFFED_LINES] if line.strip()]
    return _choose_format(stream, head, lines or [""]), chain([head], pieces)


def _choose_format(stream: RowStream, head: str, lines: Sequence[str]) -> str:
    if _is_json(head):
        return ".jsonl" if lines[0].startswith("{") and _is_json_line(lines[0]) else ".json"
    if are_fasttext(lines):
        return FASTTEXT
    n_tabs, n = Counter(line.count("\t") for line in lines).most_common(1)[0]
    if "\t" in lines[0] and n_tabs and 2 * n > len(lines):
        return ".tsv"
    dialect = detect_dialect(lines[:1])
    first = next((cells for _, cells in parse_records(iter(lines[:1]), dialect) if isinstance(cells, list)), [])
    cells = {cell.strip() for cell in first}
    folded = {cell.casefold() for cell in cells}
    names_columns = folded & set(LABELLED_TEXT_NAMES) and folded & set(LABEL_NAMES)
    if detect_dialect(lines).n_skipped or names_columns or (cells & set(stream.wanted) and len(cells) > 1):
        return ".csv"
    if kind := find_table(lines):
        stream.note(
            f"looks like {kind}, but each line is read as a text; rename the file to use that format",
            f"first line: {lines[0][:60]!r}",
        )
    elif len(lines) > 1 and lines[0].strip(' "').casefold() in LABELLED_TEXT_NAMES:
        stream.note("the first line is read as a text, as in files of lines", f"it looks like a header: {lines[0]!r}")
    return ".txt"


def _is_json(head: str) -> bool:
    """Whether a text begins with JSON; `["a"] is a word` does not."""
    head = head.lstrip()
    if not _JSON_BEGINS.match(head):
        return False
    try:
        _, end = json.JSONDecoder().raw_decode(head)
    except (ValueError, RecursionError):
        return True  # the beginning of a longer value, or invalid JSON that the reader must report
    rest = head[end:].lstrip(" ,\r")
    return not rest or rest[0] in '\n[{"'


def _is_json_line(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def without_surrogates(text: str) -> str:
    """Replace lone surrogates, which JSON allows and UTF-8 cannot encode, with question marks."""
    return text.encode("utf-8", "replace").decode()


def describe_left_out(n_rows: int, path: str, why: str) -> list[str]:
    """Return a note on rows that were left out, if any."""
    return [f"left out of {path}: {n_rows:,} row{'s' if n_rows > 1 else ''} {why}"] if n_rows else []
