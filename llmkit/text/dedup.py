"""Drop duplicate documents and paragraphs; the first of several duplicates is kept.

Texts are duplicates if they differ only in white space and case, so a text wrapped at another width is a duplicate.
A document in several parts is compared as a whole. Near duplicates are found by MinHash over 5-grams of words or
Chinese characters (Broder 1997).

Memory: about 120 bytes per document for exact duplicates, 120 bytes per paragraph for duplicate paragraphs, and 2 KB
per document for near duplicates.
"""

import hashlib
import itertools
import pickle
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from llmkit.config.prepare import Dedup
from llmkit.core.errors import EnvironmentFault
from llmkit.text.cleaning.quality import TOKEN
from llmkit.text.documents import Document, StepCounts, emit_document, group_documents, mark_last, measure, replay_texts
from llmkit.text.scan import casefold_utf8, scan_text

EXACT, NEAR, PARAGRAPHS = "exact copies", "near copies", "paragraph copies"
MIN_PARAGRAPH_BYTES = 60
"""60 letters or 20 Chinese characters; shorter paragraphs, such as "Yes.", are always kept."""
_N_PERMUTATIONS = 128
_SEED = 42  # rensa's index uses the same seed
_N = 5
_WHITE_SPACE = b" \t\n\r\f\v"
_WIDE_SPACES = frozenset("\u3000\xa0")
_MAX_CARRIED = 1_000_000


@dataclass(frozen=True, slots=True)
class DedupStep:
    """One kind of duplicate search: computes a key per document, and checks the keys in document order."""

    name: str
    reason: str
    key_of: Callable[[Iterable[str]], bytes | None]
    """The key of a document from the texts of its parts; None if it is too short to compare."""
    is_seen: Callable[[bytes], bool]
    """Whether this key was seen before; adds it if not."""


def dedup_steps(dedup: Dedup) -> list[DedupStep]:
    """Return the steps that `dedup` enables, with empty indexes."""
    steps = []
    if dedup.documents:
        steps.append(DedupStep(EXACT, "seen before", _exact_key, _exact_index()))
    if dedup.near:
        steps.append(DedupStep(NEAR, "nearly seen before", _near_key, _near_index(dedup.near_threshold)))
    return steps


Keys = tuple[bytes | None, ...]
"""The keys of a document, one per step of `dedup_steps`."""


def compute_keys(documents: Iterable[Document], dedup: Dedup) -> Iterator[Keys]:
    """Yield the keys of each document, for `find_unique`. They depend on no other document, so any process can compute
    them.
    """
    steps = dedup_steps(dedup)
    for _, texts in group_documents(documents):
        with replay_texts(texts) as replay:
            yield tuple(step.key_of(replay()) for step in steps)


def find_unique(keys: Iterable[Keys], dedup: Dedup, counts: dict[str, StepCounts]) -> Iterator[bool]:
    """Yield False for each document that is a duplicate of an earlier one, else True.

    `keys` are in document order. Adds the counts of each step to `counts`.
    """
    steps = [(step, counts.setdefault(step.name, StepCounts())) for step in dedup_steps(dedup)]
    for document_keys in keys:
        pairs = zip(steps, document_keys, strict=True)
        yield not any(_is_duplicate(step, key, count) for (step, count), key in pairs)


def _is_duplicate(step: DedupStep, key: bytes | None, count: StepCounts) -> bool:
    count.documents_in += 1
    if key is not None and step.is_seen(key):
        count.dropped[step.reason] += 1
        return True
    count.documents_out += 1
    return False


def fold(text: str) -> bytes:
    """Return the casefolded text as UTF-8, without white space."""
    folded = casefold_utf8(text, _WHITE_SPACE)
    for space in scan_text(text).others & _WIDE_SPACES:
        folded = folded.replace(space.encode(), b"")
    return folded


def _exact_key(texts: Iterable[str]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for text in texts:
        digest.update(fold(text))
    return digest.digest()


def _exact_index() -> Callable[[bytes], bool]:
    seen: set[bytes] = set()
    return lambda key: key in seen or bool(seen.add(key))  # type: ignore[func-returns-value]  # add returns None


def _near_key(texts: Iterable[str]) -> bytes | None:
    """Return the document's MinHash, pickled; None for a document of fewer than 5 tokens."""
    sketch: Any = _rensa().RMinHash(_N_PERMUTATIONS, _SEED)
    n_grams = 0
    carried: list[str] = []
    for text in texts:
        tokens = carried + TOKEN.findall(text.casefold())
        grams = list(map(" ".join, zip(*(tokens[shift:] for shift in range(_N)), strict=False)))
        sketch.update(grams)
        n_grams += len(grams)
        carried = tokens[max(0, len(tokens) - _N + 1) :]
    return pickle.dumps(sketch) if n_grams else None


def _near_index(threshold: float) -> Callable[[bytes], bool]:
    index = _rensa().RMinHashDeduplicator(threshold, _N_PERMUTATIONS, True)
    numbers = itertools.count(1)
    return lambda key: not index.add(str(next(numbers)), pickle.loads(key))


def _rensa() -> Any:
    try:
        import rensa
    except ImportError:
        raise EnvironmentFault(
            "finding near duplicates needs the MinHash library rensa",
            where="prepare.dedup.near",
            hint="pip install 'llmkit[dedup]', or set prepare.dedup.near to false",
        ) from None
    return rensa


def drop_duplicate_paragraphs(documents: Iterable[Document], count: StepCounts, seen: set[bytes]) -> Iterator[Document]:
    """Drop long paragraphs that occurred before, and documents that become empty.

    `seen` has the hashes of the long paragraphs of earlier calls; the hashes of the new ones are added.
    """
    for first, texts in group_documents(documents):
        count.documents_in += 1
        before = count.removed.total()
        n_out = 0
        sizes = Counter[str]()
        for document in emit_document(_new_paragraphs(measure(texts, sizes, "in"), seen, count), first):
            n_out += document.last
            sizes["out"] += len(document.text)
            yield document
        count.documents_out += n_out
        count.changed += n_out and count.removed.total() > before
        if n_out:
            count.note_removal(sizes["in"], sizes["out"], first)
        if not n_out:
            count.dropped["all paragraphs seen before"] += 1


def _new_paragraphs(texts: Iterable[str], seen: set[bytes], count: StepCounts) -> Iterator[str]:
    """Yield each text without the paragraphs whose hashes are in `seen`.

    Paragraphs end at blank lines, or at line ends if the document's first part has no blank line.
    """
    separator = ""
    carried = ""
    for text, last in mark_last(texts):
        separator = separator or ("\n\n" if "\n\n" in text else "\n")
        *paragraphs, carried = (carried + text).split(separator)
        if len(carried) > _MAX_CARRIED:  # do not collect an endless paragraph
            paragraphs.append(carried)
            carried = ""
        kept = [paragraph + separator for paragraph in paragraphs if _is_new(paragraph, seen, count)]
        if last and _is_new(carried, seen, count):
            kept.append(carried)
        yield "".join(kept)


def _is_new(paragraph: str, seen: set[bytes], count: StepCounts) -> bool:
    folded = fold(paragraph)
    if len(folded) < MIN_PARAGRAPH_BYTES:
        return True
    key = hashlib.blake2b(folded, digest_size=16).digest()
    if key in seen:
        count.removed["paragraphs"] += 1
        return False
    seen.add(key)
    return True
