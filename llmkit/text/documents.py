"""Define documents, cut long documents into parts of bounded length, and count what the steps do to documents.

A part ends after a line end if there is one in its second half, otherwise after a space or a punctuation mark,
otherwise inside a word; never between a carriage return and its line feed, never before a combining character. Cleaning
part by part therefore gives the same text as cleaning the complete document.

Joining the parts restores the text exactly.
"""

import hashlib
import re
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any


@dataclass(frozen=True, slots=True)
class Document:
    """A text and where it came from.

    A text longer than `read.max_doc_chars` is passed on as several consecutive parts of one document, so that
    memory stays bounded.
    """

    text: str
    source: str
    """Path as the user would write it; inside an archive `books.zip!a.txt`."""
    index: int = 0
    """Position in the source: row, line or chapter, from 0."""
    part: int = 0
    last: bool = True
    """Whether this is the document's last part."""


LARGE_REMOVAL = "more than a third removed"


@dataclass(slots=True)
class StepCounts:
    """Counts of one step: documents in and out, changed documents, and dropped or removed items."""

    documents_in: int = 0
    documents_out: int = 0
    changed: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    """Number of dropped documents, by reason."""
    removed: Counter[str] = field(default_factory=Counter)
    """Counts of what was removed from kept documents, by kind: characters, paragraphs, or repaired lines."""
    notes: Counter[str] = field(default_factory=Counter)
    """Counts of other facts, by kind: documents in a language, documents that lost much text, marks that stayed."""
    examples: dict[str, str] = field(default_factory=dict)
    """The first example of each kind of `dropped`, `removed` and `notes`, if the step gives one."""

    def note(self, kind: str, example: str, n: int = 1) -> None:
        """Add `n` to `notes[kind]`; the first example is kept."""
        self.notes[kind] += n
        self.examples.setdefault(kind, example)

    def note_removal(self, n_in: int, n_out: int, document: Document) -> None:
        """Note the document if the step removed more than a third of its characters; it had `n_in` before, `n_out`
        after.
        """
        if 3 * (n_in - n_out) > n_in:
            share = (n_in - n_out) / n_in
            self.note(LARGE_REMOVAL, f"{share:.0%} of {document.source}, document {document.index}")

    def add(self, other: Mapping[str, Any]) -> None:
        """Add the counts of another shard, in their JSON form."""
        self.documents_in += other["documents_in"]
        self.documents_out += other["documents_out"]
        self.changed += other["changed"]
        for name in ("dropped", "removed", "notes"):
            getattr(self, name).update(other.get(name, {}))
        self.examples = {**other.get("examples", {}), **self.examples}


def hash_text(text: str) -> str:
    """Return the SHA-256 of the text as UTF-8, in hex; it identifies a document independently of its file."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


_IN_MEMORY_CHARS = 8_000_000
_PAUSE = re.compile(r"[\s,.;:!?，。；：！？、”’」』）]")


def cut_parts(pieces: Iterable[str], max_chars: int) -> Iterator[tuple[str, bool]]:
    """Cut a text, which is given in pieces, into parts of at most `max_chars` characters.

    Yields (part, is_last); an empty text yields one empty part.
    """
    waiting: list[str] = []  # joined only when longer than a part, so that small pieces are copied once
    n_waiting = 0
    for piece in pieces:
        waiting.append(piece)
        n_waiting += len(piece)
        if n_waiting <= max_chars + 1:  # one more, because the next character may be a combining one
            continue
        buffer, start = "".join(waiting), 0
        while len(buffer) - start > max_chars + 1:
            end = _find_cut(buffer, start, max_chars)
            yield buffer[start:end], False
            start = end
        waiting = [buffer[start:]]
        n_waiting = len(buffer) - start
    rest = "".join(waiting)
    if len(rest) > max_chars:
        end = _find_cut(rest, 0, max_chars)
        yield rest[:end], False
        rest = rest[end:]
    yield rest, True


def make_documents(pieces: Iterable[str], source: str, index: int, max_chars: int) -> Iterator[Document]:
    """Yield one document, in parts of at most `max_chars` characters; nothing for an empty text."""
    for part, (text, last) in enumerate(cut_parts(pieces, max_chars)):
        if text:
            yield Document(text, source, index, part, last)


def emit_document(texts: Iterable[str], like: Document) -> Iterator[Document]:
    """Yield the parts of one document, without the empty ones; nothing if all are empty.

    `like` is a part of the same document before a step; the new parts have its source and index.
    """
    held: str | None = None
    part = 0
    for text in texts:
        if not text:
            continue
        if held is not None:
            yield replace(like, text=held, part=part, last=False)
            part += 1
        held = text
    if held is not None:
        yield replace(like, text=held, part=part, last=True)


def group_documents(documents: Iterable[Document]) -> Iterator[tuple[Document, Iterator[str]]]:
    """Yield (first part, texts of all parts) of each document; consume the texts before the next document."""
    stream = iter(documents)
    for first in stream:
        texts = _texts_of(first, stream)
        yield first, texts
        for _ in texts:  # skip what the caller did not consume
            pass


def _texts_of(first: Document, stream: Iterator[Document]) -> Iterator[str]:
    for document in chain([first], stream):
        yield document.text
        if document.last:
            return


def mark_last(texts: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """Yield (text, is_last) for each text."""
    held: str | None = None
    for text in texts:
        if held is not None:
            yield held, False
        held = text
    if held is not None:
        yield held, True


def measure(texts: Iterable[str], sizes: Counter[str], key: str) -> Iterator[str]:
    """Pass the texts through, and add their characters to `sizes[key]`."""
    for text in texts:
        sizes[key] += len(text)
        yield text


@contextmanager
def replay_texts(texts: Iterable[str]) -> Iterator[Callable[[], Iterator[str]]]:
    """Return a function that iterates over a document's texts any number of times; long documents are kept on disk."""
    kept: list[str] = []
    n_chars = 0
    stream = iter(texts)
    for text in stream:
        kept.append(text)
        n_chars += len(text)
        if n_chars > _IN_MEMORY_CHARS:
            break
    else:
        yield lambda: iter(kept)
        return
    with tempfile.TemporaryFile() as file:
        lengths = [file.write(text.encode("utf-8", "surrogatepass")) for text in chain(kept, stream)]
        kept.clear()

        def read() -> Iterator[str]:
            file.seek(0)
            for length in lengths:
                yield file.read(length).decode("utf-8", "surrogatepass")

        yield read


def _find_cut(text: str, start: int, max_chars: int) -> int:
    """Return the end of the part that begins at `start`, at most `start + max_chars`; the text must be longer."""
    limit = start + max_chars
    middle = start + max_chars // 2
    if (end := text.rfind("\n", middle, limit)) >= 0 or (end := text.rfind("\r", middle, limit - 1)) >= 0:
        # "\r\n" ends one character later.
        return end + 2 if text[end] == "\r" and text[end + 1] == "\n" else end + 1
    window = text[max(middle, limit - 1000) : limit]
    pauses = [match.end() for match in _PAUSE.finditer(window)]
    end = limit - len(window) + pauses[-1] if pauses else limit
    while end > start + 1 and (combines_with_previous(text[end]) or text[end - 1 : end + 1] == "\r\n"):
        end -= 1
    return end


def combines_with_previous(char: str) -> bool:
    """Whether the character is a combining mark, or a Korean letter that NFC composes with the previous one."""
    return unicodedata.category(char).startswith("M") or "\u1160" <= char <= "\u11ff"
