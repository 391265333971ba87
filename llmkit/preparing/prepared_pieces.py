"""The passes of `prepare` over all the text in pieces, for an engine (engines.py): cleaning, copies, overlap.

A piece is some input files, or what became of them. What a worker makes of one depends on it alone; what goes by the
order of all documents (which copy is the first, the split, the tokenizer) is decided in one place, most of it from a
few bytes a document. So the result is that of one process, to the byte.

Tokens are in encoded_pieces.py: cleaning needs no tokenizer, and its workers no torch.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from llmkit.config.prepare import Prepare
from llmkit.preparing.engines import Map
from llmkit.preparing.unfinished import Facts, finish_piece
from llmkit.text.cleaners import clean_documents
from llmkit.text.dedup import PARAGRAPHS, Keys, copy_steps, drop_paragraphs, find_keys, keep_first
from llmkit.text.documents import StepCounts
from llmkit.text.overlap import Overlap, count_overlap, find_windows, merge_windows, sample_windows
from llmkit.text.readers import read_files
from llmkit.text.sources import Source, file_size, require_documents
from llmkit.text.splitting import SplitPiece
from llmkit.text.staging import (
    find_pieces,
    link_pieces,
    read_keys,
    read_piece,
    read_staged,
    stage_documents,
    write_keys,
)

BYTES_A_PIECE = 8_000_000
"""Of input files, as they are on the disk. What a dead worker was at is done again, so a piece takes seconds."""


@dataclass(frozen=True, slots=True)
class CleanTask:
    """Read and clean some files; see `clean_piece`."""

    files: list[str]
    settings: Prepare
    work: Path
    piece: Path
    is_whole_text: bool = False
    """Whether there is no other piece."""


@dataclass(frozen=True, slots=True)
class SampleTask:
    """Sample the windows of a piece of a held-out split; see `sample_piece`."""

    text: SplitPiece
    n_bytes: int
    """Of the whole split."""


@dataclass(frozen=True, slots=True)
class OverlapTask:
    """Look for held-out windows in a piece of the train split; see `match_piece`."""

    text: SplitPiece
    windows: list[tuple[Path, int]]
    """For each held-out split the .npy of its sample, and one in how many windows it has."""


CleanedPiece = tuple[Path, Facts]
"""Where it was staged, and what was read and cleaned."""


def clean_pieces(run: Map, files: Sequence[str], settings: Prepare, name: str, work: Path) -> list[CleanedPiece]:
    """Read and clean the files; what a former run has done of it is checked, by the workers too.

    Raises:
        DataError: as reading in one process would.
    """
    groups = cut_files(files)
    folders = [work / "cleaned" / f"cleaned-{name}-{n:05d}" for n in range(len(groups))]
    is_one = len(groups) == 1
    tasks = [CleanTask(group, settings, work, folder, is_one) for group, folder in zip(groups, folders, strict=True)]
    results = watch(f"reading and cleaning {name}", run(clean_piece, tasks), len(tasks))
    return list(zip(folders, results, strict=True))


def stage_pieces(
    pieces: Sequence[CleanedPiece],
    settings: Prepare,
    folder: Path,
    sources: list[Source],
    steps: dict[str, StepCounts],
) -> None:
    """Make `folder` the cleaned pieces without copies; adds to `sources`, and to `steps` what each step did.

    Raises:
        DataError: no document is left.
    """
    for _, facts in pieces:
        sources += [Source(**source | {"skipped": Counter(source["skipped"])}) for source in facts["sources"]]
        for step, counts in facts["steps"].items():
            _add_counts(steps.setdefault(step, StepCounts()), counts)
    require_documents(sources, steps, _drop_copies([piece for piece, _ in pieces], settings, folder, steps))


def cut_files(files: Sequence[str]) -> list[list[str]]:
    """The files in their order, in groups of at most BYTES_A_PIECE or one; what is no file (`hf:`) stands alone."""
    groups: list[list[str]] = [[]]
    n_bytes = 0
    for file in files:
        found = file_size(file)
        size = BYTES_A_PIECE if found is None else found
        if groups[-1] and n_bytes + size > BYTES_A_PIECE:
            groups.append([])
            n_bytes = 0
        groups[-1].append(file)
        n_bytes += size
    return groups


def clean_piece(task: CleanTask) -> Facts:
    """Stage the cleaned documents of the task's files, and the keys by which copies are found."""

    def make(folder: Path) -> Facts:
        sources: list[Source] = []
        steps: dict[str, StepCounts] = {}
        documents = read_files(task.files, task.settings.read, sources)
        documents = clean_documents(documents, task.settings.clean, task.settings.read.strict, steps)
        staged = stage_documents(documents, folder)
        if task.is_whole_text and staged.n_documents == 1:  # nothing that it could be a copy of
            write_keys(folder, [(None,) * len(copy_steps(task.settings.dedup))])
        else:
            write_keys(folder, find_keys(read_staged(folder), task.settings.dedup))
        return {
            "sources": [as_json(source) for source in sources],
            "steps": {name: as_json(counts) for name, counts in steps.items()},
        }

    return finish_piece(task.work, task.piece, make)


