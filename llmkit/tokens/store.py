"""Store token ids on disk, in Arrow files that `datasets.load_from_disk` opens, one row per document.

The files are written from numpy arrays and memory-mapped for reading; ids never become Python integers. The same rows
always produce the same bytes.

Independent of blocks (blocks.py) or text.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from llmkit.core.batching import batch_by_size
from llmkit.core.errors import DataError

TOKENS_PER_BATCH = 1 << 20
BYTES_PER_FILE = 1 << 29

Ids = np.ndarray[tuple[int], np.dtype[np.unsignedinteger[Any]]]


@dataclass(frozen=True, slots=True)
class Row:
    """One stored document, or part of a long one."""

    input_ids: Ids
    source: str
    index: int
    part: int
    n_characters: int
    n_bytes: int
    """Number of UTF-8 bytes of the text; the end-of-text token has none."""
    hash: str
    sentence_ends: NDArray[np.integer[Any]] | None = None
    """Number of tokens up to the end of each sentence, ascending; end-of-text is not part of a sentence."""
    continues_word: NDArray[np.bool_] | None = None
    """For each token, whether it continues the word of the previous token."""


def write_split(folder: Path, rows: Iterable[Row], dtype: np.dtype[Any], *, sentences: bool = False) -> None:
    """Write `rows` as a `datasets` folder; `sentences` adds the columns of sentences and words. Not atomic."""
    schema = _schema(dtype, sentences)
    batches = batch_by_size(rows, lambda row: len(row.input_ids), TOKENS_PER_BATCH)
    _write_batches(folder, (_to_batch(batch, schema) for batch in batches), schema)


def join_splits(folder: Path, parts: Iterable[Path], dtype: np.dtype[Any], *, sentences: bool = False) -> None:
    """Concatenate splits; writes the same bytes as `write_split` with all rows. Parts are opened one at a time."""
    _write_batches(folder, _rebatch(parts), _schema(dtype, sentences))


def _write_batches(folder: Path, batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> None:
    folder.mkdir(parents=True)
    names: list[str] = []
    batch = next(batches, None)
    while batch is not None:
        name = f"data-{len(names):05d}.arrow"
        names.append(name)
        with pa.OSFile(str(folder / name), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
            while batch is not None and file.tell() < BYTES_PER_FILE:
                writer.write_batch(batch)
                batch = next(batches, None)
    _write_dataset_files(folder, names, schema)


@dataclass(frozen=True)
class Split:
    """A stored split, memory-mapped."""

    folder: Path

    @cached_property
    def table(self) -> pa.Table:
        """All rows; the columns are those of Row."""
        try:
            state = json.loads((self.folder / "state.json").read_text())
            files = [self.folder / entry["filename"] for entry in state["_data_files"]]
            tables = [pa.ipc.open_stream(pa.memory_map(str(file))).read_all() for file in files]
            return pa.concat_tables(tables) if tables else _schema(np.dtype(np.uint16)).empty_table()
        except (OSError, pa.ArrowInvalid, KeyError, ValueError) as error:
            hint = "run `llmkit prepare` again"
            raise DataError(f"the prepared split is damaged: {error}", where=str(self.folder), hint=hint) from None

    @cached_property
    def stream(self) -> "TokenStream":
        """Return the ids of all rows, concatenated."""
        chunks = [chunk.flatten().to_numpy() for chunk in self.table.column("input_ids").chunks]
        return TokenStream([chunk for chunk in chunks if len(chunk)])

    @cached_property
    def continues_word(self) -> "BitStream":
        """Return whether each token continues the previous word, for the concatenated ids of all rows."""
        chunks = [chunk.flatten() for chunk in self.table.column("continues_word").chunks]
        return BitStream([chunk for chunk in chunks if len(chunk)])

    def rows(self) -> Iterator[Row]:
        """Yield the rows in order."""
        for batch in self.table.to_batches():
            columns = [_from_column(batch.column(field.name)) for field in batch.schema]
            yield from map(Row, *columns)

    def hash_sentences(self) -> str:
        """Return the SHA-256 of the columns of sentences and words.

        It depends on the text and on llmkit's rules for sentences and words.
        """
        digest = hashlib.sha256()
        for chunk in self.table.column("sentence_ends").chunks:
            digest.update(chunk.offsets.to_numpy().tobytes() + chunk.values.to_numpy().tobytes())
        for chunk in self.table.column("continues_word").chunks:
            digest.update(chunk.values.buffers()[1])
        return digest.hexdigest()

    def __reduce__(self) -> tuple[type["Split"], tuple[Path]]:
        return Split, (self.folder,)  # data loader workers map the files again instead of copying them


class TokenStream:
    """The ids of a split as a ring: the first token follows the last.

    The last token is an end-of-text token, which is the correct context of the first document. Every token therefore
    has a context and is predicted exactly once.
    """

    def __init__(self, chunks: list[Ids]) -> None:
        self._chunks = chunks
        self._ends = np.cumsum([len(chunk) for chunk in chunks], dtype=np.int64)
        self._length = sum(map(len, chunks))

    def __len__(self) -> int:
        return self._length

    def read(self, start: int, length: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Return `length` ids starting at `start`, modulo the length of the stream; `start` may be any integer."""
        position = start % len(self)
        chunk = int(self._ends.searchsorted(position, side="right"))
        if position + length <= self._ends[chunk]:
            begin = position - int(self._ends[chunk]) + len(self._chunks[chunk])
            return self._chunks[chunk][begin : begin + length].astype(np.int64)
        out, done = np.empty(length, np.int64), 0
        while done < length:
            begin = int(self._ends[chunk]) - len(self._chunks[chunk])
            piece = self._chunks[chunk][position - begin : position - begin + length - done]
            out[done : done + len(piece)] = piece
            done += len(piece)
            chunk = (chunk + 1) % len(self._chunks)
            position = int(self._ends[chunk]) - len(self._chunks[chunk])
        return out

    def unigram_nats(self) -> float:
        """Return the entropy of the token frequencies in nats per token, which is the loss of the best constant
        prediction.
        """
        counts = np.zeros(self.max_id() + 1, np.int64)
        for chunk in self._chunks:
            counts += np.bincount(chunk, minlength=len(counts))
        shares = counts[counts > 0] / len(self)
        return float(-(shares * np.log(shares)).sum())

    def max_id(self) -> int:
        """Return the largest id, to check it against the vocabulary of a model."""
        return max((int(chunk.max()) for chunk in self._chunks), default=0)


