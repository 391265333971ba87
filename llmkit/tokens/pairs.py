"""BERT's training examples, each computed from (seed, epoch, number) alone.

Three kinds, by `nsp`. True: two segments of whole sentences, the second the true next one or, half of the time, from
another document (Devlin et al. 2018, appendix A.2, and its create_pretraining_data.py). "order": the second always is
the next, and half of the time the two change places (ALBERT, Lan et al. 2019, section 3.1). False: one run of full
sentences, across documents (RoBERTa, Liu et al. 2019, section 4.2).

The original walks through a document and lets each example begin where the last one ended, which ten fixed copies on
disk then repeat. Here example k of an epoch begins with the sentence at about token `shift + k * room` of the split, so
any example can be had at once and none is stored. A token is so seen once an epoch on average, and each epoch draws
other cuts, pairs and masks.

Segments are the original's: sentences up to the target length, which is short in 10 % of the examples; cut after a
random sentence; too long a pair loses tokens of its longer segment, at the front or the back by chance. What is not
next begins anywhere in other documents, each token being as likely, where the original draws documents first and so
favours short ones. In a split of one document it comes from a passage a quarter of the document or more away.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from llmkit.tokens.masking import Ids, MaskVocabulary, choose_masked, corrupt
from llmkit.tokens.randomness import draw_uniforms, hash_integers, permute
from llmkit.tokens.sentences import Sentences

NSP = bool | Literal["order"]
IS_NEXT, IS_NOT_NEXT = 0, 1
"""BERT counts 0 as "is next", the reverse of what the name suggests. ALBERT: 0 is in order, 1 swapped."""
NO_PAIR = -1
"""The relation of an example that has one segment only."""

Span = tuple[int, int]
"""First place and end on the split's token stream."""


@dataclass(frozen=True, slots=True)
class Example:
    """What one sequence is made of; all arrays int64."""

    input_ids: Ids
    """With [CLS] and [SEP], corrupted at the masked places."""
    n_first: int
    """Tokens of the first segment, its [CLS] and [SEP] included; the rest have token type 1."""
    masked: NDArray[np.int64]
    """Places of the tokens to guess, rising."""
    targets: Ids
    """What stood there."""
    relation: int
    """IS_NEXT or IS_NOT_NEXT; in order or swapped; NO_PAIR."""
    spans: tuple[Span, ...]
    """Where the segments stand on the token stream."""


