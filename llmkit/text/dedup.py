"""Drop documents and paragraphs that were seen before; of equal ones the first stays.

Equal means: equal when all white space is taken out and case is folded, so that the same text wrapped in another
width is a copy. A document in several parts is judged as a whole; while it is judged, a long one waits on the
disk. Near copies are found by MinHash over 5-grams of words or Chinese characters (Broder 1997).

Memory: about 120 bytes a document for exact copies, the same a paragraph, about 2 KB a document for near ones.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from llmkit.config.prepare import Dedup
from llmkit.errors import EnvironmentFault
from llmkit.text.documents import Document, StepCounts
from llmkit.text.parts import emit_document, group_documents, mark_last, replay_texts
from llmkit.text.quality import TOKEN

EXACT, NEAR, PARAGRAPHS = "exact copies", "near copies", "paragraph copies"
FEWEST_PARAGRAPH_BYTES = 60
"""60 letters or 20 Chinese characters; shorter paragraphs are never copies: "Yes." is said in many books."""
_N_PERMUTATIONS = 128
_SEED = 42  # the one that rensa's index is made with
_N = 5
_WHITE_SPACE = b" \t\n\r\f\v"
_LONGEST_CARRIED = 1_000_000


def deduplicate(documents: Iterable[Document], dedup: Dedup, counts: dict[str, StepCounts]) -> Iterator[Document]:
    """First copies only. Adds the steps `exact copies`, `near copies`, `paragraph copies` to `counts`."""
    if dedup.documents:
        documents = _drop_copies(documents, _exact_judge(), counts.setdefault(EXACT, StepCounts()), "seen before")
    if dedup.near:
        judge = _near_judge(dedup.near_threshold)
        documents = _drop_copies(documents, judge, counts.setdefault(NEAR, StepCounts()), "nearly seen before")
    if dedup.paragraphs:
        documents = _drop_paragraphs(documents, counts.setdefault(PARAGRAPHS, StepCounts()))
    return iter(documents)


Judge = Callable[[Iterable[str]], bool]
"""Whether a document, given as the texts of its parts, was seen before; if not, it is remembered."""


def fold(text: str) -> bytes:
    """The text as UTF-8 without white space and case."""
    folded = text.casefold().replace("\u3000", "").replace("\xa0", "")
    return folded.encode("utf-8", "surrogatepass").translate(None, _WHITE_SPACE)


def _drop_copies(documents: Iterable[Document], judge: Judge, count: StepCounts, reason: str) -> Iterator[Document]:
    for first, texts in group_documents(documents):
        count.documents_in += 1
        with replay_texts(texts) as replay:
            if judge(replay()):
                count.dropped[reason] += 1
            else:
                count.documents_out += 1
                yield from emit_document(replay(), first)


def _exact_judge() -> Judge:
    seen: set[bytes] = set()

    def is_copy(texts: Iterable[str]) -> bool:
        digest = hashlib.blake2b(digest_size=16)
        for text in texts:
            digest.update(fold(text))
        key = digest.digest()
        if key in seen:
            return True
        seen.add(key)
        return False

    return is_copy


def _near_judge(threshold: float) -> Judge:
    try:
        import rensa
    except ImportError:
        raise EnvironmentFault(
            "near copies need the MinHash library rensa",
            where="prepare.dedup.near",
            hint="pip install 'llmkit[dedup]', or set it to false",
        ) from None
    index = rensa.RMinHashDeduplicator(threshold, _N_PERMUTATIONS, True)
    n_seen = 0

    def is_copy(texts: Iterable[str]) -> bool:
        nonlocal n_seen
        sketch: Any = rensa.RMinHash(_N_PERMUTATIONS, _SEED)
        n_grams = 0
        carried: list[str] = []
        for text in texts:
            tokens = carried + TOKEN.findall(text.casefold())
            grams = list(map(" ".join, zip(*(tokens[shift:] for shift in range(_N)), strict=False)))
            sketch.update(grams)
            n_grams += len(grams)
            carried = tokens[max(0, len(tokens) - _N + 1) :]
        if not n_grams:
            return False  # too short to be compared
        n_seen += 1
        return not index.add(str(n_seen), sketch)

    return is_copy


def _drop_paragraphs(documents: Iterable[Document], count: StepCounts) -> Iterator[Document]:
    """Without long paragraphs that any document had before; one left with nothing is dropped."""
    seen: set[bytes] = set()
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
        if len(carried) > _LONGEST_CARRIED:  # an endless paragraph is not waited for
            paragraphs.append(carried)
            carried = ""
        kept = [paragraph + mark for paragraph in paragraphs if _is_new(paragraph, seen, count)]
        # The last paragraph goes on in the next part.
        if last and _is_new(carried, seen, count):
            kept.append(carried)
        yield "".join(kept)


def _is_new(paragraph: str, seen: set[bytes], count: StepCounts) -> bool:
    folded = fold(paragraph)
    if len(folded) < FEWEST_PARAGRAPH_BYTES:
        return True
    key = hashlib.blake2b(folded, digest_size=16).digest()
    if key in seen:
        count.removed["paragraphs"] += 1
        return False
    seen.add(key)
    return True
