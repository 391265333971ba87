"""Split documents into train, validation and test, before documents are joined into blocks.

By document: a hash of (seed, text) assigns each complete document, so its split does not depend on other documents, and
equal documents are in the same split. If there are only a few short documents, those with the lowest hashes are held
out. By tail: the first 1 - validation - test of each document is train, followed by validation and test, cut at the
nearest end of a paragraph, sentence, line or word. By position: as by tail, but cut at exactly the fraction of the
characters; validation 0.1 and test 0 give the usual split of tinyshakespeare. A fraction of 0 omits the split.

Sources are ignored: volumes of a series may be in different splits. overlap.py measures shared text.
"""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from heapq import nsmallest
from itertools import tee
from math import ceil
from typing import Literal

from llmkit.config.prepare import Split
from llmkit.core.errors import DataError
from llmkit.text.cuts import Window, choose_cuts, window_around
from llmkit.text.documents import Document
from llmkit.text.staging import Shard, Total, count_inner_chars, read_shard, read_shard_totals, read_skipped_lengths

SplitName = Literal["train", "validation", "test"]

MIN_DOCUMENTS = 100
"""Minimum number of documents to split by hash. With fewer, a fraction of 5 % would be inexact, so `auto` holds out
the documents with the lowest hashes, or splits by tail.
"""
SHORT_CHARS, MIN_SHORT = 5_000, 20
"""Below MIN_DOCUMENTS, `auto` splits by document if the mean length is below SHORT_CHARS and there are at least
MIN_SHORT different documents, so that each is at most 5 % of them.
"""
TINY_CHARS = 200
"""Below this mean length, that of one or two sentences, `auto` splits by document even below MIN_SHORT documents."""
MIN_HELD_OUT_CHARS = 1_000
"""A smaller held-out split is reported as too small."""
_HASH_RANGE = 1 << 64


