"""Encode documents as rows of the store: ids, and optionally the ends of sentences and word continuations.

Sentences and words are found in the text and mapped to tokens by character offsets, so the ids are the same with and
without them.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llmkit.core import console
from llmkit.core.batching import batch_by_size
from llmkit.text.documents import Document, hash_text
from llmkit.text.language.sentences import find_sentence_ends
from llmkit.text.language.words import chinese_continuation_mask, chinese_mask, count_words, valid_word_count
from llmkit.text.scan import scan_text
from llmkit.tokens.fast_encoding import Encoder, plain_encoder
from llmkit.tokens.store import Ids, Row
from llmkit.tokens.tokenizer import end_of_text_id, id_dtype
from llmkit.tokens.unknown import MAX_EXAMPLE_CHARACTERS, N_EXAMPLES, describe_unknown, unknown_texts

if TYPE_CHECKING:  # workers do not load transformers
    from transformers import PreTrainedTokenizerBase

    from llmkit.tokens.tokenizer import AnyTokenizer

CHARS_PER_BATCH = 500_000
MAX_UNKNOWN_TEXTS = 1_000
"""Maximum number of distinct unknown texts that are kept per shard; the most frequent ones are kept."""


@dataclass(slots=True)
class TextCounts:
    """Counts of a text or of one of its shards (preparing/shards.py)."""

    totals: Counter[str]
    """Documents, characters, bytes, tokens, unknown_tokens, unknown_characters, and, with a segmenter, sentences."""
    words: Counter[str] = field(default_factory=Counter)
    """Counts that `add_words` needs to compute the number of words."""
    unknown: Counter[str] = field(default_factory=Counter)
    """Texts that became unknown tokens, with their counts."""

    def update(self, other: "TextCounts") -> None:
        """Add the counts of a shard."""
        self.totals.update(other.totals)
        self.words.update(other.words)
        self.unknown.update(other.unknown)

    def add_unknown(self, texts: list[str]) -> None:
        """Count unknown tokens by the text that each replaces."""
        self.totals.update(unknown_tokens=len(texts), unknown_characters=sum(map(len, texts)))
        self.unknown.update(text[:MAX_EXAMPLE_CHARACTERS] for text in texts)
        if len(self.unknown) > 10 * MAX_UNKNOWN_TEXTS:
            self.trim()

    def trim(self) -> None:
        """Keep the most frequent unknown texts."""
        self.unknown = Counter(dict(_most_frequent(self.unknown, MAX_UNKNOWN_TEXTS)))

    def unknown_examples(self) -> list[str]:
        """Return the most frequent unknown texts, at most three."""
        return [text for text, _ in _most_frequent(self.unknown, N_EXAMPLES)]


def _most_frequent(counts: Counter[str], number: int) -> list[tuple[str, int]]:
    """Like Counter.most_common, but sorts ties by text, so the result does not depend on the order of shards."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:number]


def describe_unknown_tokens(totals: Mapping[str, Any], examples: Sequence[str]) -> str:
    """Format a note: `12 tokens (3.4%), 20 of 900 characters (2%) are unknown to the tokenizer, such as é, 火`.

    `totals` are those of TextCounts; older prepared folders have no unknown_characters.
    """
    n_unknown = totals["unknown_tokens"]
    share = f"{console.count(n_unknown, 'token')} ({n_unknown / max(1, totals['tokens']):.1%})"
    if "unknown_characters" not in totals:
        return f"{share} {'is' if n_unknown == 1 else 'are'} unknown to the tokenizer"
    return f"{share}, {describe_unknown(totals['unknown_characters'], totals['characters'], examples)}"


def can_mask(tokenizer: "PreTrainedTokenizerBase") -> bool:
    """Whether a masked language model can be trained with this tokenizer."""
    return None not in (tokenizer.mask_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id)


def encode_rows(
    documents: Iterable[Document],
    tokenizer: "AnyTokenizer",
    counts: TextCounts,
    segmenter: str | None = None,
) -> Iterator[Row]:
    """Yield one row per document or document part; the last part of a document ends with the end-of-text token.

    With a `segmenter` (text/language/words.py), rows also have sentences and words. `counts.totals` counts documents,
    characters, bytes, tokens and unknown_tokens, and with a segmenter sentences. The word count is added after the
    last row, unless the script of the text has no spaces between words.
    """
    yield from encode_counted(documents, tokenizer, counts, segmenter, plain_encoder(tokenizer))
    add_words(counts.totals, counts.words)


