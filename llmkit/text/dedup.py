"""Drop documents and paragraphs that were seen before; of equal ones the first stays.

Equal means: equal when all white space is taken out and case is folded, so that the same text wrapped in another
width is a copy. A document in several parts is judged as a whole; while it is judged, a long one waits on the
disk. Near copies are found by MinHash over 5-grams of words or Chinese characters (Broder 1997).

Memory: about 120 bytes a document for exact copies, the same a paragraph, about 2 KB a document for near ones.
"""

import hashlib
import pickle
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from llmkit.config.prepare import Dedup
from llmkit.core.errors import EnvironmentFault
from llmkit.text.documents import Document, StepCounts, emit_document, group_documents, mark_last, replay_texts
from llmkit.text.quality import TOKEN
from llmkit.text.scan import casefold_utf8, scan_text

EXACT, NEAR, PARAGRAPHS = "exact copies", "near copies", "paragraph copies"
MIN_PARAGRAPH_BYTES = 60
"""60 letters or 20 Chinese characters; shorter paragraphs are never copies: "Yes." is said in many books."""
_N_PERMUTATIONS = 128
_SEED = 42  # the one that rensa's index is made with
_N = 5
_WHITE_SPACE = b" \t\n\r\f\v"
_WIDE_SPACES = frozenset("\u3000\xa0")
_MAX_CARRIED = 1_000_000


@dataclass(frozen=True, slots=True)
class CopyStep:
    """How copies of whole documents are found, in two halves: the key is the text's alone, the judge goes by order."""

    name: str
    reason: str
    key_of: Callable[[Iterable[str]], bytes | None]
    """The key of a document, given as the texts of its parts; None if it is too short to be compared."""
    judge: Callable[[bytes], bool]
    """Whether the document with this key was seen before; if not, it is remembered."""


def copy_steps(dedup: Dedup) -> list[CopyStep]:
    """The steps that `dedup` asks for, each with nothing seen yet."""
    steps = []
    if dedup.documents:
        steps.append(CopyStep(EXACT, "seen before", _exact_key, _exact_judge()))
    if dedup.near:
        steps.append(CopyStep(NEAR, "nearly seen before", _near_key, _near_judge(dedup.near_threshold)))
    return steps


Keys = tuple[bytes | None, ...]
"""The key of a document for each of the `copy_steps`."""


def find_keys(documents: Iterable[Document], dedup: Dedup) -> Iterator[Keys]:
    """The keys of each document, for `keep_first`: the half of the work that can be done anywhere, in any order."""
    steps = copy_steps(dedup)
    for _, texts in group_documents(documents):
        with replay_texts(texts) as replay:
            yield tuple(step.key_of(replay()) for step in steps)


def keep_first(keys: Iterable[Keys], dedup: Dedup, counts: dict[str, StepCounts]) -> Iterator[bool]:
    """For each document, by its keys and in order, whether it stays; adds the steps to `counts`."""
    steps = [(step, counts.setdefault(step.name, StepCounts())) for step in copy_steps(dedup)]
    for of_document in keys:
        pairs = zip(steps, of_document, strict=True)
        yield not any(_is_copy(step, key, count) for (step, count), key in pairs)


def _is_copy(step: CopyStep, key: bytes | None, count: StepCounts) -> bool:
    count.documents_in += 1
    if key is not None and step.judge(key):
        count.dropped[step.reason] += 1
        return True
    count.documents_out += 1
    return False


def fold(text: str) -> bytes:
    """The text as UTF-8 without white space and case."""
    folded = casefold_utf8(text, _WHITE_SPACE)
    for space in scan_text(text).others & _WIDE_SPACES:
        folded = folded.replace(space.encode(), b"")
    return folded


def _exact_key(texts: Iterable[str]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for text in texts:
        digest.update(fold(text))
    return digest.digest()


def _exact_judge() -> Callable[[bytes], bool]:
    seen: set[bytes] = set()

    def was_seen(key: bytes) -> bool:
        n_seen = len(seen)
        seen.add(key)
        return len(seen) == n_seen

    return was_seen


def _near_key(texts: Iterable[str]) -> bytes | None:
    """The document's MinHash sketch, 128 slots."""
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


def _near_judge(threshold: float) -> Callable[[bytes], bool]:
    index = _rensa().RMinHashDeduplicator(threshold, _N_PERMUTATIONS, True)
    n_seen = 0

    def was_nearly_seen(key: bytes) -> bool:
        nonlocal n_seen
        n_seen += 1
        return not index.add(str(n_seen), pickle.loads(key))

    return was_nearly_seen


def _rensa() -> Any:
    try:
        import rensa
    except ImportError:
        raise EnvironmentFault(
            "near copies need the MinHash library rensa",
            where="prepare.dedup.near",
            hint="pip install 'llmkit[dedup]', or set it to false",
        ) from None
    return rensa


def drop_paragraphs(documents: Iterable[Document], count: StepCounts, seen: set[bytes]) -> Iterator[Document]:
    """Without long paragraphs that are `seen` or that any document had before; one left with nothing is dropped."""
    for first, texts in group_documents(documents):
        count.documents_in += 1
        before = count.removed.total()
        n_out = 0
        for document in emit_document(_new_paragraphs(texts, seen, count), first):
            n_out += document.last
            yield document
        count.documents_out += n_out
        count.changed += n_out and count.removed.total() > before
        if not n_out:
            count.dropped["all paragraphs seen before"] += 1


def _new_paragraphs(texts: Iterable[str], seen: set[bytes], count: StepCounts) -> Iterator[str]:
    """Paragraphs end at blank lines; in a document whose first part has none, at line ends."""
    mark = ""
    carried = ""
    for text, last in mark_last(texts):
        mark = mark or ("\n\n" if "\n\n" in text else "\n")
        *paragraphs, carried = (carried + text).split(mark)
        if len(carried) > _MAX_CARRIED:  # an endless paragraph is not waited for
            paragraphs.append(carried)
            carried = ""
        kept = [paragraph + mark for paragraph in paragraphs if _is_new(paragraph, seen, count)]
        # The last paragraph goes on in the next part.
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