@dataclass(frozen=True)
class SplitPlan:
    """The assignment of documents to splits; made by plan_split, used by split_documents."""

    by: Literal["document", "tail", "position"]
    seed: int
    validation: Fraction
    test: Fraction
    forced: dict[str, SplitName]
    """Splits of documents, by text hash, that override the hash if it makes a split empty or of a wrong size."""
    cuts: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Split by tail: character positions where train and validation end, by text hash; only for documents that are
    stored in several parts.
    """

    @cached_property
    def names(self) -> tuple[SplitName, ...]:
        """Names of the splits that are not empty."""
        held_out: list[SplitName] = []
        if self.validation:
            held_out.append("validation")
        if self.test:
            held_out.append("test")
        return ("train", *held_out)

    @cached_property
    def _end_ratios(self) -> list[tuple[int, int]]:
        """Fraction of a document where each split except the last ends, as (numerator, denominator)."""
        ends = [1 - self.validation - self.test, 1 - self.test][: len(self.names) - 1]
        return [end.as_integer_ratio() for end in ends]

    def splits_of(self, text_hashes: Iterable[str]) -> Iterator[SplitName]:
        """Yield the split of each document, for a split by document."""
        validation_end, test_end = (ceil(end * _HASH_RANGE) for end in (self.validation, self.validation + self.test))
        for text_hash in text_hashes:
            value = _hash(self.seed, text_hash)
            hashed: SplitName = "train" if value >= test_end else "test" if value >= validation_end else "validation"
            yield self.forced.get(text_hash, hashed)

    def targets(self, n_chars: int) -> list[int]:
        """Return the exact end of each split except the last in a document of `n_chars` characters."""
        return [n_chars * numerator // denominator for numerator, denominator in self._end_ratios]

    def cut(self, total: Total, text: str | None = None) -> list[tuple[SplitName, int]]:
        """Return (split, its end in characters) for each split of a document. `text` is given if the document is stored
        in one part.
        """
        ends: Sequence[int] = self.cuts.get(total.text_hash) or self.targets(total.n_chars)
        if self.by == "tail" and text is not None and ends:
            ends = choose_cuts([window_around(text, target, len(text)) for target in ends], len(text))
        return list(zip(self.names, [*ends, total.n_chars], strict=True))


def plan_split(totals: Iterable[Total], split: Split) -> SplitPlan:
    """Choose the method of splitting in one pass over the totals, so that no split is empty."""
    # Exact decimals: 1 - 0.05 - 0.05 as floats is less than 0.9.
    shares = Fraction(str(split.validation)), Fraction(str(split.test))
    plan = SplitPlan("document", split.seed, *shares, forced={})
    if split.by in ("position", "tail"):
        return replace(plan, by=split.by)
    n_documents = n_chars = 0
    hits: dict[SplitName, int] = dict.fromkeys(plan.names, 0)
    lowest: dict[str, int] = {}
    totals, again = tee(totals)
    for total, name in zip(totals, plan.splits_of(each.text_hash for each in again), strict=True):
        n_documents += 1
        n_chars += total.n_chars
        hits[name] += 1
        lowest[total.text_hash] = _hash(split.seed, total.text_hash)
        if len(lowest) > 1000:
            lowest = dict(nsmallest(len(plan.names), lowest.items(), key=lambda item: item[1]))
    if split.by == "auto" and n_documents < MIN_DOCUMENTS:
        mean = n_chars / max(1, n_documents)
        is_whole = mean < TINY_CHARS or (mean < SHORT_CHARS and len(lowest) >= MIN_SHORT)
        if not is_whole or len(lowest) < len(plan.names):
            return replace(plan, by="tail")
        return replace(plan, forced=_split_few(sorted(lowest, key=lambda key: lowest[key]), plan))
    if all(hits.values()):
        return plan
    if len(lowest) < len(plan.names):
        raise DataError(
            f"{len(lowest)} different documents cannot be split into {', '.join(plan.names)}",
            where="prepare.split",
            hint="split each document by its tail instead: -s prepare.split.by=tail",
        )
    # Reassign the documents with the lowest hashes, which are nearest to being held out.
    order = nsmallest(len(plan.names), lowest, key=lambda text_hash: lowest[text_hash])
    forced = dict(zip(order, plan.names[1:], strict=False))
    if not hits["train"]:
        forced[order[-1]] = "train"
    return replace(plan, forced=forced)


def _split_few(ordered: Sequence[str], plan: SplitPlan) -> dict[str, SplitName]:
    """Return the splits of a few documents by text hash. The first documents of `ordered` are held out, at least one
    per split.
    """
    n_validation, n_test = (
        max(1, round(len(ordered) * share)) if share else 0 for share in (plan.validation, plan.test)
    )
    # Keep at least one to train on: 0.5 and 0.49 of 30 documents are 15 each.
    n_validation = min(n_validation, len(ordered) - 1 - (n_test > 0))
    n_test = min(n_test, len(ordered) - 1 - n_validation)
    names: list[SplitName] = ["validation"] * n_validation
    names += ["test"] * n_test
    names += ["train"] * (len(ordered) - len(names))
    return dict(zip(ordered, names, strict=False))


def plan_cuts(plan: SplitPlan, documents: Iterable[Document], totals: Iterable[Total]) -> SplitPlan:
    """Return the plan with `cuts` for documents that are stored in several parts, if the split is by tail.

    `documents` and `totals` are in the same order. Reads the complete text once, to find paragraphs and sentences.
    """
    if plan.by != "tail" or len(plan.names) == 1:
        return plan
    cuts: dict[str, tuple[int, ...]] = {}
    all_totals = iter(totals)
    total, position, windows = None, 0, list[Window]()
    for document in documents:
        if total is None:
            total, position = next(all_totals), 0
            windows = [window_around("", target, total.n_chars) for target in plan.targets(total.n_chars)]
        for window in windows:
            window.add(document.text, position)
        position += len(document.text)
        if document.last:
            if document.part:
                cuts[total.text_hash] = tuple(choose_cuts(windows, total.n_chars))
            total = None
    return replace(plan, cuts=cuts)


def split_documents(
    documents: Iterable[Document],
    totals: Iterable[Total],
    plan: SplitPlan,
    skipped: Sequence[int] = (),
    wanted: Collection[str] = ("train", "validation", "test"),
) -> Iterator[tuple[SplitName, Document]]:
    """Yield each part of the wanted splits with the name of its split; `totals` are in the documents' order
    (read_shard_totals).

    By tail and by position, a document becomes up to three consecutive documents, one per split. `skipped` has the
    lengths, in characters, of the first document's parts that precede `documents`.
    """
    document_totals = iter(totals)
    place = _Place([])
    is_first_part = True
    for document in documents:
        if is_first_part:
            total = next(document_totals)
            if plan.by == "document":
                cuts = [(next(plan.splits_of([total.text_hash])), total.n_chars)]
            else:
                cuts = plan.cut(total, document.text if document.last and not document.part else None)
            place = _Place(cuts)
            for length in skipped:
                for _ in place.advance(length):
                    pass
            skipped = ()
        is_first_part = document.last
        start = 0
        for name, n_chars, part, last in place.advance(len(document.text)):
            if name in wanted:
                text = document.text[start : start + n_chars]
                yield name, Document(text, document.source, document.index, part, last)
            start += n_chars


class _Place:
    """A position in a document, and the number of the next part in the split that it is in."""

    def __init__(self, cuts: Sequence[tuple[SplitName, int]]) -> None:
        self._cuts = list(cuts)
        self._position = self._part = 0

    def advance(self, n_chars: int) -> Iterator[tuple[SplitName, int, int, bool]]:
        """Yield (split, characters, part of the split, whether it is the split's last part) for the next characters."""
        stop = self._position + n_chars
        while self._position < stop:
            while self._position >= self._cuts[0][1]:
                del self._cuts[0]
                self._part = 0
            name, end = self._cuts[0]
            before, self._position = self._position, min(stop, end)
            yield name, self._position - before, self._part, self._position == end
            self._part += 1


@dataclass(frozen=True, slots=True)
class SplitShard:
    """The text of one split in one shard of the staged text; any process can read it."""

    split: str
    shard: Shard
    plan: SplitPlan | None = None
    """How to split; None if the whole shard is in the split."""

    def may_have_text(self) -> bool:
        """Return False only if the shard certainly has no text of the split: it is a slice inside a document, and the
        split's text is outside of the slice.
        """
        if self.plan is None or self.plan.by == "document" or (n_chars := count_inner_chars(self.shard)) is None:
            return True
        if (total := next(read_shard_totals(self.shard), None)) is None:
            return False
        start = sum(read_skipped_lengths(self.shard))
        begin = 0
        for name, end in self.plan.cut(total):
            if name == self.split:
                return start < end and begin < start + n_chars
            begin = end
        return False

    def read(self, *, with_part_before: bool = False) -> Iterator[Document]:
        """Yield the documents in order; `with_part_before` adds the previous part if a slice begins inside a
        document.
        """
        if with_part_before:
            yield from replace(self, shard=replace(self.shard, with_part_before=True)).read()
            return
        if self.plan is None:
            yield from read_shard(self.shard)
            return
        if self.plan.by == "document":
            splits = self.plan.splits_of(total.text_hash for total in read_shard_totals(self.shard))
            yield from read_shard(self.shard, (name == self.split for name in splits))
            return
        totals, skipped = read_shard_totals(self.shard), read_skipped_lengths(self.shard)
        pairs = split_documents(read_shard(self.shard), totals, self.plan, skipped, (self.split,))
        yield from (document for _, document in pairs)


def _hash(seed: int, text_hash: str) -> int:
    """Return the hash of a document, between 0 and _HASH_RANGE."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{text_hash}".encode()).digest()[:8], "big")
