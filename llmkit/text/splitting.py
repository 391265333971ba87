"""Decide what is held out, before anything is joined.

By document: a hash of (seed, text) puts each whole document, so a document stays where it is whatever else is
added, and two equal ones never part. By position: of each document the first 1 - validation - test of its
characters is train, what follows is validation, then test; cut at exactly that character, so that validation
0.1 and test 0 give the usual split of tinyshakespeare. A share of 0 gives no such split.

Does not look at sources: a series of volumes may end up on both sides. See overlap.py for what can be seen.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from heapq import nsmallest
from itertools import accumulate, tee
from math import ceil
from typing import Literal

from llmkit.config.prepare import Split
from llmkit.core.errors import DataError
from llmkit.text.documents import Document
from llmkit.text.staging import Shard, Total, read_begun, read_inner_chars, read_shard, read_shard_totals

SplitName = Literal["train", "validation", "test"]

MIN_DOCUMENTS = 100
"""With fewer, `auto` holds out the tail of each: a hash of a few documents cannot hit a share of 5 %."""
_PLACES = 1 << 64


@dataclass(frozen=True, slots=True)
class SplitPlan:
    """How each document is split; made by plan_split, followed by split_documents."""

    by: Literal["document", "position"]
    seed: int
    validation: Fraction
    test: Fraction
    forced: dict[str, SplitName]
    """Text hashes of documents that are put by hand, because their split would have got none."""

    @property
    def names(self) -> tuple[SplitName, ...]:
        """The splits that will exist."""
        held_out: list[SplitName] = []
        if self.validation:
            held_out.append("validation")
        if self.test:
            held_out.append("test")
        return ("train", *held_out)

    def split_of(self, text_hash: str) -> SplitName:
        """The split of a whole document."""
        return next(self.splits_of([text_hash]))

    def splits_of(self, text_hashes: Iterable[str]) -> Iterator[SplitName]:
        """The split of each."""
        validation_end, test_end = (ceil(end * _PLACES) for end in (self.validation, self.validation + self.test))
        for text_hash in text_hashes:
            place = _place(self.seed, text_hash)
            hashed: SplitName = "train" if place >= test_end else "test" if place >= validation_end else "validation"
            yield self.forced.get(text_hash, hashed)

    def cut(self, n_chars: int) -> list[tuple[SplitName, int]]:
        """(split, its end in characters) for a document of `n_chars` that is split by position."""
        train_end = int(n_chars * (1 - self.validation - self.test))
        validation_end = int(n_chars * (1 - self.test)) if self.validation else train_end
        ends: dict[SplitName, int] = {"train": train_end, "validation": validation_end, "test": n_chars}
        ends[self.names[-1]] = n_chars
        return [(name, ends[name]) for name in self.names]


def plan_split(totals: Iterable[Total], split: Split) -> SplitPlan:
    """Choose the way, and see to it that each wanted split gets a document; one pass over the totals."""
    # A decimal share means that decimal: 1 - 0.05 - 0.05 as floats is less than 0.9.
    shares = Fraction(str(split.validation)), Fraction(str(split.test))
    plan = SplitPlan("document", split.seed, *shares, forced={})
    n_documents = 0
    hits: dict[SplitName, int] = dict.fromkeys(plan.names, 0)
    lowest: dict[str, int] = {}
    text_hashes, again = tee(total.text_hash for total in totals)
    for text_hash, name in zip(text_hashes, plan.splits_of(again), strict=True):
        n_documents += 1
        if split.by != "position":
            hits[name] += 1
            lowest[text_hash] = _place(split.seed, text_hash)
            if len(lowest) > 1000:
                lowest = dict(nsmallest(len(plan.names), lowest.items(), key=lambda item: item[1]))
    if split.by == "position" or (split.by == "auto" and n_documents < MIN_DOCUMENTS):
        return replace(plan, by="position")
    if all(hits.values()):
        return plan
    if len(lowest) < len(plan.names):
        raise DataError(
            f"{len(lowest)} different documents cannot be split into {', '.join(plan.names)}",
            where="prepare.split",
            hint="hold out the tail of each document instead: -s prepare.split.by=position",
        )
    # The lowest places are nearest to being held out; all others stay where their hash puts them.
    order = nsmallest(len(plan.names), lowest, key=lambda text_hash: lowest[text_hash])
    forced = dict(zip(order, plan.names[1:], strict=False))
    if not hits["train"]:
        forced[order[-1]] = "train"
    return replace(plan, forced=forced)


def split_documents(
    documents: Iterable[Document], totals: Iterable[Total], plan: SplitPlan, begun: Sequence[int] = ()
) -> Iterator[tuple[SplitName, Document]]:
    """Each part with the name of its split; `totals` in the documents' order (read_totals).

    By position a document comes in up to three pieces, one after another, each a document of its split. `begun` has
    the characters of each part of the first document that is not given.
    """
    of_documents = iter(totals)
    cuts: list[tuple[SplitName, int]] = []
    place = part = 0  # characters of the document that are behind us; pieces of the present split
    begins = True
    for document in documents:
        if begins:
            total = next(of_documents)
            by_document = plan.by == "document"
            cuts = [(plan.split_of(total.text_hash), total.n_chars)] if by_document else plan.cut(total.n_chars)
            place, part = _pass_parts(begun, cuts)
            begun = ()
        begins = document.last
        start = place
        while place < start + len(document.text):
            while place >= cuts[0][1]:
                del cuts[0]
                part = 0
            name, end = cuts[0]
            text = document.text[place - start : end - start]
            place += len(text)
            yield name, replace(document, text=text, part=part, last=place == end)
            part += 1


def _pass_parts(lengths: Sequence[int], cuts: list[tuple[SplitName, int]]) -> tuple[int, int]:
    """Characters behind parts of these lengths, and pieces there of the present split; drops the cuts behind them."""
    place = part = 0
    for end in accumulate(lengths):
        while place < end:
            while place >= cuts[0][1]:
                del cuts[0]
                part = 0
            place = min(end, cuts[0][1])
            part += 1
    return place, part


@dataclass(frozen=True, slots=True)
class SplitShard:
    """What a shard of the staged text has of one split. With it any process can read its share."""

    split: str
    shard: Shard
    plan: SplitPlan | None = None
    """None: all of the shard is the split's."""

    def may_have_text(self) -> bool:
        """Whether anything of the split is there; False only for slices inside a document that is cut elsewhere."""
        if self.plan is None or self.plan.by == "document" or (n_chars := read_inner_chars(self.shard)) is None:
            return True
        if (total := next(read_shard_totals(self.shard), None)) is None:
            return False
        start = sum(read_begun(self.shard))
        begin = 0
        for name, end in self.plan.cut(total.n_chars):
            if name == self.split:
                return start < end and begin < start + n_chars
            begin = end
        return False

    def read(self, *, with_part_before: bool = False) -> Iterator[Document]:
        """Its documents, in their order; of a slice that begins inside a document, the part before it where wanted."""
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
        totals, begun = read_shard_totals(self.shard), read_begun(self.shard)
        pairs = split_documents(read_shard(self.shard), totals, self.plan, begun)
        yield from (document for name, document in pairs if name == self.split)


def _place(seed: int, text_hash: str) -> int:
    """A document's place between 0 and _PLACES."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{text_hash}".encode()).digest()[:8], "big")
