"""Encode documents as rows of the store: ids, and optionally the ends of sentences and word continuations.

Sentences and words are found in the text and mapped to tokens by character offsets, so the ids are the same with and
without them.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from llmkit.text.documents import Document, hash_text
from llmkit.text.sentences import find_sentence_ends
from llmkit.text.words import chinese_continuation_mask, chinese_mask, count_words, valid_word_count
from llmkit.tokens.fast_encoding import Encoder, plain_encoder
from llmkit.tokens.store import Ids, Row
from llmkit.tokens.tokenizer import count_unknown, end_of_text_id, id_dtype

if TYPE_CHECKING:  # workers do without transformers
    from transformers import PreTrainedTokenizerBase

    from llmkit.tokens.tokenizer import AnyTokenizer

CHARS_PER_BATCH = 500_000


def can_mask(tokenizer: "PreTrainedTokenizerBase") -> bool:
    """Whether a masked language model can be trained with this tokenizer."""
    return None not in (tokenizer.mask_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id)


def encode_rows(
    documents: Iterable[Document],
    tokenizer: "AnyTokenizer",
    totals: Counter[str],
    word_cutter: str | None = None,
) -> Iterator[Row]:
    """One row per document or part of a document; the last part of a document ends with the end-of-text token.

    With a `word_cutter` of text/words.py, rows also have sentences and words. `totals` counts documents, characters,
    bytes, tokens, unknown_tokens and, with a word cutter, sentences; after the last row also words, unless the script
    of the text has no spaces between words.
    """
    counted: Counter[str] = Counter()
    yield from encode_counted(documents, tokenizer, totals, counted, word_cutter, plain_encoder(tokenizer))
    add_words(totals, counted)


def add_words(totals: Counter[str], counted: Counter[str]) -> None:
    """Add the number of words of a text to its totals, unless its script has no spaces between words."""
    if (n_words := valid_word_count(counted)) is not None:
        totals["words"] += n_words


def encode_counted(
    documents: Iterable[Document],
    tokenizer: "AnyTokenizer",
    totals: Counter[str],
    counted: Counter[str],
    word_cutter: str | None,
    encoder: Encoder,
) -> Iterator[Row]:
    """`encode_rows` for one shard of a text; adds to `counted` the counts that `add_words` needs."""
    encode = partial(_encode, encoder) if word_cutter is None else partial(_encode_with_sentences, encoder, word_cutter)
    end = np.array([end_of_text_id(tokenizer)], id_dtype(tokenizer))
    for batch in _batch(documents):
        for document, (ids, ends, continues) in zip(batch, encode(batch), strict=True):
            totals["unknown_tokens"] += count_unknown(ids, tokenizer)
            if document.last:
                ids = np.concatenate([ids, end])
                continues = None if continues is None else np.append(continues, False)
            n_bytes = len(document.text.encode())
            totals.update(documents=int(document.last), characters=len(document.text), bytes=n_bytes, tokens=len(ids))
            counted.update(count_words(document.text, ends_document=document.last), characters=len(document.text))
            if ends is not None:
                totals["sentences"] += len(ends)
            place = (document.source, document.index, document.part)
            yield Row(ids, *place, len(document.text), n_bytes, hash_text(document.text), ends, continues)


Encoded = tuple[Ids, NDArray[np.int64] | None, NDArray[np.bool_] | None]
"""Ids, ends of sentences and word continuations of one document."""


def _encode(encoder: Encoder, documents: list[Document]) -> Iterator[Encoded]:
    ids, lengths = encoder.encode([document.text for document in documents])
    for stop, length in zip(np.cumsum(lengths), lengths, strict=True):
        yield ids[stop - length : stop], None, None


def _encode_with_sentences(encoder: Encoder, word_cutter: str, documents: list[Document]) -> Iterator[Encoded]:
    encoded = encoder.encode_with_offsets([document.text for document in documents])
    for document, (ids, starts, words) in zip(documents, encoded, strict=True):
        ends = np.searchsorted(starts, find_sentence_ends(document.text), side="left")
        ends = ends[np.diff(ends, prepend=0) > 0]  # a sentence of white space has no tokens
        yield ids, ends, word_continuation_mask(document.text, starts, words, word_cutter)


def word_continuation_mask(
    text: str, starts: NDArray[np.int64], words: NDArray[np.int64], word_cutter: str
) -> NDArray[np.bool_]:
    """For each token, whether it continues the previous word: words of the tokenizer, in Chinese those of the cutter.

    Some tokenizers treat a whole Chinese clause as one word.
    """
    continues: NDArray[np.bool_] = np.diff(words, prepend=-1) == 0
    if not len(starts) or not (chinese := chinese_mask(text)).any():
        return continues
    is_chinese = chinese[starts]
    at_chinese = is_chinese | np.append(False, is_chinese[:-1])
    same_character = np.diff(starts, prepend=-1) == 0
    inside = chinese_continuation_mask(text)[starts] if word_cutter != "characters" else np.zeros(len(starts), bool)
    joints: NDArray[np.bool_] = np.where(at_chinese, same_character | inside, continues)
    return joints


def _batch(documents: Iterable[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document.text)
        if size >= CHARS_PER_BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
