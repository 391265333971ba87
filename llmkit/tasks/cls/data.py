"""Read labelled files into encoded train, validation and test splits with one label map.

Columns, label type and label map come from the train file, apply to the other files, and are saved with the model.
Texts are encoded while they are read. The beginnings of held-out texts are kept, to show errors.
"""

import hashlib
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from llmkit.config.cls import Cls
from llmkit.config.prepare import Read
from llmkit.core import console
from llmkit.core.console import clean_line, list_some
from llmkit.core.errors import DataError
from llmkit.datasets.labelled import Inputs, join_inputs, take_rows
from llmkit.tables.label_columns import describe_guess, describe_split_column, find_unused_texts
from llmkit.tables.label_sets import describe_contradictions, describe_labels
from llmkit.tables.label_splits import TEST, TRAIN, VALIDATION, assign_folds, hash_row, rarest_label_strata, split_rows
from llmkit.tables.labelled import Label, LabelledRow, map_labels, read_labelled
from llmkit.tables.rows import describe_left_out, open_rows
from llmkit.tables.train_sample import TrainSample
from llmkit.tasks.cls.baseline import MAX_KEPT_CHARACTERS, cut_text, fit_and_predict
from llmkit.tasks.cls.label_type import LabelType
from llmkit.tasks.cls.label_types import choose_label_type
from llmkit.tasks.cls.labelled_split import LabelledSplit
from llmkit.tasks.cls.request import find_train_columns, named_columns
from llmkit.tasks.cls.row_format import (
    RowFormat,
    encode_chunk,
    open_labelled,
    read_chunks,
)
from llmkit.text.language.words import choose_segmenter
from llmkit.text.records.fields import list_columns
from llmkit.text.records.rows import RowStream
from llmkit.tokens.row_counts import RowCounts

SPLITS = ("train", "validation", "test")
LABELS_SHOWN = 10
_NUMBER = re.compile(r"-?\d+([.,]\d+)?")


@dataclass(frozen=True)
class LabelledData:
    """All splits, the format and label map of the train file, and notes on the files."""

    splits: dict[str, LabelledSplit]
    format: RowFormat
    label2id: dict[str, int]
    """Label names to ids; for regression one entry, the name of the column."""
    files: dict[str, str]
    notes: list[str] = field(default_factory=list)

    @property
    def label_type(self) -> LabelType:
        return self.format.label_type

    def fingerprint(self) -> str:
        """Return the SHA-256, in hex, of the ids and labels of all splits."""
        digest = hashlib.sha256(repr(list(self.label2id)).encode())
        for name, split in self.splits.items():
            digest.update(name.encode())
            for array in (split.inputs.ids, split.inputs.ends, split.inputs.row_ends, split.labels):
                digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def describe(self) -> dict[str, Any]:
        """Return entries for the run's manifest: rows, tokens and labels per split, the columns, the notes."""
        return {
            "splits": {
                name: {
                    "rows": len(split),
                    "tokens": len(split.inputs.ids),
                    "rows_hash": split.hash_rows(list(self.label2id)),
                    **self.label_type.summarize(split.labels, self.label2id),
                }
                for name, split in self.splits.items()
            },
            "columns": {"text": self.format.text, "pair": self.format.pair, "label": self.format.label},
            "label_type": self.label_type.name,
            "files": self.files,
            "notes": self.notes,
        }


