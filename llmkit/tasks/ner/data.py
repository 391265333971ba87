"""Read tagged files into encoded train, validation and test splits with one list of tags.

Columns, scheme and types come from the train file, apply to the other files, and are saved with the model. Tags of
every scheme are converted to BIO tags: O, and B-TYPE and I-TYPE of each type.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from llmkit.config.ner import Ner
from llmkit.config.prepare import Read
from llmkit.core import console
from llmkit.core.console import clean_line, list_some
from llmkit.core.errors import DataError, did_you_mean
from llmkit.datasets.tagged import TaggedInputs, join_tagged
from llmkit.tables.label_splits import TEST, TRAIN, VALIDATION, assign_folds, hash_row, rarest_label_strata, split_rows
from llmkit.tables.rows import describe_left_out
from llmkit.tables.tag_schemes import (
    Entity,
    Scheme,
    count_violations,
    fold_prefixes,
    read_entities,
    recognize_scheme,
    to_bio,
)
from llmkit.tables.tagged import (
    SpanCounts,
    TagColumns,
    TaggedRow,
    choose_tag_columns,
    group_words,
    open_tagged,
    read_tagged,
)
from llmkit.tables.train_sample import TrainSample
from llmkit.tables.words import recognize_split
from llmkit.tasks.ner.baseline import WordBaseline
from llmkit.tasks.ner.decoding import tag_names
from llmkit.tasks.ner.row_format import TagFormat, WordCounts, choose_stride, encode_chunk, read_chunks
from llmkit.tasks.ner.tagged_split import TaggedSplit

SPLITS = ("train", "validation", "test")
_TYPES_SHOWN = 10


@dataclass(frozen=True)
class TaggedData:
    """All splits, the format of the train file, the tags by id, and notes on the files."""

    splits: dict[str, TaggedSplit]
    format: TagFormat
    tags: list[str]
    files: dict[str, str]
    notes: list[str] = field(default_factory=list)

    def fingerprint(self) -> str:
        """Return the SHA-256, in hex, of the ids and labels of all splits."""
        digest = hashlib.sha256(repr(self.tags).encode())
        for name, split in self.splits.items():
            digest.update(name.encode())
            for array in (split.tagged.inputs.ids, split.tagged.inputs.ends, split.tagged.word_ends, split.labels):
                digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def describe(self) -> dict[str, Any]:
        """Return entries for the run's manifest: rows, words, tokens and entities per split, columns, notes."""
        return {
            "splits": {name: self._describe_split(split) for name, split in self.splits.items()},
            "columns": self.format.columns._asdict(),
            "scheme": self.format.scheme,
            "files": self.files,
            "notes": self.notes,
        }

    def _describe_split(self, split: TaggedSplit) -> dict[str, Any]:
        begins = Counter(self.tags[label][2:] for label in split.labels if self.tags[label].startswith("B-"))
        return {
            "rows": len(split),
            "words": len(split.labels),
            "tokens": len(split.tagged.inputs.ids),
            "rows_hash": split.hash_rows(self.tags),
            "labels": {tag[2:]: begins[tag[2:]] for tag in self.tags if tag.startswith("B-")},
        }


@dataclass
class TaggedFile:
    """The rows of a file with their entities, and notes on what was repaired or left out."""

    path: str
    rows: list[TaggedRow]
    entities: list[list[Entity]]
    columns: TagColumns
    scheme: Scheme
    notes: list[str]
    unit: str = "line"


