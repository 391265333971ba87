"""Read prompts from a file or from stdin: one per line, in any encoding that `prepare` reads, compressed or not.

There are as many prompts as lines: an empty line is a prompt too, and U+2028 and other rare separators do not end a
line.
"""

import io
import sys
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from llmkit.config.prepare import Read
from llmkit.core import console
from llmkit.core.errors import DataError
from llmkit.text.decoding.encodings import TextStream
from llmkit.text.entries import find_entries
from llmkit.text.inputs import display_name
from llmkit.text.sources import Source, describe_encodings, describe_notes

HINT = "give a file with one prompt per line"
TEXT_TABLES = (".csv", ".tsv", ".jsonl", ".json")


def read_prompts(path: str, read: Read) -> list[str]:
    """Return the lines of a file, or of stdin for `-`.

    Raises:
        DataError: the file cannot be read, is not plain text, or is empty.
    """
    text = read_prompt_text(path, read)
    if path != "-" and Path(path).suffix.lower() in TEXT_TABLES:
        console.info(f"{path} is read as plain text: each line is a prompt, including quotes and delimiters")
    prompts = split_prompts(text)
    if not prompts:
        raise DataError("there are no prompts", where=path, hint=f"{HINT}; an empty line is a prompt too")
    return prompts


def read_prompt_text(path: str, read: Read) -> str:
    """Return the text of a file, or of stdin for `-`.

    Raises:
        DataError: the file cannot be read, or is not plain text.
    """
    source = Source("stdin" if path == "-" else display_name(path))
    try:
        text = _decode(sys.stdin.buffer, source, read) if path == "-" else _read_file(path, source, read)
    except OSError as error:
        raise DataError(f"the prompts cannot be read: {error.strerror or error}", where=path, hint=HINT) from None
    encodings = describe_encodings([source]) if read.encoding == "auto" else []
    for note in [*encodings, *describe_notes([source])]:
        console.info(note)
    return text


def _read_file(path: str, source: Source, read: Read) -> str:
    with Path(path).open("rb"):  # the system's error is clearer than an archive reader's
        pass
    entries = find_entries(path, source)
    entry = next(entries, None)
    if entry is None or entry.ending not in ("", ".txt", ".md", *TEXT_TABLES) or entry.path != source.path:
        raise DataError("the prompts are not plain text", where=path, hint=HINT)
    with entry.open(source) as file:
        return _decode(file, source, read)


def _decode(file: BinaryIO, source: Source, read: Read) -> str:
    data = file.read()
    if read.encoding == "auto" and b"\0" not in data:
        with suppress(UnicodeDecodeError):  # a prompt may have control characters, unlike a corpus
            return data.decode("utf-8-sig")
    file = io.BytesIO(data)
    stream = TextStream(file, read.encoding, source.path)
    text = "".join(stream)
    stream.record(source)
    return text


def split_prompts(text: str) -> list[str]:
    """Return one prompt per line, including empty prompts; U+2028 and other rare separators do not end a line."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return lines if lines[-1] else lines[:-1]