def load_labelled(
    section: Cls,
    read: Read,
    files: Mapping[str, str],
    tokenizer: PreTrainedTokenizerBase,
    block_size: int,
    *,
    fold: tuple[int, int] | None = None,
    sample: TrainSample | None = None,
    known: Mapping[str, int] | None = None,
    quiet: bool = False,
) -> LabelledData:
    """Read `files` (`train`, and `validation` and `test` if given); splits without a file are held out of train.

    `fold` (index, number of folds) uses that fold of the train rows for validation. `sample` is applied after the label
    map is built, so held-out rows and labels do not depend on it. `known` is the label map of the
    model; it is kept if the train rows have the same labels.

    Raises:
        DataError: a file cannot be read (tables/rows.py, tables/labelled.py), or has no rows to train on.
    """
    with open_rows(files["train"], read, header=section.header, wanted=named_columns(section)) as rows:
        row_format = decide_format(section, rows, block_size)
        unit = rows.unit
        notes = [row_format.describe(rows), *describe_split_column(rows, row_format.columns)]
        if unused := find_unused_texts(rows, row_format.columns):
            joined = shlex.quote(",".join([row_format.text, *unused]))
            notes.append(f"unused columns with text: {list_columns(unused)}; to join them: --text {joined}")
        parse = map_labels(row_format.label_type.parser(row_format.separator), section.label_map)
        labelled = read_labelled(rows, row_format.columns, parse)
        whole = _collect(labelled, row_format, section, tokenizer, keep_empty=False)
        notes += describe_left_out(whole.n_empty, rows.path, "without a text")
        notes += describe_left_out(sum(rows.source.skipped.values()), rows.path, "that cannot be read")
    notes += row_format.describe_cut(whole.n_cut, len(whole.lines), files["train"], suggest_windows=True)
    notes += whole.counts.describe(files["train"], rows.unit)
    whole.require_rows(files["train"])
    sides = _choose_sides(whole, section, row_format.label_type, files, fold)
    train_labels = [label for label, side in zip(whole.labels, sides, strict=True) if side == TRAIN]
    if not train_labels:
        raise DataError("no row is left to train on", where=files["train"], hint="give rows with texts and labels")
    where = f"{files['train']}, rows to train on"
    label2id = row_format.label_type.build_label2id(train_labels, row_format.label or "", where)
    if sample is not None:
        names = [row_format.label_type.names_in(label) for label in whole.labels]
        notes += sample.leave_out(sides, np.array(whole.keys, np.uint64), names)
    if known is not None and set(known) == set(label2id):
        label2id = dict(known)
    label_type = row_format.label_type.with_positive(section.positive_label, label2id)
    row_format = replace(row_format, label_type=label_type)
    if unused_names := [old for old, new in section.label_map.items() if new not in label2id]:
        notes.append(f"cls.label_map: no row has the label {unused_names[0]!r}")
    trained_on = {key for key, side in zip(whole.keys, sides, strict=True) if side == TRAIN}
    splits = {}
    for number, name in enumerate(SPLITS):
        if name in files and name != "train":
            splits[name], more = _read_other(files[name], section, read, row_format, tokenizer, label2id, trained_on)
            notes += more
        elif (indices := np.flatnonzero(sides == number)).size:
            splits[name] = _to_split(whole, indices, label2id, row_format.label_type, files["train"])
    if "validation" not in splits and section.validation:
        notes.append("too few rows per label to hold any out, so there are no metrics on held-out rows")
    notes += _describe_splits(splits, label2id, row_format.label_type)
    if row_format.label_type.has_names:
        notes += describe_labels(
            Counter(name for label in whole.labels for name in row_format.label_type.names_in(label))
        )
        notes += describe_contradictions(whole.keys, whole.labels, whole.lines, unit)
    splits, more = _add_baseline(splits, label2id, row_format.label_type, section)
    notes += more
    if not quiet:
        for note in notes:
            console.info(note)
    return LabelledData(splits, row_format, label2id, dict(files), notes)


def _describe_splits(
    splits: Mapping[str, LabelledSplit], label2id: Mapping[str, int], label_type: LabelType
) -> list[str]:
    """Return notes on the rows per split and the labels of the train rows."""
    rows = ", ".join(f"{name} {len(split):,}" for name, split in splits.items())
    train = splits["train"].labels
    if not label_type.has_names:
        return [f"rows: {rows}; numbers from {train.min():g} to {train.max():g}"]
    counts = label_type.count(train, len(label2id))
    shown = list_some([f"{name} {count:,}" for name, count in zip(label2id, counts, strict=True)], LABELS_SHOWN)
    notes = [clean_line(f"rows: {rows}; labels to train on: {shown}")]
    numbers = [float(label.replace(",", ".")) for label in label2id if _NUMBER.fullmatch(label)]
    if len(numbers) == len(label2id) and not all(number.is_integer() for number in numbers):
        notes.append("the labels are decimal numbers: use -s cls.labels=regression to predict numbers")
    return notes


def _add_baseline(
    splits: dict[str, LabelledSplit], label2id: Mapping[str, int], label_type: LabelType, section: Cls
) -> tuple[dict[str, LabelledSplit], list[str]]:
    """Return the splits with the n-gram baseline's predictions for held-out rows, and notes.

    The returned train split has no texts.
    """
    train = splits["train"]
    others = {name: split for name, split in splits.items() if name != "train"}
    without = {"train": replace(train, texts=None), **others}
    if not section.baseline or not others:
        return without, []
    texts = {name: split.texts for name, split in splits.items() if split.texts is not None}
    if len(texts) < len(splits):
        return without, ["no n-gram baseline: the texts are too large to be kept in memory"]
    weights: Any = section.class_weights
    if not isinstance(weights, str):
        weights = {label2id[name]: weight for name, weight in weights.items() if name in label2id}
    labels = {name: split.labels for name, split in splits.items()}
    outputs, note = fit_and_predict(texts, labels, label_type, len(label2id), weights)
    return without | {name: replace(others[name], baseline=found) for name, found in outputs.items()}, [note]


def decide_format(section: Cls, rows: RowStream, block_size: int) -> RowFormat:
    """Choose columns and label type from the section and the first rows."""
    columns = find_train_columns(section, rows)
    for note in describe_guess(columns, rows.columns, (columns.text, section.label)):
        rows.note(note, "")
    label_type = choose_label_type(section, rows.sample, columns)
    return RowFormat(
        columns.text, columns.pair, columns.label, label_type, section.separator,
        block_size, section.long_texts, section.stride, section.max_windows,
    )  # fmt: skip


