"""Encode tagged rows as inputs of a tagger; the format is saved in config.json.

Training, `eval` and `predict` all use this module, so they encode rows in the same way.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from llmkit.config.ner import Ner
from llmkit.core.batching import batch_by_size
from llmkit.datasets.labelled import LONG_CHARACTERS
from llmkit.datasets.tagged import NO_TOKEN, TaggedInputs, WordRow, encode_words
from llmkit.tables.tag_schemes import Scheme
from llmkit.tables.tagged import TagColumns, TaggedRow
from llmkit.tables.words import WordSplit
from llmkit.tokens.normalization import describe_normalization, normalize_texts
from llmkit.tokens.row_counts import RowCounts
from llmkit.tokens.unknown import count_unknown_rows, unknown_id

CONFIG_KEY = "llmkit"
"""The key of the format in config.json."""
_ROWS_AT_ONCE, _CHARACTERS_AT_ONCE = 4096, 4_000_000


@dataclass(frozen=True)
class TagFormat:
    """Columns and scheme of the train file, and how rows are encoded and decoded."""

    columns: TagColumns
    scheme: Scheme
    words: WordSplit
    block_size: int
    stride: int
    decoding: str

    def with_settings(self, section: Ner, block_size: int | None) -> "TagFormat":
        """Return a copy with the settings that `eval` and `predict` read, if they are set explicitly."""
        changes: dict[str, Any] = {} if block_size is None else {"block_size": block_size}
        if section.stride is not None:
            changes["stride"] = section.stride
        if "decoding" in section.model_fields_set:
            changes["decoding"] = section.decoding
        if section.words != "auto":
            changes["words"] = section.words
        return replace(self, **changes)


def choose_stride(stride: int | None, block_size: int) -> int:
    """Return `ner.stride`, or its default for this block size."""
    return min(64, block_size // 4) if stride is None else stride


def save_format(config: PreTrainedConfig, row_format: TagFormat) -> None:
    """Save the format in the model's configuration."""
    setattr(config, CONFIG_KEY, asdict(row_format) | {"columns": row_format.columns._asdict()})


def read_format(config: PreTrainedConfig, block_size: int) -> TagFormat:
    """Return the format of a model; a default for models of other tools."""
    default = TagFormat(TagColumns(), "BIO", "punctuation", block_size, choose_stride(None, block_size), "greedy")
    saved: Any = getattr(config, CONFIG_KEY, None)
    if not isinstance(saved, dict):
        return default
    kept = {name: saved[name] for name in TagFormat.__dataclass_fields__ if name in saved}
    columns = kept.pop("columns", None)
    named = columns if isinstance(columns, dict) else {}
    return replace(default, columns=TagColumns(**{n: named.get(n) for n in TagColumns._fields}), **kept)


def read_chunks(rows: Iterable[TaggedRow]) -> Iterator[list[TaggedRow]]:
    """Yield chunks of rows to encode and score together; bounds memory."""
    return batch_by_size(rows, lambda row: len(row.text), _CHARACTERS_AT_ONCE, _ROWS_AT_ONCE)


@dataclass
class WordCounts(RowCounts):
    """Counts of a file's rows and words while they are encoded."""

    n_words: int = 0
    n_joined: int = 0
    """Words without a token of their own; `decode` derives their tags from the words around them."""

    def describe(self, path: str, unit: str) -> list[str]:
        """Return notes on the words and the characters that the tokenizer does not know."""
        notes = super().describe(path, unit)
        if self.n_joined:
            of = f"{self.n_joined:,} of {self.n_words:,} words of {path}"
            notes.append(f"{of} have no token of their own: each continues the entity around it, or is O")
        return notes


def encode_chunk(
    chunk: Sequence[TaggedRow], row_format: TagFormat, tokenizer: PreTrainedTokenizerBase, counts: WordCounts
) -> TaggedInputs:
    """Encode some rows, with words normalized like the training text of the tokenizer's model; adds to `counts`."""
    given = [row.words for row in chunk]
    normalized = iter(normalize_texts(tokenizer, [word for words in given for word in words]))
    rows = []
    for row, words in zip(chunk, given, strict=True):
        read = [next(normalized) for _ in words]
        spaces = [
            start > end for (start, _), end in zip(row.places, [np.inf, *(e for _, e in row.places)], strict=False)
        ]
        rows.append(WordRow(read, spaces))
        if read != words:
            counts.n_normalized += 1
            counts.normalization = describe_normalization(tokenizer)
    tagged = encode_words(tokenizer, rows, block_size=row_format.block_size, stride=row_format.stride)
    counts.n_without_tokens += tagged.inputs.n_without_tokens
    counts.n_words += len(tagged.places)
    counts.n_joined += int((tagged.places == NO_TOKEN).sum())
    has_unknown = np.zeros(len(chunk), bool)
    has_unknown[tagged.inputs.rows_with(unknown_id(tokenizer))] = True
    texts = [row.text[:LONG_CHARACTERS] for row in chunk]
    count_unknown_rows(tokenizer, texts, has_unknown, [row.line for row in chunk], counts.unknown)
    return tagged
