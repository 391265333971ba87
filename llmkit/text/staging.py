"""Store cleaned documents on disk for the passes over them: split, tokenizer training, encoding.

Two Arrow files: `documents.arrow` has one row per part, with its text, its distinct non-ASCII characters (scan.py) and
its source, in batches of bounded size that are memory-mapped for reading; `totals.arrow` has one row per document. Both
are renamed into place when complete, and the same documents always produce the same bytes.

A text may be staged in several folders: `shards.json` in a separate folder lists them in order, each with a .npy mask
of the documents that are kept. Such a folder is read like any other.

Independent of splits or tokens.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from llmkit.core.files import read_json, write_json
from llmkit.text.documents import Document
from llmkit.text.scan import decode, scan_text

STAGED_FORMAT = 2
"""Version of the columns. Increase it when they change, so that no run resumes from files with other columns."""
DOCUMENTS_FILE = "documents.arrow"
TOTALS_FILE = "totals.arrow"
SHARDS_FILE = "shards.json"
KEYS_FILE = "keys.arrow"
_BATCH_CHARS = 4_000_000
_BATCH_ROWS = 50_000
_BATCHES_PER_SLICE = 4


@dataclass(frozen=True, slots=True)
class Total:
    """Totals over all parts of one document."""

    n_chars: int
    n_bytes: int
    """UTF-8."""
    text_hash: str
    """`documents.hash_text` of the whole text."""


@dataclass(frozen=True, slots=True)
class StageTotals:
    """Totals over all staged documents."""

    n_documents: int
    n_chars: int
    n_bytes: int


def stage_documents(documents: Iterable[Document], folder: Path) -> StageTotals:
    """Write documents to `folder`, which is created if missing. Lone surrogates raise UnicodeEncodeError."""
    document_schema = pa.schema(
        {
            "text": pa.large_string(),
            "others": pa.string(),
            "n_chars": pa.int64(),
            "source": pa.string(),
            "index": pa.int64(),
            "part": pa.int32(),
            "last": pa.bool_(),
        }
    )
    total_schema = pa.schema({"n_chars": pa.int64(), "n_bytes": pa.int64(), "text_hash": pa.binary(32)})
    folder.mkdir(parents=True, exist_ok=True)
    n_documents = n_all_chars = n_all_bytes = 0
    n_chars = n_bytes = 0
    digest = hashlib.sha256()
    with (
        _BatchWriter(folder / DOCUMENTS_FILE, document_schema) as parts,
        _BatchWriter(folder / TOTALS_FILE, total_schema) as totals,
    ):
        for document in documents:
            scan = scan_text(document.text)
            if any("\ud800" <= char <= "\udfff" for char in scan.others):
                document.text.encode()  # raises
            data = scan.utf8
            n_chars += len(document.text)
            n_bytes += len(data)
            digest.update(data)
            origin = (document.source, document.index, document.part, document.last)
            parts.write((data, "".join(sorted(scan.others)), len(document.text), *origin), len(document.text))
            if document.last:
                totals.write((n_chars, n_bytes, digest.digest()), 0)
                n_documents += 1
                n_all_chars += n_chars
                n_all_bytes += n_bytes
                n_chars = n_bytes = 0
                digest = hashlib.sha256()
    return StageTotals(n_documents, n_all_chars, n_all_bytes)


@dataclass(frozen=True, slots=True)
class Shard:
    """Documents that were staged together."""

    folder: Path
    kept: Path | None = None
    """A .npy with a mask of the documents that are kept; None: all."""
    batches: tuple[int, int] | None = None
    """Begin and end of the batches, if the shard is a slice of a folder; None: all batches.

    A slice may begin and end inside a document.
    """
    with_part_before: bool = False
    """Whether to also read the part before a slice that begins inside a document."""


def link_shards(folder: Path, shards: Iterable[tuple[Path, list[bool] | None]]) -> None:
    """Write a shards.json in `folder` that lists `shards` in order: (folder, mask of its documents to keep)."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for number, (shard, kept) in enumerate(shards):
        name = None if kept is None or all(kept) else f"{number:05d}.npy"
        if name is not None:
            np.save(folder / name, np.array(kept))
        entries.append({"folder": os.path.relpath(shard, folder), "kept": name})
    write_json(folder / SHARDS_FILE, entries)


def find_shards(folder: Path) -> list[Shard]:
    """Return the shards of a staged folder."""
    if not (folder / SHARDS_FILE).exists():
        return [Shard(folder)]
    return [
        Shard((folder / entry["folder"]).resolve(), None if entry["kept"] is None else folder / entry["kept"])
        for entry in read_json(folder / SHARDS_FILE)
    ]