@dataclass
class _Collected:
    """Rows of a file: encoded texts, hashes of the texts, labels, line numbers."""

    parts: list[Inputs] = field(default_factory=list)
    keys: list[int] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    texts: list[tuple[str, str]] | None = field(default_factory=list)
    n_characters: int = 0
    n_empty: int = 0
    counts: RowCounts = field(default_factory=RowCounts)

    def require_rows(self, path: str) -> None:
        """Raise DataError if there are no rows."""
        if not self.lines:
            why = f": {self.n_empty:,} rows have no text" if self.n_empty else ""
            raise DataError(f"no row can be used{why}", where=path, hint="choose other columns with --text and --label")

    def keep_text(self, row: LabelledRow) -> None:
        """Keep the beginning of the row's texts, unless the texts of all rows would take too much memory."""
        if self.texts is None:
            return
        self.texts.append(cut_text(row.text, row.pair))
        self.n_characters += sum(map(len, self.texts[-1]))
        if self.n_characters > MAX_KEPT_CHARACTERS:
            self.texts = None

    @cached_property
    def inputs(self) -> Inputs:
        return join_inputs(self.parts)

    @property
    def n_cut(self) -> int:
        return sum(part.n_cut for part in self.parts)


def _collect(
    labelled: Iterable[LabelledRow], row_format: RowFormat, section: Cls, tokenizer: PreTrainedTokenizerBase, *,
    keep_empty: bool,
) -> _Collected:  # fmt: skip
    """Collect rows; rows without a text are left out unless `keep_empty`."""
    augments = section.augment.delete or section.augment.swap or section.augment.mask
    cutter = choose_segmenter("auto") if augments else None
    collected = _Collected()
    for chunk in read_chunks(labelled):
        kept = chunk if keep_empty else [row for row in chunk if row.text.strip() or (row.pair or "").strip()]
        collected.n_empty += len(chunk) - len(kept)
        if kept:
            collected.parts.append(encode_chunk(kept, row_format, tokenizer, collected.counts, cutter))
        for row in kept:
            assert row.label is not None
            collected.keys.append(hash_row(row.text, row.pair))
            collected.labels.append(row.label)
            collected.lines.append(row.line)
            collected.keep_text(row)
    return collected


def _choose_sides(
    rows: _Collected, section: Cls, label_type: LabelType, files: Mapping[str, str], fold: tuple[int, int] | None
) -> NDArray[np.int8]:
    keys = np.array(rows.keys, np.uint64)
    sets = [label_type.names_in(label) for label in rows.labels]
    strata = rarest_label_strata(sets, Counter(name for names in sets for name in names))
    test = 0.0 if "test" in files else section.test
    validation = 0.0 if "validation" in files or fold is not None else section.validation
    sides = split_rows(keys, strata, validation=validation, test=test, seed=section.split_seed)
    if fold is not None:
        rest = np.flatnonzero(sides != TEST)
        folds = assign_folds(keys[rest], strata[rest], fold[1], section.split_seed)
        sides[rest[folds == fold[0]]] = VALIDATION
    return sides


def _to_split(
    rows: _Collected, indices: NDArray[np.int64], label2id: Mapping[str, int], label_type: LabelType, path: str
) -> LabelledSplit:
    """Return the rows at `indices`, except rows with a label that is not in the train rows; logs their number."""
    labels = [rows.labels[index] for index in indices]
    known = [all(name in label2id for name in label_type.names_in(label)) for label in labels]
    for note in describe_left_out(len(known) - sum(known), path, "held out, with a label that no train row has"):
        console.info(note)
    labels = [label for label, is_known in zip(labels, known, strict=True) if is_known]
    indices = indices[np.array(known)]
    lines, keys = np.array(rows.lines, np.int64)[indices], np.array(rows.keys, np.uint64)[indices]
    texts = None if rows.texts is None else [rows.texts[index] for index in indices]
    inputs, encoded = take_rows(rows.inputs, indices), label_type.encode(labels, label2id)
    return LabelledSplit(inputs, encoded, lines, keys, path, texts)


def _read_other(
    path: str, section: Cls, read: Read, row_format: RowFormat, tokenizer: PreTrainedTokenizerBase,
    label2id: Mapping[str, int], trained_on: set[int],
) -> tuple[LabelledSplit, list[str]]:  # fmt: skip
    """Read a validation or test file in the format of the train file; rows without a text are kept."""
    with open_labelled(path, section, read, row_format, label2id) as file:
        rows = _collect(file, file.format, section, tokenizer, keep_empty=True)
        notes = [*file.describe_left_out(), *file.format.describe_cut(rows.n_cut, len(rows.lines), path)]
        notes += rows.counts.describe(path, file.rows.unit)
    rows.require_rows(path)
    if n_known := sum(key in trained_on for key in rows.keys):
        notes.append(f"{n_known:,} of {len(rows.lines):,} rows of {path} have a text that is also in the train rows")
    return _to_split(rows, np.arange(len(rows.lines)), label2id, row_format.label_type, path), notes
