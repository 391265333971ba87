"""Encode rows of a file as inputs of a classifier; the format is saved in config.json.

Training, `eval` and `predict` all use this module, so they encode rows in the same way.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from llmkit.config.cls import Cls
from llmkit.config.prepare import Read
from llmkit.core.batching import batch_by_size
from llmkit.core.console import clean_line
from llmkit.core.errors import DataError
from llmkit.datasets.labelled import LONG_CHARACTERS, Inputs, Windows, encode_inputs
from llmkit.models.saved_head import labels_of, problem_type_of
from llmkit.tables.joined_columns import join_texts, list_labels
from llmkit.tables.label_columns import Columns, choose_columns, describe_guess
from llmkit.tables.labelled import LabelledRow, UnseenLabels, map_labels, read_labelled, to_ids
from llmkit.tables.rows import describe_left_out, open_rows, without_surrogates
from llmkit.tasks.cls.label_type import LabelType
from llmkit.tasks.cls.label_types import LABEL_TYPES, get_label_type
from llmkit.text.records.rows import RowStream
from llmkit.tokens.normalization import describe_normalization, normalize_texts
from llmkit.tokens.row_counts import RowCounts
from llmkit.tokens.unknown import count_unknown_rows, unknown_id

ROWS_AT_ONCE = 4096
CHARACTERS_AT_ONCE = 4_000_000

CONFIG_KEY = "llmkit"
"""The key of the format in config.json."""


@dataclass(frozen=True)
class RowFormat:
    """Columns, label type, and how texts longer than a block are encoded."""

    text: str
    pair: str | None
    label: str | None
    label_type: LabelType
    separator: str | None
    block_size: int
    long_texts: Literal["truncate", "windows"]
    stride: int
    max_windows: int

    @property
    def columns(self) -> Columns:
        return Columns(self.text, self.pair, self.label)

    def with_columns(self, columns: Columns) -> "RowFormat":
        """Return a copy with other column names."""
        return replace(self, text=columns.text, pair=columns.pair, label=columns.label)

    def find_columns(
        self, rows: RowStream, *, need_label: bool, text: str | None = None, pair: str | None = None,
        label: str | None = None,
    ) -> Columns:  # fmt: skip
        """Return the columns of a file: named by the user, else named as in the train file, else detected.

        Raises:
            DataError: the file has no such columns, or only one of this file and the train file has pairs.
        """
        join_texts(rows, text or self.text, required=text is not None)
        list_labels(rows, label or self.label, required=label is not None)
        here, is_ours = set(rows.columns), bool(self.text)
        columns = choose_columns(
            rows.columns, [row.cells for row in rows.sample],
            text=text or (self.text if self.text in here else None),
            pair=pair or (self.pair if self.pair in here else None) or (None if self.pair or not is_ours else ""),
            label=label or (self.label if self.label in here else None),
            need_label=need_label, where=rows.path,
        )  # fmt: skip
        if is_ours and (columns.pair is None) != (self.pair is None):
            hint = "name the column of the second text with --pair" if self.pair else "leave --pair out"
            what = f"the model was trained on {'pairs of texts' if self.pair else 'single texts'}"
            raise DataError(what, where=f"{rows.path}, columns {', '.join(rows.columns)}", hint=hint)
        for note in describe_guess(columns, rows.columns, (text, label, self.text, self.label)):
            rows.note(note, "")
        return columns

    def describe(self, rows: RowStream) -> str:
        """Return the columns and the label type in one line."""
        parts = [f"text {self.text!r}"] + ([f"pair {self.pair!r}"] if self.pair else []) + [f"label {self.label!r}"]
        header = " (no header line: columns are numbered)" if rows.has_header is False else ""
        return clean_line(f"{rows.path}: {', '.join(parts)}, {self.label_type.describes_rows}{header}")

    def describe_cut(self, n_cut: int, n_rows: int, path: str, *, suggest_windows: bool = False) -> list[str]:
        """Return a note on truncated texts, if there are any; `suggest_windows` adds cls.long_texts=windows."""
        if not n_cut:
            return []
        what = f"{n_cut:,} of {n_rows:,} rows of {path} are too long"
        if self.long_texts == "windows":
            return [f"{what} for {self.max_windows} windows of {self.block_size} tokens and are truncated"]
        hint = "; -s cls.long_texts=windows reads whole texts" if suggest_windows else ""
        return [f"{what} for {self.block_size} tokens and are truncated{hint}"]

    @property
    def windows(self) -> Windows | None:
        return Windows(self.stride, self.max_windows) if self.long_texts == "windows" else None


def save_format(config: PreTrainedConfig, row_format: RowFormat, **more: Any) -> None:
    """Save the format in the model's configuration, together with `more`."""
    setattr(config, CONFIG_KEY, asdict(row_format) | {"label_type": row_format.label_type.name} | more)