def _drop_copies(pieces: list[Path], settings: Prepare, folder: Path, steps: dict[str, StepCounts]) -> int:
    """Make `folder` the pieces' documents without copies; how many there are."""
    keys: Iterator[Keys] = (key for piece in pieces for key in read_keys(piece))
    stays = keep_first(keys, settings.dedup, steps)
    kept = [[next(stays) for _ in read_keys(piece)] for piece in pieces]
    next(stays, None)  # without any document too, the steps are counted
    if not settings.dedup.paragraphs:
        link_pieces(folder, zip(pieces, kept, strict=True))
        return sum(map(sum, kept))
    link_pieces(folder / "before", zip(pieces, kept, strict=True))
    count, seen = steps.setdefault(PARAGRAPHS, StepCounts()), set[bytes]()
    n_documents = 0
    for number, piece in enumerate(find_pieces(folder / "before")):
        documents = drop_paragraphs(read_piece(piece), count, seen)
        n_documents += stage_documents(documents, folder / f"{number:05d}").n_documents
    link_pieces(folder, [(folder / f"{number:05d}", None) for number in range(len(pieces))])
    return n_documents


def compare_pieces(
    run: Map, train: Sequence[SplitPiece], held_out: Mapping[str, tuple[Sequence[SplitPiece], int]], folder: Path
) -> dict[str, Overlap]:
    """As `find_overlap` for each held-out split, given with its size in bytes; `folder` takes the samples."""
    folder.mkdir(parents=True, exist_ok=True)
    windows: list[tuple[Path, int]] = []
    for name, (texts, n_bytes) in held_out.items():
        sampled = run(sample_piece, [SampleTask(text, n_bytes) for text in texts])
        hashes, every = merge_windows(watch(f"sampling {name}", sampled, len(texts)))
        windows.append((folder / f"{name}.npy", every))
        np.save(windows[-1][0], hashes)
    empty = [np.zeros(len(np.load(path)), bool) for path, _ in windows]
    tasks = [OverlapTask(text, windows) for text in train] if windows else []
    found = watch("comparing splits", run(match_piece, tasks), len(tasks))
    joined: list[Any] = reduce(lambda sums, new: [a | b for a, b in zip(sums, new, strict=True)], found, empty)
    return {name: count_overlap(mask, every) for name, mask, (_, every) in zip(held_out, joined, windows, strict=True)}


def sample_piece(task: SampleTask) -> tuple[Any, int]:
    """The sample of a piece of a held-out split."""
    return sample_windows(task.text.read(with_part_before=True), task.n_bytes)


def match_piece(task: OverlapTask) -> list[Any]:
    """For each held-out split, which of its windows the piece has."""
    return find_windows(task.text.read(with_part_before=True), [(np.load(path), every) for path, every in task.windows])


def as_json(record: Any) -> dict[str, Any]:
    """A dataclass as JSON takes it. `asdict` turns a Counter into one of (key, count) pairs."""
    values = {field.name: getattr(record, field.name) for field in fields(record)}
    return {name: dict(value) if isinstance(value, Counter) else value for name, value in values.items()}


def _add_counts(count: StepCounts, more: dict[str, Any]) -> None:
    """A Counter keeps the order in which its names first came, in pieces as in one."""
    count.documents_in += more["documents_in"]
    count.documents_out += more["documents_out"]
    count.changed += more["changed"]
    count.dropped.update(more["dropped"])
    count.removed.update(more["removed"])


def watch(what: str, results: Iterable[Any], n_tasks: int) -> Iterator[Any]:
    """Pass results through and show how many of them are there, on a terminal."""
    with tqdm(results, desc=what, total=n_tasks, unit=" pieces", leave=False, disable=None) as bar:
        yield from bar
