"""Read files of CoNLL columns: one word per line with its tag, a blank line after each sentence.

Columns are separated by tabs if every line has one, else by any white space. `-DOCSTART-` lines and comments, which
begin with # before the first word of a sentence, are left out. The first sentences decide which columns hold words and
tags; a note names these columns with an example, and `ner.token_column` and `ner.tag_column` change them. Each sentence
is a row with `tokens` and, if the file has tags, `tags`.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from llmkit.config.prepare import Read
from llmkit.core.console import clean_line
from llmkit.core.errors import DataError
from llmkit.text.entries import find_entries
from llmkit.text.inputs import find_files
from llmkit.text.lines import split_lines, unify_line_ends
from llmkit.text.records.json_rows import UNDECODED
from llmkit.text.records.rows import Row, Rows, RowStream, open_text
from llmkit.text.sources import Source, describe_encodings, describe_notes, log_once

ENDINGS = (".conll", ".conll2003", ".conllu", ".bio", ".iob", ".iob2", ".bioes", ".bmes", ".bilou")
TOKENS, TAGS = "tokens", "tags"
_TAG = re.compile(r"O|[BIESLUM](-\S+)?")
_N_SAMPLE_LINES = 20_000
_LONG_SENTENCE = 50


class Layout(NamedTuple):
    """The columns of a file, numbered from 0."""

    n_columns: int
    token: int
    tag: int | None


Line = tuple[int, list[str]]
"""Line number and the columns of a word."""


def looks_like_conll(lines: Sequence[str]) -> bool:
    """Whether the lines are words with a last column of tags, such as O and B-PER."""
    words = [line.split() for line in lines if line.strip() and not line.startswith(("#", "-DOCSTART-"))]
    fields = [word for word in words if len(word) > 1 and _TAG.fullmatch(word[-1])]
    return len(fields) > 0.9 * len(words) > 0 and any(word[-1] == "O" or "-" in word[-1] for word in fields)


def open_conll(path: str, read: Read, token_column: int | None, tag_column: int | None) -> RowStream:
    """Open the sentences of a file as rows; columns are numbered from 1; -1 is the last.

    Raises:
        DataError: no such file, no words, a column that does not exist; during iteration also lines with another number
            of columns, unless `read.skip_bad` leaves out and counts their sentences.
    """
    (found,) = find_files([path]) if path != "-" else ["-"]
    stream = RowStream(Source(found), read)
    stream.start(_read(stream, token_column, tag_column))
    if not stream.sample:
        raise DataError(
            "there are no words in the file", where=path, hint="give a file with a word and its tag per line"
        )
    stream.announce = _log_notes
    _log_notes(stream.source)
    return stream


def _log_notes(source: Source) -> None:
    for note in [*describe_encodings([source]), *describe_notes([source])]:
        log_once(note)


def _read(stream: RowStream, token_column: int | None, tag_column: int | None) -> Rows:
    entry = next(find_entries(stream.path, stream.source))
    if entry.ending == ".html":
        hint = "give the data file, not the web page that shows it"
        raise DataError("this is an HTML page, not columns of words", where=entry.path, hint=hint)
    with open_text(entry, stream.source, stream.read) as text:
        lines = enumerate(split_lines(unify_line_ends(text), stream.path), start=1)
        head = list(islice(lines, _N_SAMPLE_LINES))
        separator = "\t" if all("\t" in line for _, line in head if _is_word(line)) else None
        words = [line.split(separator) for _, line in head if _is_word(line)]
        if not words:
            return
        if words[0][0].startswith(('{"', "[{", '["')):
            hint = "name the file .jsonl or .json, or set ner.format=table"
            raise DataError("this is JSON, not columns of words", where=stream.locate(1), hint=hint)
        layout = _choose_layout(stream, words, token_column, tag_column)
        n_sentences = n_longest = 0
        counts = {"comment lines": 0, "-DOCSTART- lines": 0}
        for sentence in _sentences(_chain(head, lines), separator, layout.n_columns, counts):
            n_sentences += 1
            n_longest = max(n_longest, len(sentence))
            yield from _to_row(stream, sentence, layout)
        if n_sentences == 1 and n_longest > _LONG_SENTENCE:
            stream.note("no blank line ends a sentence, so the file is one sentence", f"{n_longest:,} words")
    for name, n in counts.items():
        if n:
            stream.note(f"{name} are left out", f"number of lines: {n:,}")


def _chain(head: list[tuple[int, str]], rest: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    yield from head
    yield from rest


def _is_word(line: str) -> bool:
    return bool(line.strip()) and not line.startswith(("#", "-DOCSTART-"))


def _sentences(
    lines: Iterator[tuple[int, str]], separator: str | None, n_columns: int, counts: dict[str, int]
) -> Iterator[list[Line]]:
    sentence: list[Line] = []
    for number, line in lines:
        line = line.lstrip("\ufeff") if number == 1 else line
        fields = line.split(separator)
        if not line.strip() or line.startswith("-DOCSTART-"):
            counts["-DOCSTART- lines"] += line.startswith("-DOCSTART-")
            if sentence:
                yield sentence
            sentence = []
        elif line.startswith("#") and not sentence and (len(fields) != n_columns or " = " in line):
            counts["comment lines"] += 1
        else:
            sentence.append((number, fields))
    if sentence:
        yield sentence


def _to_row(stream: RowStream, sentence: list[Line], layout: Layout) -> Rows:
    for number, fields in sentence:
        tag = fields[layout.tag].strip() if layout.tag is not None and len(fields) == layout.n_columns else "O"
        problem = ""
        if len(fields) != layout.n_columns:
            problem = f"{len(fields)} columns, but the first line of words has {layout.n_columns}"
        elif not fields[layout.token].strip():
            problem = "the word is empty"
        elif not tag:
            problem = "the tag is empty"
        elif any(map(UNDECODED.search, fields)):
            problem = "bytes that cannot be decoded"
        if problem:
            stream.reject(problem, number, hint="a blank line ends a sentence")
            return
    cells: dict[str, object] = {TOKENS: [fields[layout.token].strip() for _, fields in sentence]}
    if layout.tag is not None:
        cells[TAGS] = [fields[layout.tag].strip() for _, fields in sentence]
    yield Row(sentence[0][0], cells)


def _choose_layout(
    stream: RowStream, words: list[list[str]], token_column: int | None, tag_column: int | None
) -> Layout:
    n_columns = len(words[0])
    whole = [word for word in words if len(word) == n_columns]
    is_number = all(word[0].split("-")[0].isdigit() for word in whole) and n_columns > 2
    token = _to_index(stream, token_column, n_columns, "ner.token_column") if token_column else int(is_number)
    tag: int | None = None
    if tag_column:
        tag = _to_index(stream, tag_column, n_columns, "ner.tag_column")
    elif n_columns > 1:
        tagged = [n for n in range(n_columns) if n != token and _are_tags([word[n] for word in whole])]
        tag = tagged[-1] if tagged else n_columns - 1
    if tag == token:
        hint = "set ner.token_column and ner.tag_column to different columns"
        raise DataError(f"column {token + 1} cannot hold both words and tags", where=stream.path, hint=hint)
    named = f"words in column {token + 1}" + ("" if tag is None else f", tags in column {tag + 1}")
    shown = clean_line(" ".join(words[0])[:60])
    stream.note(f"read as CoNLL, {named} of {n_columns} (ner.token_column, ner.tag_column)", f"first line: {shown}")
    return Layout(n_columns, token, tag)


def _are_tags(cells: Sequence[str]) -> bool:
    return sum(bool(_TAG.fullmatch(cell)) for cell in cells) > 0.9 * len(cells)


def _to_index(stream: RowStream, column: int, n_columns: int, key: str) -> int:
    index = column - 1 if column > 0 else n_columns + column
    if not 0 <= index < n_columns:
        what = f"there is no column {column}: the first line of words has {n_columns}"
        raise DataError(what, where=stream.path, hint=f"set {key} to 1 to {n_columns}, or -1 for the last")
    return index
