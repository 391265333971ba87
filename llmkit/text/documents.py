"""What a document is, everywhere in llmkit, and how steps count what they do to documents."""

import hashlib
import re
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain


@dataclass(frozen=True, slots=True)
class Document:
    """A text and where it came from.

    A text longer than `read.max_doc_chars` travels as several consecutive parts of one document, so that
    memory stays flat; joining the parts' texts gives the document back, character for character.
    """

    text: str
    source: str
    """Path as the user would write it; inside an archive `books.zip!a.txt`."""
    index: int = 0
    """Position in the source: row, line or chapter, from 0."""
    part: int = 0
    last: bool = True
    """Whether this is the document's last part."""


@dataclass(slots=True)
class StepCounts:
    """What one named step did: how many documents came and went, how many changed, and every drop's reason."""

    documents_in: int = 0
    documents_out: int = 0
    changed: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    """Whole documents, by reason."""
    removed: Counter[str] = field(default_factory=Counter)
    """What was taken out of documents that stayed: characters by kind, or paragraphs, or repaired lines."""


def hash_text(text: str) -> str:
    """SHA-256 of the text as UTF-8, in hex: the identity of a document, whatever file it came from."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


_IN_MEMORY_CHARS = 8_000_000
_PAUSE = re.compile(r"[\s,.;:!?，。；：！？、”’」』）]")


def cut_parts(pieces: Iterable[str], max_chars: int) -> Iterator[tuple[str, bool]]:
    """(text, whether it is the last part); at least one part, which is empty for an empty text."""
    waiting: list[str] = []  # joined only when there is enough, so that many small pieces cost no copying
    n_waiting = 0
    for piece in pieces:
        waiting.append(piece)
        n_waiting += len(piece)
        if n_waiting <= max_chars + 1:  # one more, so that a following combining character is seen
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
    """One document in as many parts as it needs; nothing for an empty text."""
    for part, (text, last) in enumerate(cut_parts(pieces, max_chars)):
        if text:
            yield Document(text, source, index, part, last)


def emit_document(texts: Iterable[str], like: Document) -> Iterator[Document]:
    """One document from its parts' texts, renumbered without the empty ones; nothing if all are empty."""
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
    """(first part, all the parts' texts) of each document; take the texts before asking for the next one."""
    stream = iter(documents)
    for first in stream:
        texts = _texts_of(first, stream)
        yield first, texts
        for _ in texts:  # whoever did not take all the texts must not meet them as the next document
            pass


def _texts_of(first: Document, stream: Iterator[Document]) -> Iterator[str]:
    document = first
    yield document.text
    while not document.last:
        following = next(stream, None)
        if following is None:
            return
        document = following
        yield document.text


def mark_last(texts: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """Each text, with whether it is the last one."""
    held: str | None = None
    for text in texts:
        if held is not None:
            yield held, False
        held = text
    if held is not None:
        yield held, True


@contextmanager
def replay_texts(texts: Iterable[str]) -> Iterator[Callable[[], Iterator[str]]]:
    """All the texts of a document, to be read again as often as wanted; a long one waits on the disk."""
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
    """Where to end the part that begins at `start`, given that text goes on behind start + max_chars."""
    limit = start + max_chars
    middle = start + max_chars // 2
    if (end := text.rfind("\n", middle, limit)) >= 0 or (end := text.rfind("\r", middle, limit - 1)) >= 0:
        # A carriage return whose line feed follows ends the line one later; "\n" found first excludes most.
        return end + 2 if text[end] == "\r" and text[end + 1] == "\n" else end + 1
    window = text[max(middle, limit - 1000) : limit]
    pauses = [match.end() for match in _PAUSE.finditer(window)]
    end = limit - len(window) + pauses[-1] if pauses else limit
    while end > start + 1 and (joins_what_is_before(text[end]) or text[end - 1 : end + 1] == "\r\n"):
        end -= 1
    return end


def joins_what_is_before(char: str) -> bool:
    """Combining marks, and the Korean letters that Unicode composes with the one before."""
    return unicodedata.category(char).startswith("M") or "\u1160" <= char <= "\u11ff"
