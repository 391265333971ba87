"""Make BERT's training examples; each is a pure function of (seed, epoch, number).

`sentence_objective` selects the kind of example:

"nsp": two segments of complete sentences; the second one follows the first or, with probability 0.5, comes from another
document (Devlin et al. 2018, appendix A.2, and its create_pretraining_data.py).

"sop": the second segment always follows the first, and with probability 0.5 the two are swapped (ALBERT, Lan et al.
2019, section 3.1).

"none": one segment of complete sentences, across documents (RoBERTa, Liu et al. 2019, section 4.2).

BERT's script walks through a document, starts each example where the last one ended, and writes ten fixed copies to
disk. Here example k of n begins with the sentence at about k/n of the split, so examples have random access and nothing
is stored. An epoch has about as many tokens as the split, each about once; every epoch has new cuts, pairs and masks.

Segments are made as in BERT. Sentences are added up to a target length, random for `short_share` of the pairs, and the
segments are separated after a random sentence. A pair that is too long loses tokens from the front or the back of the
longer segment, at random. Second segments that do not follow the first are sampled uniformly over the tokens of other
documents; BERT samples documents first, which favours short ones. The length and the position of a second segment do
not reveal whether it follows the first. In a split of one document, unrelated segments come from a passage at least a
quarter of the document away.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from llmkit.config.mlm import Mlm
from llmkit.core.errors import DataError, UsageError
from llmkit.datasets.masking import MaskVocabulary, TokenIds, choose_masked, corrupt
from llmkit.datasets.randomness import draw_uniforms, hash_integers, permute
from llmkit.datasets.sentences import Passage, Sentences, scale_offset
from llmkit.tokens.store import Split

SentenceObjective = Literal["nsp", "sop", "none"]
IS_NEXT, IS_NOT_NEXT = 0, 1
"""BERT counts 0 as "is next", the reverse of what the name suggests. ALBERT: 0 is in order, 1 swapped."""
NO_PAIR = -1
"""The relation of an example that has only one segment."""

MIN_BLOCK_SIZE = 8

Span = tuple[int, int]
"""Start and end on the token stream of the split."""


@dataclass(frozen=True, slots=True)
class Example:
    """One training sequence; all arrays are int64."""

    input_ids: TokenIds
    """Token ids with [CLS] and [SEP], corrupted at the masked positions."""
    n_first: int
    """Length of the first segment with [CLS] and [SEP]; later tokens have token type 1."""
    masked: NDArray[np.int64]
    """Positions of the tokens to predict, ascending."""
    targets: TokenIds
    """The original tokens at these positions."""
    relation: int
    """IS_NEXT or IS_NOT_NEXT (for sop: in order or swapped), or NO_PAIR."""
    spans: tuple[Span, ...]
    """The segments on the token stream."""


@dataclass(frozen=True)
class Pairs:
    """The endless sequence of examples of one split; `pairs[i]` is sample i."""

    sentences: Sentences
    vocabulary: MaskVocabulary
    cls_id: int
    sep_id: int
    block_size: int
    seed: int
    mlm: Mlm

    @cached_property
    def samples_per_epoch(self) -> int:
        """Number of examples that add up to about one pass over the split; short documents give short examples."""
        total, room = len(self.sentences.split.stream), self._room
        if self.mlm.sentence_objective == "none":  # on average, half a sentence does not fit and leaves room unused
            filled = room - min(room, total / int(self.sentences.n_sentences.sum())) / 2
        else:
            filled = self.sentences.mean_window(room)
        return max(1, round(total / filled))

    @property
    def _room(self) -> int:
        """Number of tokens of an example without [CLS] and [SEP]."""
        return self.block_size - (2 if self.mlm.sentence_objective == "none" else 3)

    def __getitem__(self, sample: int) -> Example:
        epoch, position = divmod(sample, self.samples_per_epoch)
        return self.read(permute(position, self.samples_per_epoch, hash_integers(self.seed, epoch, 1)), epoch)

    def read(self, number: int, epoch: int = 0) -> Example:
        """Return example `number` of an epoch, in text order."""
        draws = draw_uniforms(hash_integers(self.seed, epoch, number, 2), 4 + 4 * self.block_size)
        total = len(self.sentences.split.stream)
        position = (hash_integers(self.seed, epoch) + number * total // self.samples_per_epoch) % total
        if self.mlm.sentence_objective == "none":
            return self._assemble((self._full_sentences(position),), NO_PAIR, draws[4:])
        first, second, relation = self._pair(position, draws[:4].tolist(), float(draws[-1]))
        if relation == NO_PAIR:
            start = first[0] + scale_offset(position - first[0], first[1] - first[0], self._room)
            return self._assemble(((start, min(first[1], start + self._room)),), NO_PAIR, draws[4:])
        spans = _truncate(first, second, self._room, draws[4 : 4 + self.block_size])
        return self._assemble(spans, relation, draws[4 + self.block_size :])

    def _full_sentences(self, position: int) -> Span:
        """Return as many sentences as fit, starting at about `position`; they may span documents, separated by eos."""
        sentences, room = self.sentences, self._room
        total, n_rows = int(sentences.row_starts[-1]), len(sentences.documents)
        begin = scale_offset(position, total, room)
        passage = sentences.passage_at(begin)
        start, end = (of(passage.sentence_at(begin)) for of in (passage.start_of, passage.end_of))
        if end - start > room:  # a sentence longer than an example: a part of it
            start += scale_offset(max(0, begin - start), end - start, room)
            return start, start + room
        if start < begin and begin >= total - room:  # the last window takes all sentences up to the end
            rest = sentences.passage_at(end)
            start, end = (of(rest.sentence_at(end)) for of in (rest.start_of, rest.end_of))
        while True:
            fitting = passage.last_within(start + room)
            end = max(end, passage.end_of(fitting)) if fitting >= 0 else end
            if passage.row + 1 == n_rows or sentences.row_starts[passage.row + 1] >= start + room:
                return start, end
            following = sentences.passage_from(passage.row + 1)
            if following.row <= passage.row:
                return start, end
            passage = following

    def _pair(self, position: int, draws: list[float], elsewhere: float) -> tuple[Span, Span, int]:
        """Return both segments before truncation, and their relation; NO_PAIR for sop in a row of one sentence."""
        short, length, cut, coin = draws
        target = 2 + int(length * (self._room - 1)) if short < self.mlm.short_share else self._room
        passage = self.sentences.passage_at(position)
        first = min(passage.window_from(position, self._room), max(0, len(passage) - 2))  # a pair needs two sentences
        start = passage.start_of(first)
        last = min(max(passage.last_within(start + target - 1) + 1, first + 1), len(passage) - 1)
        a = start, passage.end_of(first + int(cut * (last - first)))
        b = a[1], passage.end_of(last)
        if self.mlm.sentence_objective == "sop":
            if last == first:
                return a, a, NO_PAIR
            return (a, b, IS_NEXT) if coin < 0.5 else (b, a, IS_NOT_NEXT)
        if coin < 0.5 and last > first:
            return a, b, IS_NEXT
        return a, self._sample_not_next(passage, a, b, target, elsewhere), IS_NOT_NEXT

    def _sample_not_next(self, passage: Passage, a: Span, b: Span, target: int, draw: float) -> Span:
        """Sample sentences of another document, or of a distant passage of the only document, to replace `b`.

        Only the content may distinguish them from `b`: they never begin a document, and they are about as long as `b`
        if the end of its document made `b` short.
        """
        sentences, total = self.sentences, len(self.sentences.split.stream)
        if sentences.n_documents > 1:
            begin, end = sentences.range_of(passage.document)
            position = int(draw * (total - (end - begin)))
            position += (end - begin) if position >= begin else 0
            other = sentences.passage_at(position)
            if other.document == passage.document:  # rows without sentences were skipped, up to this document
                other = sentences.passage_at(end % total)
        else:
            position = (a[0] + total // 4 + int(draw * (total // 2))) % total
            other = sentences.passage_at(position)
        ends_early = b[0] < b[1] < a[0] + target
        wanted = b[1] - b[0] if ends_early else max(1, target - (a[1] - a[0]))
        first = min(max(1, other.sentence_at(min(position, other.end - wanted))), len(other) - 1)
        start = other.start_of(first)
        if ends_early:
            return start, other.end_of(max(first, other.nearest_end(start + wanted)))
        return start, other.end_of(min(other.last_within(start + wanted - 1) + 1, len(other) - 1))

    def _assemble(self, spans: tuple[Span, ...], relation: int, draws: NDArray[np.float64]) -> Example:
        """Build [CLS] first [SEP], followed by second [SEP] if there is a second segment, with masks."""
        split = self.sentences.split
        n_tokens = 1 + sum(end - start + 1 for start, end in spans)
        ids = np.full(n_tokens, self.sep_id, np.int64)
        ids[0] = self.cls_id
        continues = np.zeros(n_tokens, bool)
        at = 1
        for start, end in spans:
            ids[at : at + end - start] = split.stream.read(start, end - start)
            if self.mlm.whole_words:
                continues[at : at + end - start] = split.continues_word.read(start, end - start)
            at += end - start + 1
        masked = choose_masked(~self.vocabulary.is_special[ids], continues, self.mlm.mlm_probability, draws)
        seen = corrupt(ids, masked, self.vocabulary, draws[self.block_size :])
        return Example(seen, 2 + spans[0][1] - spans[0][0], masked, ids[masked], relation, spans)


def check_pairs(sentences: Sentences, block_size: int, sentence_objective: SentenceObjective) -> None:
    """Check that pairs can be sampled.

    Raises:
        DataError: no document has two segments, or the only document is too short for distant passages.
    """
    where = str(sentences.split.folder)
    if sentence_objective != "none" and not sentences.pair_fraction():
        hint = "set mlm.sentence_objective to none, or prepare longer documents with prepare.read.documents=file"
        raise DataError("no document has two sentences, so there are no pairs", where=where, hint=hint)
    n_tokens, needed = len(sentences.split.stream), 8 * block_size
    if sentence_objective == "nsp" and sentences.n_documents == 1 and n_tokens < needed:
        what = f"one document of {n_tokens:,} tokens is too short for two unrelated passages of {block_size} tokens"
        hint = (
            f"give several documents or {needed:,} tokens, lower train.block_size, or set mlm.sentence_objective=none"
        )
        raise DataError(what, where=where, hint=hint)


def make_pairs(split: Split, tokenizer: PreTrainedTokenizerBase, mlm: Mlm, block_size: int, seed: int) -> Pairs:
    """Return the examples of a split for a tokenizer with [CLS], [SEP] and [MASK].

    Raises:
        UsageError: block_size is too small for two segments.
        DataError: the split has no sentences, or no pairs; see `check_pairs`.
    """
    if block_size < MIN_BLOCK_SIZE:
        hint = f"set block_size to {MIN_BLOCK_SIZE} or more; 128 is usual"
        what = f"block_size {block_size} is too small for two segments with [CLS] and [SEP]"
        raise UsageError(what, where="block_size", hint=hint)
    sentences = Sentences(split)
    check_pairs(sentences, block_size, mlm.sentence_objective)
    cls_id, sep_id = int(tokenizer.cls_token_id), int(tokenizer.sep_token_id)
    return Pairs(sentences, MaskVocabulary.of(tokenizer), cls_id, sep_id, block_size, seed, mlm)


def _truncate(first: Span, second: Span, room: int, draws: NDArray[np.float64]) -> tuple[Span, Span]:
    """Truncate the longer segment token by token, at the start or the end, until both fit into `room`."""
    n_first, n_second = first[1] - first[0], second[1] - second[0]
    excess = n_first + n_second - room
    if excess <= 0:
        return first, second
    uneven = min(excess, abs(n_first - n_second))
    rest = excess - uneven  # once both have the same length, the second one is truncated first
    lost_first = (uneven if n_first > n_second else 0) + rest // 2
    half = len(draws) // 2
    return _shorten(first, lost_first, draws[:half]), _shorten(second, excess - lost_first, draws[half:])


def _shorten(span: Span, n_lost: int, draws: NDArray[np.float64]) -> Span:
    """Remove `n_lost` tokens, each from the front or the back with equal probability."""
    if not n_lost:
        return span
    coins = draws[:n_lost] < 0.5
    front = round(n_lost * float(coins.mean()))  # the same fraction if n_lost exceeds the number of draws
    return span[0] + front, span[1] - (n_lost - front)