def load_tagged(
    section: Ner,
    read: Read,
    files: Mapping[str, str],
    tokenizer: PreTrainedTokenizerBase,
    block_size: int,
    *,
    fold: tuple[int, int] | None = None,
    sample: TrainSample | None = None,
    quiet: bool = False,
) -> TaggedData:
    """Read `files` (`train`, and `validation` and `test` if given); splits without a file are held out of train.

    `fold` (index, number of folds) uses that fold of the train rows for validation. `sample` chooses train rows after
    the types are known, so held-out rows and tags do not depend on it.

    Raises:
        DataError: a file cannot be read, or has no entities to learn.
    """
    file = read_file(files["train"], section, read, keep_empty=False)
    types = sorted({entity[2] for entities in file.entities for entity in entities})
    if not types:
        hint = "every word is O; is this the column of the tags?"
        raise DataError("there is no entity to learn", where=files["train"], hint=hint)
    words = section.words if section.words != "auto" else _recognize_words(file)
    tags, notes = tag_names(types), list(file.notes)
    row_format = TagFormat(
        file.columns, file.scheme, words, block_size, choose_stride(section.stride, block_size), section.decoding
    )
    keys = np.array([hash_row(row.text) for row in file.rows], np.uint64)
    sides = _choose_sides(file, keys, section, files, fold)
    if not (sides == TRAIN).any():
        raise DataError("no row is left to train on", where=files["train"], hint="give more rows")
    if sample is not None:
        notes += sample.leave_out(sides, keys, [_types_of(entities) for entities in file.entities])
    counts = WordCounts()
    trained_on = set(keys[sides == TRAIN].tolist())
    splits = {}
    for number, name in enumerate(SPLITS):
        if name in files and name != "train":
            other = read_file(files[name], section, read, saved=row_format)
            notes += [*other.notes, *check_types(other, types, section)]
            splits[name] = _encode(other, np.arange(len(other.rows)), row_format, tags, tokenizer, counts)
            if n_known := sum(key in trained_on for key in splits[name].keys.tolist()):
                notes.append(f"{n_known:,} of {len(other.rows):,} rows of {files[name]} are also in the train rows")
        elif (indices := np.flatnonzero(sides == number)).size:
            splits[name] = _encode(file, indices, row_format, tags, tokenizer, counts)
    notes += counts.describe(files["train"], file.unit)
    if "validation" not in splits and section.validation:
        notes.append("too few rows per type to hold any out, so there are no metrics on held-out rows")
    notes += _describe_splits(splits, tags, row_format)
    if section.baseline:
        splits = add_baseline(splits)
    if not quiet:
        for note in notes:
            console.info(note)
    return TaggedData(splits, row_format, tags, dict(files), notes)


def read_file(
    path: str, section: Ner, read: Read, *, saved: TagFormat | None = None, keep_empty: bool = True
) -> TaggedFile:
    """Read the rows and entities of a file; `saved` is the format of the train file, for other files.

    Raises:
        DataError: the file cannot be read (tables/tagged.py), a tag is not of the scheme, or no row has words.
    """
    spans = SpanCounts()
    with open_tagged(path, section, read) as opened:
        known = None if saved is None else saved.columns
        columns = choose_tag_columns(opened, section, need_tags=True, saved=known)
        rows = group_words(opened, columns)
        split = section.words if section.words != "auto" else "punctuation" if saved is None else saved.words
        found = list(read_tagged(rows, columns, split, spans))
        unit = rows.unit
        n_skipped = sum(opened.source.skipped.values())
    kept = found if keep_empty else [row for row in found if row.places]
    if not kept:
        raise DataError("no row has words", where=path, hint="give rows with words and tags")
    sequences = fold_prefixes([row.tags or [] for row in kept])
    kept = [replace(row, tags=tags) for row, tags in zip(kept, sequences, strict=True)]
    scheme: Scheme = "BIO"
    if columns.tags:
        scheme = section.scheme if section.scheme != "auto" else recognize_scheme(sequences)
    notes = [f"{path}: {columns.describe()}; " + _describe_scheme(scheme, kept)] if columns.tags else []
    notes = notes or [f"{path}: {columns.describe()}"]
    notes += describe_left_out(len(found) - len(kept), path, "without words")
    notes += describe_left_out(n_skipped, path, "that cannot be read")
    notes += spans.describe(path)
    entities, repaired = _read_entities(kept, scheme, path, unit)
    return TaggedFile(path, kept, entities, columns, scheme, [*notes, *repaired], unit)


def _describe_scheme(scheme: Scheme, rows: Sequence[TaggedRow]) -> str:
    named = {"IO": "tags without prefixes"}.get(scheme, f"{scheme} tags")
    row = next((row for row in rows if row.tags and set(row.tags) != {"O"}), None)
    if row is None or row.tags is None:
        return f"{named} (ner.scheme)"
    first = next(place for place, tag in enumerate(row.tags) if tag != "O")
    shown = [
        f"{word}/{tag}" for word, tag in zip(row.words[first : first + 3], row.tags[first : first + 3], strict=True)
    ]
    return clean_line(f"{named} (ner.scheme), such as {' '.join(shown)}")


def _read_entities(
    rows: Sequence[TaggedRow], scheme: Scheme, path: str, unit: str
) -> tuple[list[list[Entity]], list[str]]:
    entities, n_wrong, first = [], 0, 0
    for row in rows:
        try:
            entities.append(read_entities(row.tags or [], scheme))
        except ValueError as error:
            hint = "is this the column of the tags? ner.tag_column and ner.tags set it; ner.scheme=IO allows any tag"
            raise DataError(str(error), where=f"{path}, {unit} {row.line}", hint=hint) from None
        if n := count_violations(row.tags or [], scheme):
            n_wrong, first = n_wrong + n, first or row.line
    if not n_wrong:
        return entities, []
    places = "1 place breaks" if n_wrong == 1 else f"{n_wrong:,} places break"
    what = f"{path}: {places} the rules of {scheme}, the first in the sentence of {unit} {first}"
    return entities, [f"{what}; such tags are read as conlleval reads them"]


