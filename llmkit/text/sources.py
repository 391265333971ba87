"""Record the sources of a text: counts and hash, encoding, skipped items and notes.

readers.py and entries.py fill a record while they read; `prepare` writes it to the manifest.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from llmkit.core.console import list_some
from llmkit.core.errors import DataError
from llmkit.text.documents import StepCounts

log = logging.getLogger(__name__)


@lru_cache(maxsize=1000)
def log_once(message: str) -> None:
    """Log a warning once; a table is opened several times: to find its columns, to read its rows, for each fold."""
    log.warning("%s", message)


@dataclass(slots=True)
class Source:
    """Record of one source: a file, a member of an archive, a hub data set or a built-in corpus."""

    path: str
    """Path as the user would write it; inside an archive `books.zip!a.txt`."""
    n_bytes: int = 0
    """Number of raw bytes: compressed as on disk, but unpacked for a member of a .zip."""
    sha256: str = ""
    """SHA-256 in hex of the raw bytes; of the UTF-8 texts for `hf:` and `builtin:` sources."""
    encoding: str = ""
    """Python codec name; empty for formats with an encoding of their own (parquet, epub, hf)."""
    example: str = ""
    """A line of the decoded text, if `encoding` is neither ASCII nor UTF-8."""
    documents: int = 0
    characters: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    """Skipped files, rows or members, by reason."""
    notes: dict[str, str] = field(default_factory=dict)
    """Guesses and omissions, each with the setting that changes it, mapped to an example from the source."""

    def skip(self, reason: str, where: str) -> None:
        """Count a skipped item; the first five of each reason are logged."""
        self.skipped[reason] += 1
        if self.skipped[reason] <= 5:  # all are counted in the manifest
            log.warning("skipped: %s (%s)", where, reason)


def describe_notes(sources: Iterable[Source]) -> list[str]:
    """Return one line per note, with its first source and its example."""
    notes = ((what, source.path, example) for source in sources for what, example in source.notes.items())
    return [f"{places}: {what}" + (f"; {example}" if example else "") for what, places, example in _group(notes)]


def describe_encodings(sources: Iterable[Source]) -> list[str]:
    """Return one line per detected legacy encoding, with its first source and a line of text.

    Call this function only if `read.encoding` is `auto`. `prepare` lists the encodings in its receipt instead.
    """
    guesses = ((each.encoding, each.path, each.example) for each in sources)
    legacy = (each for each in guesses if each[2] and not each[0].startswith("utf"))
    return [
        f'{places}: read as {encoding} (prepare.read.encoding), for example "{example}"'
        for encoding, places, example in _group(legacy)
    ]


def _group(found: Iterable[tuple[str, str, str]]) -> Iterator[tuple[str, str, str]]:
    """Group (what, path, example) by `what`; yields it with the first path, the number of others, and an example."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for what, path, example in found:
        groups.setdefault(what, []).append((path, example))
    for what, places in groups.items():
        yield what, list_some([path for path, _ in places], 1), places[0][1]


def report_notes(sources: Iterable[Source]) -> None:
    """Log the notes of the sources."""
    for line in describe_notes(sources):
        log.warning(line)


def require_documents(sources: Iterable[Source], counts: Mapping[str, StepCounts], n_documents: int) -> None:
    """Raise DataError with all counts if no document is left."""
    if n_documents:
        return
    records = list(sources)
    n_read = sum(source.documents for source in records)
    skipped = sum((source.skipped for source in records), Counter())
    lines = [f"{reason}: {n}" for reason, n in sorted(skipped.items())]
    for step, count in counts.items():
        lines += [f"{step}: {reason}: {n}" for reason, n in sorted(count.dropped.items())]
    names = ", ".join(source.path for source in records[:5]) + (", ..." if len(records) > 5 else "")
    n_sources = "1 source" if len(records) == 1 else f"{len(records):,} sources"
    raise DataError(
        f"no usable document: {n_read:,} read from {n_sources}, 0 left ({'; '.join(lines) or 'all empty'})",
        where=names or "the inputs",
        hint="give different files, or relax the filter that dropped the documents",
    )