def read_format(config: PreTrainedConfig, block_size: int) -> tuple[RowFormat, dict[str, Any]]:
    """Return (format, other saved values) of a model; a default format for models of other tools."""
    saved = dict(getattr(config, CONFIG_KEY, None) or {})
    names = RowFormat.__dataclass_fields__
    problem_type = problem_type_of(config)
    label_type = next(each for each in LABEL_TYPES.values() if each.problem_type == problem_type)
    if "label_type" in saved:
        label2id = {label: number for number, label in enumerate(labels_of(config))}
        positive = saved.pop("positive_label", None)
        saved["label_type"] = get_label_type(saved["label_type"]).with_positive(positive, label2id)
    default = RowFormat("", None, None, label_type, None, block_size, "truncate", 0, 1)
    fields = {name: saved.pop(name) for name in names if name in saved}
    return replace(default, **fields), saved


def read_chunks(rows: Iterable[LabelledRow]) -> Iterator[list[LabelledRow]]:
    """Yield chunks of rows to encode and score together; bounds memory."""
    return batch_by_size(rows, lambda row: len(row.text) + len(row.pair or ""), CHARACTERS_AT_ONCE, ROWS_AT_ONCE)


def encode_chunk(
    chunk: Sequence[LabelledRow], row_format: RowFormat, tokenizer: PreTrainedTokenizerBase, counts: RowCounts,
    cutter: str | None = None,
) -> Inputs:  # fmt: skip
    """Encode some rows, normalized like the training text of the tokenizer's model; adds to `counts`.

    `cutter` is the segmenter that numbers the words for data augmentation; None if the recipe has no augmentation.
    """
    given = [(without_surrogates(row.text), without_surrogates(row.pair or "")) for row in chunk]
    texts = normalize_texts(tokenizer, [text for text, _ in given])
    pairs = normalize_texts(tokenizer, [pair for _, pair in given])
    inputs = encode_inputs(
        tokenizer, texts, pairs if row_format.pair else None,
        block_size=row_format.block_size, windows=row_format.windows, segmenter=cutter,
    )  # fmt: skip
    counts.n_without_tokens += inputs.n_without_tokens
    read = list(zip(texts, pairs, strict=True))
    if n_normalized := sum(before != after for before, after in zip(given, read, strict=True)):
        counts.n_normalized += n_normalized
        counts.normalization = describe_normalization(tokenizer)
    joined = [f"{text[:LONG_CHARACTERS]} {pair[:LONG_CHARACTERS]}" for text, pair in read]
    has_unknown = np.zeros(len(chunk), bool)
    has_unknown[inputs.rows_with(unknown_id(tokenizer))] = True
    count_unknown_rows(tokenizer, joined, has_unknown, [row.line for row in chunk], counts.unknown)
    return inputs


@dataclass
class LabelledFile:
    """A labelled file; iterate once over its rows with known labels."""

    rows: RowStream
    format: RowFormat
    """The format with the columns of this file."""
    label2id: Mapping[str, int]
    section: Cls
    unseen: UnseenLabels = field(default_factory=UnseenLabels)

    def __iter__(self) -> Iterator[LabelledRow]:
        label_type = self.format.label_type
        parse = map_labels(label_type.parser(self.section.separator or self.format.separator), self.section.label_map)
        labelled = read_labelled(self.rows, self.format.columns, parse)
        if not label_type.has_names:
            return labelled
        known = to_ids(
            labelled, self.label2id, self.rows.path,
            unseen=self.section.unseen_labels, unit=self.rows.unit, unseen_labels=self.unseen,
        )  # fmt: skip
        return (row for row, _ in known)

    def describe_left_out(self) -> list[str]:
        """Return notes on rows that were left out; call it after all rows are read."""
        skipped = sum(self.rows.source.skipped.values())
        notes = describe_left_out(skipped, self.rows.path, "that cannot be read")
        return notes + describe_left_out(
            self.unseen.rows.n, self.rows.path, "with labels that the train rows do not have"
        )


@contextmanager
def open_labelled(
    path: str, section: Cls, read: Read, row_format: RowFormat, label2id: Mapping[str, int]
) -> Iterator[LabelledFile]:
    """Open a file in the format of a model; its columns are the section's, else the train file's, else detected.

    Raises:
        DataError: the file cannot be read (tables/rows.py); during iteration, a label is invalid (tables/labelled.py).
    """
    names = (section.text, section.pair, section.label, row_format.text, row_format.label)
    with open_rows(path, read, header=section.header, wanted=[name for name in names if name]) as rows:
        columns = row_format.find_columns(
            rows, need_label=True, text=section.text, pair=section.pair, label=section.label
        )
        yield LabelledFile(rows, row_format.with_columns(columns), label2id, section)