def _recognize_words(file: TaggedFile) -> Any:
    if file.columns.text is not None:
        return "punctuation"
    return recognize_split(row.words for row in file.rows)


def _types_of(entities: Sequence[Entity]) -> tuple[str, ...]:
    return tuple(sorted({entity[2] for entity in entities}))


def _choose_sides(
    file: TaggedFile, keys: NDArray[np.uint64], section: Ner, files: Mapping[str, str], fold: tuple[int, int] | None
) -> NDArray[np.int8]:
    sets = [_types_of(entities) for entities in file.entities]
    strata = rarest_label_strata(sets, Counter(name for names in sets for name in names))
    test = 0.0 if "test" in files else section.test
    validation = 0.0 if "validation" in files or fold is not None else section.validation
    sides = split_rows(keys, strata, validation=validation, test=test, seed=section.split_seed)
    if fold is not None:
        rest = np.flatnonzero(sides != TEST)
        folds = assign_folds(keys[rest], strata[rest], fold[1], section.split_seed)
        sides[rest[folds == fold[0]]] = VALIDATION
    return sides


def check_types(file: TaggedFile, types: Sequence[str], section: Ner) -> list[str]:
    """Remove entities of types that the train file does not have; returns a note with their number.

    Raises:
        DataError: there are such entities, and ner.unseen_labels is refuse.
    """
    unknown: Counter[str] = Counter()
    lines = []
    for row, entities in zip(file.rows, file.entities, strict=True):
        if other := [entity[2] for entity in entities if entity[2] not in types]:
            unknown.update(other)
            lines.append(row.line)
    if not unknown:
        return []
    named = list_some([repr(name) for name in sorted(unknown)], 5)
    if section.unseen_labels == "refuse":
        near = did_you_mean(min(unknown), types)
        hint = f"{near}; to read such entities as O: -s ner.unseen_labels=ignore"
        where = f"{file.path}, {file.unit} {lines[0]}"
        raise DataError(f"types that the train file does not have: {named}", where=where, hint=hint)
    file.entities = [[entity for entity in entities if entity[2] in types] for entities in file.entities]
    return [
        f"{file.path}: {unknown.total():,} entities of types that the train file does not have are read as O: {named}"
    ]


def _encode(
    file: TaggedFile, indices: NDArray[np.int64], row_format: TagFormat, tags: Sequence[str],
    tokenizer: PreTrainedTokenizerBase, counts: WordCounts,
) -> TaggedSplit:  # fmt: skip
    rows = [file.rows[index] for index in indices]
    tagged: list[TaggedInputs] = [encode_chunk(chunk, row_format, tokenizer, counts) for chunk in read_chunks(rows)]
    keys = np.array([hash_row(row.text) for row in rows], np.uint64)
    return TaggedSplit(join_tagged(tagged), to_labels(file, indices, tags), rows, keys, file.path)


def to_labels(file: TaggedFile, indices: NDArray[np.int64], tags: Sequence[str]) -> NDArray[np.int64]:
    """Return the ids of the tags of all words of some rows."""
    ids = {tag: number for number, tag in enumerate(tags)}
    labels = [ids[tag] for i in indices for tag in to_bio(file.entities[i], len(file.rows[i].places))]
    return np.array(labels, np.int64)


def _describe_splits(splits: Mapping[str, TaggedSplit], tags: Sequence[str], row_format: TagFormat) -> list[str]:
    rows = ", ".join(f"{name} {len(split):,}" for name, split in splits.items())
    train = splits["train"]
    counts = Counter(tags[label][2:] for label in train.labels.tolist() if tags[label].startswith("B-"))
    shown = list_some([f"{name} {count:,}" for name, count in counts.most_common()], _TYPES_SHOWN)
    notes = [clean_line(f"rows: {rows}; entities to train on: {shown}")]
    how = {
        "spaces": "at spaces",
        "punctuation": "at spaces, punctuation and Chinese characters",
        "characters": "into characters",
    }
    notes.append(f"texts are split into words {how[row_format.words]} (ner.words)")
    if n_cut := int((np.diff(train.tagged.inputs.row_ends, prepend=0) > 1).sum()):
        notes.append(f"{n_cut:,} train rows are longer than {row_format.block_size} tokens and are read in windows")
    return notes


def add_baseline(splits: Mapping[str, TaggedSplit]) -> dict[str, TaggedSplit]:
    """Return the splits with the tags that the word baseline predicts for the held-out rows."""
    train = splits["train"]
    sentences = ((row.words, train.labels[train.tagged.words_of(n)].tolist()) for n, row in enumerate(train.rows))
    baseline = WordBaseline(sentences)
    return {
        name: split
        if name == "train"
        else replace(split, baseline=baseline.predict(word for row in split.rows for word in row.words))
        for name, split in splits.items()
    }