def slice_shards(shards: Iterable[Shard]) -> list[Shard]:
    """Cut shards into slices of bounded size, because a large file is staged as a single shard."""
    slices: list[Shard] = []
    for shard in shards:
        with _open_batches(shard.folder / DOCUMENTS_FILE) as reader:
            n_batches = reader.num_record_batches
        starts = range(0, n_batches, _BATCHES_PER_SLICE)
        cut = [replace(shard, batches=(start, min(start + _BATCHES_PER_SLICE, n_batches))) for start in starts]
        slices += cut if len(cut) > 1 else [shard]
    return slices


def read_staged(folder: Path) -> Iterator[Document]:
    """Yield the staged documents, part by part, in the order of writing."""
    for shard in find_shards(folder):
        yield from read_shard(shard)


def read_totals(folder: Path) -> Iterator[Total]:
    """Yield one Total per document, in the order of `read_staged`."""
    for shard in find_shards(folder):
        yield from read_shard_totals(shard)


def read_shard(shard: Shard, wanted: Iterable[bool] | None = None) -> Iterator[Document]:
    """Like `read_staged`, for one shard; `wanted` selects among its kept documents."""
    mask = _read_kept(shard)
    if wanted is not None:
        is_wanted = iter(wanted)
        mask = (kept and next(is_wanted, False) for kept in mask)
    keep = next(mask)
    before = _read_part_before(shard) if shard.with_part_before else []
    for batch in chain(before, _read_batches(shard.folder / DOCUMENTS_FILE, shard.batches)):
        columns = [batch.column(name).to_pylist() for name in ("others", "source", "index", "part", "last")]
        _, offsets, data = batch.column("text").buffers()
        ends = memoryview(offsets).cast("q")
        for row, (others, *origin) in enumerate(zip(*columns, strict=True)):
            if keep:
                yield Document(decode(data[ends[row] : ends[row + 1]].to_pybytes(), others), *origin)
            if origin[-1]:
                keep = next(mask)


def read_others(shard: Shard) -> set[str]:
    """Return the distinct characters of the shard that are neither printable ASCII nor ASCII white space."""
    others: set[str] = set()
    for batch in _read_batches(shard.folder / DOCUMENTS_FILE, shard.batches):
        others.update(*batch.column("others").to_pylist())
    return others


