"""What a document is, everywhere in llmkit, and how steps count what they do to documents."""

import hashlib
from collections import Counter
from dataclasses import dataclass, field


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