def add_words(totals: Counter[str], counted: Counter[str]) -> None:
    """Add the word count of a text to the totals, unless its script has no spaces between words."""
    if (n_words := valid_word_count(counted)) is not None:
        totals["words"] += n_words


def encode_counted(
    documents: Iterable[Document],
    tokenizer: "AnyTokenizer",
    counts: TextCounts,
    segmenter: str | None,
    encoder: Encoder,
) -> Iterator[Row]:
    """Like `encode_rows`, for one shard; adds words to `counts.words` only."""
    unknown_id, totals = tokenizer.unk_token_id, counts.totals
    counts.add_unknown([])  # adds the keys of unknown tokens, with 0
    encode = partial(_encode, encoder, unknown_id)
    if segmenter is not None:
        encode = partial(_encode_with_sentences, encoder, segmenter)
    end = np.array([end_of_text_id(tokenizer)], id_dtype(tokenizer))
    for batch in batch_by_size(documents, lambda document: len(document.text), CHARS_PER_BATCH):
        for document, (ids, starts, ends, continues) in zip(batch, encode(batch), strict=True):
            if starts is not None:
                counts.add_unknown(unknown_texts(document.text, ids, starts, unknown_id))
            if document.last:
                ids = np.concatenate([ids, end])
                continues = None if continues is None else np.append(continues, False)
            n_bytes = len(scan_text(document.text).utf8)
            found = {"documents": int(document.last), "bytes": n_bytes, "tokens": len(ids)}
            words = count_words(document.text, ends_document=document.last)
            for counter, more in ((totals, found), (counts.words, words)):
                counter["characters"] += len(document.text)
                for name, n in more.items():  # takes a tenth of the time of Counter.update
                    counter[name] += n
            if ends is not None:
                totals["sentences"] += len(ends)
            place = (document.source, document.index, document.part)
            yield Row(ids, *place, len(document.text), n_bytes, hash_text(document.text), ends, continues)


Encoded = tuple[Ids, NDArray[np.int64] | None, NDArray[np.int64] | None, NDArray[np.bool_] | None]
"""Ids, starts of the tokens in characters, ends of sentences and continuation masks of one document."""


def _encode(encoder: Encoder, unknown_id: int | None, documents: list[Document]) -> Iterator[Encoded]:
    """Encode without sentences; computes token starts only for documents with unknown tokens."""
    flat, lengths = encoder.encode([document.text for document in documents])
    ids = [flat[stop - length : stop] for stop, length in zip(np.cumsum(lengths), lengths, strict=True)]
    has_unknown = [unknown_id is not None and bool((part == unknown_id).any()) for part in ids]
    texts = [document.text for document, has in zip(documents, has_unknown, strict=True) if has]
    aligned = iter(encoder.encode_with_offsets(texts)) if texts else iter(())
    for part, has in zip(ids, has_unknown, strict=True):
        yield part, next(aligned)[1] if has else None, None, None


def _encode_with_sentences(encoder: Encoder, segmenter: str, documents: list[Document]) -> Iterator[Encoded]:
    encoded = encoder.encode_with_offsets([document.text for document in documents])
    for document, (ids, starts, words) in zip(documents, encoded, strict=True):
        ends = np.searchsorted(starts, find_sentence_ends(document.text), side="left")
        ends = ends[np.diff(ends, prepend=0) > 0]  # a sentence of white space has no tokens
        yield ids, starts, ends, word_continuation_mask(document.text, starts, words, segmenter)


def word_continuation_mask(
    text: str, starts: NDArray[np.int64], words: NDArray[np.int64], segmenter: str
) -> NDArray[np.bool_]:
    """Return whether each token continues the previous word.

    The tokenizer defines words; in Chinese the segmenter does, because some tokenizers treat a complete Chinese clause
    as one word.
    """
    continues: NDArray[np.bool_] = np.diff(words, prepend=-1) == 0
    if not len(starts) or not (chinese := chinese_mask(text)).any():
        return continues
    is_chinese = chinese[starts]
    at_chinese = is_chinese | np.append(False, is_chinese[:-1])
    same_character = np.diff(starts, prepend=-1) == 0
    inside = chinese_continuation_mask(text)[starts] if segmenter != "characters" else np.zeros(len(starts), bool)
    mask: NDArray[np.bool_] = np.where(at_chinese, same_character | inside, continues)
    return mask