@dataclass(frozen=True)
class Pairs:
    """The endless sequence of examples of one split; `pairs[i]` is sample i."""

    sentences: Sentences
    vocabulary: MaskVocabulary
    cls_id: int
    sep_id: int
    block_size: int
    seed: int
    nsp: NSP = True
    mask_share: float = 0.15
    whole_words: bool = True
    short_share: float = 0.1

    @property
    def samples_per_epoch(self) -> int:
        """Examples that have room for as many tokens as the split has."""
        return -(-len(self.sentences.split.stream) // self._room)

    @property
    def _room(self) -> int:
        """Tokens beside [CLS] and the [SEP] behind each segment."""
        return self.block_size - (2 if self.nsp is False else 3)

    def __getitem__(self, sample: int) -> Example:
        epoch, place = divmod(sample, self.samples_per_epoch)
        return self.read(permute(place, self.samples_per_epoch, hash_integers(self.seed, epoch, 1)), epoch)

    def read(self, number: int, epoch: int = 0) -> Example:
        """Example `number` of an epoch, in the order of the text."""
        draws = draw_uniforms(hash_integers(self.seed, epoch, number, 2), 5 + 4 * self.block_size)
        shift = hash_integers(self.seed, epoch) % self._room
        begin = (shift + number * self._room) % len(self.sentences.split.stream)
        if self.nsp is False:
            return self._assemble((self._full_sentences(begin),), NO_PAIR, draws[5:])
        first, second, relation = self._pair(begin, draws[:5].tolist())
        if relation == NO_PAIR:
            return self._assemble(((first[0], min(first[1], first[0] + self._room)),), NO_PAIR, draws[5:])
        spans = _truncate(first, second, self._room, draws[5 : 5 + self.block_size])
        return self._assemble(spans, relation, draws[5 + self.block_size :])

    def _full_sentences(self, begin: int) -> Span:
        """Sentences from about `begin` on, as many as fit; the ends of documents among them stay in."""
        starts = self.sentences.row_starts
        begin = _spread(begin, int(starts[-1]), self._room)
        row = self.sentences.row_at(begin)
        number = self._sentence_at(row, begin, int(starts[-1]) - self._room)
        if self._start_of(row, number) < begin >= starts[-1] - self._room and row < len(starts) - 2:
            row, number = self.sentences.row_at(int(starts[row + 1])), 0
        start, end = self._start_of(row, number), self._start_of(row, number + 1)
        if end - start > self._room:  # longer than an example: a part of it
            start += _spread(max(0, begin - start), end - start, self._room)
            return start, start + self._room
        limit = start + self._room
        while row < len(starts) - 1 and starts[row] < limit:
            ends = self.sentences.ends_of(row)
            fitting = int(np.searchsorted(ends, limit - starts[row], side="right"))
            end = int(starts[row] + ends[fitting - 1]) if fitting else end
            row += 1
        return start, end

    def _pair(self, begin: int, draws: list[float]) -> tuple[Span, Span, int]:
        """Both segments before truncation, and their relation."""
        short, length, cut, coin, elsewhere = draws
        target = 2 + int(length * (self._room - 1)) if short < self.short_share else self._room
        row = self.sentences.row_at(begin)
        ends, origin = self.sentences.ends_of(row), int(self.sentences.row_starts[row])
        place = origin + _spread(begin - origin, int(ends[-1]), self._room)
        first = self._sentence_at(row, place, origin + int(ends[-1]) - self._room)
        first = min(first, max(0, len(ends) - 2))  # a pair takes two sentences
        start = self._start_of(row, first)
        last = int(np.searchsorted(ends, start - origin + target))
        last = min(max(last, first + 1), len(ends) - 1)
        middle = first + int(cut * (last - first))
        a = start, origin + int(ends[middle])
        b = a[1], origin + int(ends[last])
        if self.nsp == "order":
            if last == first:
                return a, a, NO_PAIR
            return (a, b, IS_NEXT) if coin < 0.5 else (b, a, IS_NOT_NEXT)
        if coin < 0.5 and last > first:
            return a, b, IS_NEXT
        return a, self._elsewhere(row, start, max(1, target - (a[1] - a[0])), elsewhere), IS_NOT_NEXT

    def _elsewhere(self, row: int, place: int, target: int, draw: float) -> Span:
        """Sentences of another document; of a distant passage where there is no other."""
        sentences, total = self.sentences, len(self.sentences.split.stream)
        document = sentences.documents[row]
        begin, end = sentences.range_of(int(document))
        if sentences.n_documents > 1:
            other = int(draw * (total - (end - begin)))
            other += (end - begin) if other >= begin else 0
        else:
            other = (place + total // 4 + int(draw * (total // 2))) % total
        row = sentences.row_at(other)
        if sentences.n_documents > 1 and sentences.documents[row] == document:
            row = sentences.row_at(end % total)  # rows without sentences were passed over, up to this document
        ends, origin = sentences.ends_of(row), int(sentences.row_starts[row])
        other = origin + _spread(other - origin, int(ends[-1]), target)
        start = self._start_of(row, self._sentence_at(row, other, origin + int(ends[-1]) - target))
        last = min(int(np.searchsorted(ends, start - origin + target)), len(ends) - 1)
        return start, origin + int(ends[last])

    def _sentence_at(self, row: int, place: int, last: int) -> int:
        """The row's sentence that holds the place; from the `last` window of a text on, the one that begins behind it,
        so that the window takes all that is left and nothing of the end is cut off."""
        ends = self.sentences.ends_of(row)
        inside = max(0, place - int(self.sentences.row_starts[row]))
        number = int(np.searchsorted(ends, inside, side="right"))
        if place >= last and inside and self._start_of(row, min(number, len(ends) - 1)) != place:
            number += 1
        return min(number, len(ends) - 1)

    def _start_of(self, row: int, sentence: int) -> int:
        before = int(self.sentences.ends_of(row)[sentence - 1]) if sentence else 0
        return int(self.sentences.row_starts[row]) + before

    def _assemble(self, spans: tuple[Span, ...], relation: int, draws: NDArray[np.float64]) -> Example:
        """[CLS] first [SEP], and second [SEP] if there is one; masked."""
        split = self.sentences.split
        n_tokens = 1 + sum(end - start + 1 for start, end in spans)
        ids = np.full(n_tokens, self.sep_id, np.int64)
        ids[0] = self.cls_id
        continues = np.zeros(n_tokens, bool)
        at = 1
        for start, end in spans:
            ids[at : at + end - start] = split.stream.read(start, end - start)
            if self.whole_words:
                continues[at : at + end - start] = split.continues_word.read(start, end - start)
            at += end - start + 1
        masked = choose_masked(~self.vocabulary.is_special[ids], continues, self.mask_share, draws)
        seen = corrupt(ids, masked, self.vocabulary, draws[self.block_size :])
        return Example(seen, 2 + spans[0][1] - spans[0][0], masked, ids[masked], relation, spans)


def make_pairs(
    sentences: Sentences, tokenizer: PreTrainedTokenizerBase, block_size: int, seed: int, *,
    nsp: NSP = True, mask_share: float = 0.15, whole_words: bool = True, short_share: float = 0.1,
) -> Pairs:  # fmt: skip
    """Pairs with the ids of a tokenizer that has [CLS], [SEP] and [MASK]."""
    ids = (int(tokenizer.cls_token_id), int(tokenizer.sep_token_id))
    vocabulary = MaskVocabulary.of(tokenizer)
    return Pairs(sentences, vocabulary, *ids, block_size, seed, nsp, mask_share, whole_words, short_share)


def _spread(offset: int, length: int, room: int) -> int:
    """Where in a text of `length` tokens a window of `room` begins for the token at `offset`.

    Even over all offsets, with both ends of the text held longer: else its first and last tokens, which few windows
    reach, would be seen less often than its middle, and windows at its end would be short.
    """
    held, last = min(room, length // 3), max(0, length - room)
    return min(last, max(0, (offset - held) * last // max(1, length - 2 * held)))


def _truncate(first: Span, second: Span, room: int, draws: NDArray[np.float64]) -> tuple[Span, Span]:
    """Both, together no longer than `room`: token by token the longer one loses its first or its last."""
    n_first, n_second = first[1] - first[0], second[1] - second[0]
    excess = n_first + n_second - room
    if excess <= 0:
        return first, second
    uneven = min(excess, abs(n_first - n_second))
    rest = excess - uneven  # once both are as long, the second loses first
    lost_first = (uneven if n_first > n_second else 0) + rest // 2
    half = len(draws) // 2
    return _shorten(first, lost_first, draws[:half]), _shorten(second, excess - lost_first, draws[half:])


def _shorten(span: Span, n_lost: int, draws: NDArray[np.float64]) -> Span:
    """Without `n_lost` tokens, each of them from the front or the back with equal chance."""
    if not n_lost:
        return span
    coins = draws[:n_lost] < 0.5
    front = round(n_lost * float(coins.mean()))  # more tokens than draws: the same share of them
    return span[0] + front, span[1] - (n_lost - front)