class BitStream:
    """Booleans of a complete split, packed eight per byte; `read` unpacks a range."""

    def __init__(self, chunks: list[pa.BooleanArray]) -> None:
        self._bytes = [np.frombuffer(chunk.buffers()[1], np.uint8) for chunk in chunks]
        self._offsets = [chunk.offset for chunk in chunks]
        self._starts = np.cumsum([0, *map(len, chunks)], dtype=np.int64)

    def read(self, start: int, length: int) -> NDArray[np.bool_]:
        """Return `length` values starting at `start`; the range must be inside the split."""
        chunk = int(self._starts.searchsorted(start, side="right")) - 1
        begin = start - int(self._starts[chunk])
        end = min(begin + length, int(self._starts[chunk + 1]) - int(self._starts[chunk]))
        first, last = begin + self._offsets[chunk], end + self._offsets[chunk]
        bits = np.unpackbits(self._bytes[chunk][first >> 3 : (last + 7) >> 3], bitorder="little").view(bool)
        piece = bits[first & 7 : (first & 7) + last - first]
        if len(piece) == length:
            return piece
        return np.concatenate([piece, self.read(start + len(piece), length - len(piece))])


def _schema(dtype: np.dtype[Any], sentences: bool = False) -> pa.Schema:
    fields: list[tuple[str, pa.DataType]] = [
        ("input_ids", pa.list_(pa.from_numpy_dtype(dtype))),
        ("source", pa.string()),
        ("index", pa.int64()),
        ("part", pa.int32()),
        ("n_characters", pa.int64()),
        ("n_bytes", pa.int64()),
        ("hash", pa.string()),
    ]
    if sentences:
        fields += [("sentence_ends", pa.list_(pa.int32())), ("continues_word", pa.list_(pa.bool_()))]
    features = {name: _feature(kind) for name, kind in fields}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.schema(fields, metadata=metadata)


def _feature(kind: pa.DataType) -> dict[str, Any]:
    if pa.types.is_list(kind):
        return {"feature": _feature(kind.value_type), "_type": "List"}
    return {"dtype": str(kind), "_type": "Value"}


def _rebatch(parts: Iterable[Path]) -> Iterator[pa.RecordBatch]:
    """Yield the rows of all parts, in batches of the same sizes as in `write_split`."""
    waiting: list[pa.RecordBatch] = []
    n_tokens = 0
    for batch in (batch for part in parts for batch in Split(part).table.to_batches()):
        if not batch.num_rows:
            continue
        offsets = batch.column("input_ids").offsets.to_numpy()
        before, ends, first = offsets[0], offsets[1:], 0
        while first < len(ends):
            full = int(np.searchsorted(ends, before + TOKENS_PER_BATCH - n_tokens))  # the row that fills the batch
            waiting.append(batch.slice(first, full + 1 - first))
            if full >= len(ends):
                n_tokens += int(ends[-1] - before)
                break
            yield pa.concat_batches(waiting)
            waiting, n_tokens = [], 0
            first, before = full + 1, ends[full]
    if waiting:
        yield pa.concat_batches(waiting)


def _to_batch(rows: list[Row], schema: pa.Schema) -> pa.RecordBatch:
    columns = []
    for field in schema:
        values = [getattr(row, field.name) for row in rows]
        if pa.types.is_list(field.type):
            offsets = pa.array(np.cumsum([0, *map(len, values)], dtype=np.int32))
            flat = pa.array(np.concatenate(values), field.type.value_type)
            columns.append(pa.ListArray.from_arrays(offsets, flat))
        else:
            columns.append(pa.array(values, field.type))
    return pa.record_batch(columns, schema=schema)


def _from_column(column: pa.Array) -> list[Any]:
    """Return one value per row; lists are views of the column, booleans are unpacked."""
    if not pa.types.is_list(column.type):
        return list(column.to_pylist())
    values = column.values.to_numpy(zero_copy_only=False)
    return np.split(values, column.offsets.to_numpy()[1:-1])


def _write_dataset_files(folder: Path, names: list[str], schema: pa.Schema) -> None:
    """Write the two JSON files that `datasets.load_from_disk` needs."""
    state: dict[str, Any] = {
        "_data_files": [{"filename": name} for name in names],
        "_fingerprint": "0" * 16,  # datasets' cache key, unused
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": folder.name,
    }
    info = {"citation": "", "description": "", "homepage": "", "license": ""}
    info |= json.loads(schema.metadata[b"huggingface"])["info"]
    (folder / "state.json").write_text(json.dumps(state, indent=2))
    (folder / "dataset_info.json").write_text(json.dumps(info, indent=2))