def sample_shards(shards: Sequence[Shard], n_chars: int, stretch: int) -> list[str]:
    """Sample about `n_chars` characters: evenly spaced passages of `stretch` characters, or all of a small text.

    The last text is the beginning of the longest part, up to a third of `n_chars`. Only the sampled text is read;
    documents that are not kept are sampled too.
    """
    folders = dict.fromkeys(shard.folder for shard in shards)  # several slices may be of one folder
    files = [folder / DOCUMENTS_FILE for folder in folders]
    sizes = (batch.column("n_chars").to_numpy().sum() for file in files for batch in _read_batches(file))
    every = max(1, -(-int(sum(sizes)) // n_chars))
    texts: list[str] = []
    longest = ""
    before = 0
    for batch in (batch for file in files for batch in _read_batches(file)):
        column, of_rows = batch.column("text"), batch.column("n_chars").to_numpy()
        ends = np.cumsum(of_rows)
        after = before + int(ends[-1])
        for number in range(before // stretch, -(-after // stretch)):
            if number % every == 0:
                start, end = max(0, number * stretch - before), min(after, (number + 1) * stretch) - before
                first, last = np.searchsorted(ends, [start, end - 1], side="right").tolist()
                rows = column.slice(first, last + 1 - first).to_pylist()
                begin = int(ends[first] - of_rows[first])
                rows[-1] = rows[-1][: end - int(ends[last] - of_rows[last])]
                rows[0] = rows[0][start - begin :]
                texts += rows
        if of_rows.max() > len(longest):
            longest = column[int(of_rows.argmax())].as_py()
        before = after
    return [*texts, longest[: n_chars // 3]]


def read_shard_totals(shard: Shard) -> Iterator[Total]:
    """Like `read_totals`, for one shard."""
    mask = _read_kept(shard)
    n_before = _count_documents_before(shard)
    for batch in _read_batches(shard.folder / TOTALS_FILE):
        skipped = min(n_before, batch.num_rows)
        n_before -= skipped
        batch = batch.slice(skipped)
        columns = [batch.column(name).to_pylist() for name in ("n_chars", "n_bytes", "text_hash")]
        for n_chars, n_bytes, digest in zip(*columns, strict=True):
            if next(mask):
                yield Total(n_chars, n_bytes, digest.hex())


def read_skipped_lengths(shard: Shard) -> list[int]:
    """Return the lengths, in characters, of the parts before a slice that belong to its first document.

    The part that `with_part_before` adds is not among them.
    """
    if shard.batches is None or not next(_read_kept(shard)):
        return []
    lengths: list[int] = []
    with _open_batches(shard.folder / DOCUMENTS_FILE) as reader:
        for number in range(shard.batches[0] - 1, -1, -1):
            batch = reader.get_batch(number)
            ends = np.flatnonzero(batch.column("last").to_numpy(zero_copy_only=False))
            lengths = batch.column("n_chars").to_pylist()[ends[-1] + 1 if len(ends) else 0 :] + lengths
            if len(ends):
                break
    return lengths[:-1] if shard.with_part_before else lengths


def count_inner_chars(shard: Shard) -> int | None:
    """Return the number of characters of a slice inside one document; None for other shards."""
    if shard.batches is None:
        return None
    n_chars = 0
    for batch in _read_batches(shard.folder / DOCUMENTS_FILE, shard.batches):
        if batch.column("last").true_count:
            return None
        n_chars += sum(batch.column("n_chars").to_pylist())
    return n_chars


def _read_part_before(shard: Shard) -> list[pa.RecordBatch]:
    """Return a batch with the part before a slice if that part belongs to the slice's first document; else nothing."""
    if shard.batches is None or shard.batches[0] == 0:
        return []
    (batch,) = _read_batches(shard.folder / DOCUMENTS_FILE, (shard.batches[0] - 1, shard.batches[0]))
    row = batch.slice(batch.num_rows - 1)
    # A copy, because `read_shard` reads from the beginning of the text buffer.
    return [] if row.column("last")[0].as_py() else [pa.RecordBatch.from_pylist(row.to_pylist(), row.schema)]


def _count_documents_before(shard: Shard) -> int:
    """Return the number of documents of the folder that end before the slice."""
    if shard.batches is None:
        return 0
    before = _read_batches(shard.folder / DOCUMENTS_FILE, (0, shard.batches[0]))
    return sum(batch.column("last").true_count for batch in before)


def _read_kept(shard: Shard) -> Iterator[bool]:
    """Yield whether each document of the shard is kept, followed by True without end."""
    if shard.kept is not None:
        yield from islice(np.load(shard.kept).tolist(), _count_documents_before(shard), None)
    yield from repeat(True)


def write_keys(folder: Path, keys: Iterable[tuple[bytes | None, ...]]) -> None:
    """Store the keys of the staged documents (see dedup.compute_keys) next to them."""
    with _BatchWriter(folder / KEYS_FILE, pa.schema({"keys": pa.list_(pa.binary())})) as writer:
        for each in keys:
            writer.write((each,), sum(len(key) for key in each if key is not None))


def read_keys(folder: Path) -> Iterator[tuple[bytes | None, ...]]:
    """Read the keys that `write_keys` stored."""
    for batch in _read_batches(folder / KEYS_FILE):
        yield from map(tuple, batch.column("keys").to_pylist())


def _read_batches(path: Path, batches: tuple[int, int] | None = None) -> Iterator[pa.RecordBatch]:
    with _open_batches(path) as reader:
        for number in range(*(batches or (0, reader.num_record_batches))):
            yield reader.get_batch(number)


@contextmanager
def _open_batches(path: Path) -> Iterator[Any]:
    with pa.memory_map(str(path)) as file, pa.ipc.open_file(file) as reader:
        yield reader


def _to_array(cells: Sequence[Any], kind: Any) -> Any:
    if kind != pa.large_string():
        return pa.array(cells, kind)
    offsets = np.cumsum([0, *map(len, cells)], dtype=np.int64)  # the cells are UTF-8
    return pa.Array.from_buffers(kind, len(cells), [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(cells))])


class _BatchWriter:
    """Writes rows to an Arrow file, in batches of at most 4 M characters (or one longer row) and 50,000 rows."""

    def __init__(self, path: Path, schema: Any) -> None:
        self._path = path
        self._unfinished = path.with_name(path.name + ".unfinished")
        self._schema = schema
        self._writer = pa.ipc.new_file(str(self._unfinished), schema)
        self._rows: list[tuple[object, ...]] = []
        self._n_chars = 0

    def __enter__(self) -> "_BatchWriter":
        return self

    def write(self, row: tuple[object, ...], n_chars: int) -> None:
        if self._rows and (self._n_chars + n_chars > _BATCH_CHARS or len(self._rows) >= _BATCH_ROWS):
            self._flush()
        self._rows.append(row)
        self._n_chars += n_chars

    def _flush(self) -> None:
        if self._rows:
            columns = zip(*self._rows, strict=True)
            arrays = [_to_array(cells, field.type) for cells, field in zip(columns, self._schema, strict=True)]
            self._writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=self._schema))
        self._rows, self._n_chars = [], 0

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            self._flush()
        self._writer.close()
        if kind is None:
            self._unfinished.replace(self._path)
        else:
            self._unfinished.unlink(missing_ok=True)
