"""Process one shard of the text for `prepare`: cleaning, comparison of splits, tokenization.

A shard is a group of input files, or a slice of their staged text. The result depends only on the shard; stages.py
handles everything that depends on the order of all documents. The number of workers and their order therefore do not
change the output.

Workers load this module without torch and transformers.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from llmkit.config.prepare import Prepare
from llmkit.core.errors import LlmkitError
from llmkit.core.progress import ProgressBar
from llmkit.datasets.rows import TextCounts, encode_counted
from llmkit.preparing.staging_dir import Facts, run_shard
from llmkit.text.cleaning.cleaners import clean_documents
from llmkit.text.dedup import compute_keys, dedup_steps
from llmkit.text.documents import Document, StepCounts
from llmkit.text.inputs import file_size
from llmkit.text.overlap import find_windows, sample_windows
from llmkit.text.readers import read_files
from llmkit.text.scan import scan_text
from llmkit.text.sources import Source
from llmkit.text.splitting import SplitShard
from llmkit.text.staging import Shard, read_others, read_staged, sample_shards, stage_documents, write_keys
from llmkit.tokens.fast_encoding import Encoder, EncoderCheck, check_encoder, load_encoding_tokenizer, make_encoder
from llmkit.tokens.store import write_split
from llmkit.tokens.tokenizer import id_dtype

CHECKED_CHARACTERS, CHECKED_STRETCH = 500_000, 20_000
"""Size of the sample on which the fast encoder is checked, and of each of its passages."""
SHARD_BYTES = 8_000_000
"""Maximum size of a group of input files on disk. Shards are small, so that little work is repeated when a worker dies.
"""


def cut_files(files: Sequence[str]) -> list[list[str]]:
    """Group consecutive files up to SHARD_BYTES.

    A larger file, and an input that is not a file (`-`, `hf:`), forms its own group.
    """
    groups: list[list[str]] = [[]]
    n_bytes = 0
    for file in files:
        found = file_size(file)
        size = SHARD_BYTES if found is None else found
        if groups[-1] and n_bytes + size > SHARD_BYTES:
            groups.append([])
            n_bytes = 0
        groups[-1].append(file)
        n_bytes += size
    return groups


class _BadFiles(Exception):  # noqa: N818 - ends a shard early
    """Files of the shard cannot be read."""


def clean_shard(
    settings: Prepare, work: Path, is_only: bool, task: tuple[Path, list[str]]
) -> Facts | list[LlmkitError]:
    """Stage the cleaned documents of some files in a folder, with the keys for finding duplicates.

    `is_only`: the text has no other shard. Returns the errors of the files that cannot be read, if there are any; a
    later run then reads the shard again.
    """
    folder, files = task
    bad: list[LlmkitError] = []

    def make(folder: Path) -> Facts:
        sources: list[Source] = []
        steps: dict[str, StepCounts] = {}
        documents = read_files(files, settings.read, sources, bad)
        documents = clean_documents(documents, settings.clean, settings.read.strict, steps)
        with ProgressBar("reading and cleaning", "bytes") as meter:
            staged = stage_documents(count_bytes(documents, meter), folder)
        if bad:
            raise _BadFiles
        if is_only and staged.n_documents == 1:  # a single document has no copies
            write_keys(folder, [(None,) * len(dedup_steps(settings.dedup))])
        else:
            write_keys(folder, compute_keys(read_staged(folder), settings.dedup))
        return {
            "sources": [describe_source(source) for source in sources],
            "steps": {name: as_json(counts) for name, counts in steps.items()},
        }

    try:
        return run_shard(work, folder, make)
    except _BadFiles:
        return bad


def sample_shard(n_bytes: int, text: SplitShard) -> tuple[Any, int]:
    """Sample windows of a shard of a held-out split; `n_bytes` is the size of the split."""
    return sample_windows(text.read(with_part_before=True), n_bytes)


def match_shard(windows: Sequence[tuple[Path, int]], text: SplitShard) -> list[Any]:
    """Find the sampled windows of each held-out split in a shard of the train split.

    `windows` has, for each held-out split, the .npy file of its sample and the sampling interval.
    """
    return find_windows(text.read(with_part_before=True), [(np.load(path), every) for path, every in windows])


def check_text(with_offsets: bool, task: tuple[Path, Sequence[Shard]]) -> EncoderCheck:
    """Compare the fast encoder with `tokenizers` on a sample and on all characters of a staged text.

    Runs in a worker, because the comparison takes 150 to 250 MB.
    """
    tokenizer, shards = task
    sample = sample_shards(shards, CHECKED_CHARACTERS, CHECKED_STRETCH)
    characters = set[str]().union(*map(read_others, shards))
    return check_encoder(load_encoding_tokenizer(tokenizer), sample, characters, with_offsets=with_offsets)


def encode_shard(
    tokenizer: Path, check: EncoderCheck, segmenter: str | None, work: Path, task: tuple[Path, SplitShard]
) -> Facts:
    """Tokenize a shard of a split with a tokenizer saved by `save_encoding_tokenizer`, and write its rows."""
    folder, text = task

    def make(folder: Path) -> Facts:
        encoding_tokenizer = load_encoding_tokenizer(tokenizer)
        counts = TextCounts(Counter())
        with ProgressBar(f"tokenizing {text.split}", "bytes") as meter:
            documents = count_bytes(text.read(), meter)
            encoder = _open_encoder(tokenizer, check)
            rows = encode_counted(documents, encoding_tokenizer, counts, segmenter, encoder)
            write_split(folder, rows, id_dtype(encoding_tokenizer), sentences=segmenter is not None)
        counts.trim()
        return as_json(counts)

    return run_shard(work, folder, make)


@lru_cache(maxsize=1)
def _open_encoder(tokenizer: Path, check: EncoderCheck) -> Encoder:
    """Return the encoder of this worker, which caches encoded text."""
    return make_encoder(load_encoding_tokenizer(tokenizer), check)


def count_bytes(documents: Iterable[Document], meter: ProgressBar) -> Iterator[Document]:
    """Pass documents through and add their size to the progress bar."""
    for document in documents:
        yield document
        if meter.is_shown:
            meter.add(len(scan_text(document.text).utf8))


def describe_source(source: Source) -> dict[str, Any]:
    """Return the record of a source for the manifest; leaves out notes and example if they are empty."""
    return {name: value for name, value in as_json(source).items() if name not in ("notes", "example") or value}


def as_json(record: Any) -> dict[str, Any]:
    """Convert a dataclass for JSON. `asdict` would convert a Counter into a Counter of (key, count) pairs."""
    values = {field.name: getattr(record, field.name) for field in fields(record)}
    return {name: dict(value) if isinstance(value, Counter) else value for name, value in values.items()}
