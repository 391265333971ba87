"""Build a prepared folder in stages: staged text, tokenizer, splits, overlap between splits, and the manifest.

An executor maps every pass over the text over its shards (shards.py). This module does the work that depends on
the order of all documents: removing duplicates, splitting, training the tokenizer, joining rows. Cleaned text is staged
on disk because three passes read it, so memory use does not grow with the text. An interrupted run resumes after its
last finished stage; see staging_dir.py.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmkit.config.prepare import Prepare
from llmkit.core import console
from llmkit.core.errors import DataError
from llmkit.core.machine import describe_versions, require_address_space
from llmkit.core.process import defer_signals
from llmkit.core.progress import ProgressBar
from llmkit.datasets.rows import TextCounts, add_words, can_mask
from llmkit.preparing.executors import MapShards
from llmkit.preparing.shards import (
    as_json,
    check_text,
    clean_shard,
    cut_files,
    describe_source,
    encode_shard,
    match_shard,
    sample_shard,
)
from llmkit.preparing.staging_dir import FOLDER, Facts, finished_files, run_stage
from llmkit.text.cleaning.cleaners import describe_notes
from llmkit.text.cleaning.normalization import record_normalization
from llmkit.text.dedup import PARAGRAPHS, Keys, drop_duplicate_paragraphs, find_unique
from llmkit.text.documents import Document, StepCounts, hash_text
from llmkit.text.inputs import find_files
from llmkit.text.language.words import choose_segmenter
from llmkit.text.overlap import count_overlap, merge_windows
from llmkit.text.readers import raise_bad_files
from llmkit.text.sources import Source, report_notes, require_documents
from llmkit.text.splitting import MIN_HELD_OUT_CHARS, SplitPlan, SplitShard, plan_cuts, plan_split
from llmkit.text.staging import (
    Shard,
    find_shards,
    link_shards,
    read_keys,
    read_shard,
    read_staged,
    read_totals,
    slice_shards,
    stage_documents,
)
from llmkit.tokens.fast_encoding import save_encoding_tokenizer
from llmkit.tokens.loading import load_tokenizer
from llmkit.tokens.store import Split, join_splits
from llmkit.tokens.tokenizer import ensure_special_tokens, fingerprint_tokenizer, id_dtype

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SPLITS = ("train", "validation", "test")
TRAINING_CHUNK = 25_000
CHINESE_MEMORY_FACTOR = 15
"""BPE training keeps every distinct sequence between spaces or punctuation, and in Chinese nearly all are distinct.
Measured: 88 bytes of memory per byte of Chinese, 4 per byte of English."""
TRAINING_MEMORY_FACTOR = 6
N_SAMPLES = 3
SAMPLE_TOKENS = 48


@dataclass(frozen=True, slots=True)
class Inputs:
    """The input files, the files of the user's own splits by name, and the tokenizer; None: train a tokenizer."""

    files: Sequence[str]
    user_splits: dict[str, str]
    tokenizer: "PreTrainedTokenizerBase | None" = None
    skipped: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Number of skipped files of each folder, by reason."""


def build_prepared(inputs: Inputs, settings: Prepare, work: Path, map_shards: MapShards) -> Facts:
    """Fill `folder/` of the staging directory `work`; returns the contents of the manifest.

    The same input gives the same bytes with any executor, even after an interruption.

    Raises:
        DataError: unreadable input, or no text left after cleaning.
    """
    folder, stage = work / FOLDER, work / "staged"
    given = {"main": inputs.files} | {split: find_files([path], {}) for split, path in inputs.user_splits.items()}
    left_out = [Source(path, skipped=Counter(counts)) for path, counts in inputs.skipped.items()]
    read = _stage_texts(map_shards, given, settings, work, left_out)
    staged = {name: slice_shards(find_shards(stage / name)) for name in given}
    plan = plan_split(read_totals(stage / "main"), settings.split)
    plan = plan_cuts(plan, read_staged(stage / "main"), read_totals(stage / "main"))
    names = [name for name in SPLITS if name in plan.names or name in inputs.user_splits]
    texts = {name: _shards_of(name, staged, plan) for name in names}
    tokenizer, notes = _make_tokenizer(inputs.tokenizer, texts["train"], stage / "main", settings, work)
    stores_words = can_mask(tokenizer) if settings.sentences == "auto" else settings.sentences
    segmenter = choose_segmenter(settings.chinese_words) if stores_words else None

    @cache
    def encode() -> partial[Facts]:
        """Return `encode_shard` for all splits; a worker checks the fast encoder once per run."""
        saved, shards = save_encoding_tokenizer(tokenizer, work), [shard for name in given for shard in staged[name]]
        (check,) = map_shards(partial(check_text, segmenter is not None), [(saved, shards)])
        if check.reason:
            console.info(f"tokenizing with the tokenizers library: {check.reason}")
        return partial(encode_shard, saved, check, segmenter, work)

    def store(folder: Path) -> Facts:
        names = ("documents", "characters", "bytes", "tokens", "unknown_tokens", "unknown_characters")
        counts = TextCounts(Counter(dict.fromkeys(names, 0)))
        parts = _encode(map_shards, encode(), texts[folder.name], work, counts)
        join_splits(folder, parts, id_dtype(tokenizer), sentences=segmenter is not None)
        return _describe_split(folder, counts, sentences=segmenter is not None)

    splits = {name: run_stage(work, folder / name, store) for name in names}

    def compare(_: Path) -> Facts:
        n_bytes = {name: splits[name]["bytes"] for name in names[1:]}
        return _compare_splits(map_shards, texts, n_bytes, work / "windows")

    notes += _note_small(splits, inputs.user_splits)
    overlap = run_stage(work, work / "overlap", compare)
    n_bytes = sum(split["bytes"] for split in splits.values())
    n_tokens = sum(split["tokens"] for split in splits.values())
    return {
        "versions": describe_versions(),
        **read,
        "normalization": record_normalization(settings.clean),
        "split_by": plan.by,
        "splits": splits,
        "sentences": None if segmenter is None else {"chinese_words": segmenter},
        "overlap": overlap,
        "bytes_per_token": n_bytes / n_tokens,
        "tokenizer": {
            "kind": settings.tokenizer.path or settings.tokenizer.kind,
            "vocab_size": len(tokenizer),
            "fingerprint": fingerprint_tokenizer(tokenizer),
        },
        "notes": [*describe_notes(read["steps"]), *notes],
        "samples": _samples(folder / "train", tokenizer),
        "files": finished_files(work),
    }


def planned_segmenter(settings: Prepare) -> str | None:
    """Return the segmenter of Chinese words, or None if sentences and words are not stored; needs no tokenizer."""
    stores_words = settings.tokenizer.may_mask if settings.sentences == "auto" else settings.sentences
    return choose_segmenter(settings.chinese_words) if stores_words else None


def _progress_bar(what: str, results: Iterable[Any], n_tasks: int) -> Iterator[Any]:
    """Pass results through with a progress bar on a terminal."""
    with ProgressBar(what, "shards", n_tasks) as bar:
        for result in results:
            yield result
            bar.add(1)


def _stage_texts(
    map_shards: MapShards, given: Mapping[str, Sequence[str]], settings: Prepare, work: Path, left_out: list[Source]
) -> Facts:
    """Stage the inputs as `main` and each of the user's own splits under its name; returns sources and cleaning steps
    for the manifest. `left_out` are the folders with skipped files.

    Raises:
        DataError, AccessDenied: files cannot be read, and the error names all files; or no document is left.
    """

    @cache
    def clean(name: str) -> list[tuple[Path, Facts]]:
        """Return folder and facts of each cleaned shard."""
        groups = cut_files(given[name])
        tasks = [(work / "cleaned" / f"cleaned-{name}-{n:05d}", group) for n, group in enumerate(groups)]
        run = partial(clean_shard, settings, work, len(groups) == 1)
        facts = list(_progress_bar(f"reading and cleaning {name}", map_shards(run, tasks), len(tasks)))
        raise_bad_files([error for each in facts if isinstance(each, list) for error in each])
        return [(folder, each) for (folder, _), each in zip(tasks, facts, strict=True)]

    def make(stage: Path) -> Facts:
        sources: list[Source] = []
        steps: dict[str, StepCounts] = {}
        for name in given:
            own_steps = steps if name == "main" else {}
            for _, facts in clean(name):
                sources += [Source(**source | {"skipped": Counter(source["skipped"])}) for source in facts["sources"]]
                for step, counts in facts["steps"].items():
                    own_steps.setdefault(step, StepCounts()).add(counts)
            n_documents = _drop_copies([shard for shard, _ in clean(name)], settings, stage / name, own_steps)
            require_documents(sources, own_steps, n_documents)
        sources += left_out
        return {
            "sources": [describe_source(source) for source in sources],
            "steps": {name: as_json(counts) for name, counts in steps.items()},
        }

    read = run_stage(work, work / "staged", make)
    report_notes(Source(**source) for source in read["sources"])
    for name in given:
        clean(name)  # verifies an earlier run's shards, to which the stage links
    return read


def _drop_copies(shards: list[Path], settings: Prepare, folder: Path, steps: dict[str, StepCounts]) -> int:
    """Write the documents of the shards to `folder` without duplicates; returns the number of documents written."""
    keys: Iterator[Keys] = (key for shard in shards for key in read_keys(shard))
    stays = find_unique(keys, settings.dedup, steps)
    kept = [[next(stays) for _ in read_keys(shard)] for shard in shards]
    next(stays, None)  # runs `find_unique` once, which adds its steps even without documents
    if not settings.dedup.paragraphs:
        link_shards(folder, zip(shards, kept, strict=True))
        return sum(map(sum, kept))
    link_shards(folder / "before", zip(shards, kept, strict=True))
    count, seen = steps.setdefault(PARAGRAPHS, StepCounts()), set[bytes]()
    n_documents = 0
    for number, shard in enumerate(find_shards(folder / "before")):
        documents = drop_duplicate_paragraphs(read_shard(shard), count, seen)
        n_documents += stage_documents(documents, folder / f"{number:05d}").n_documents
    link_shards(folder, [(folder / f"{number:05d}", None) for number in range(len(shards))])
    return n_documents


def _shards_of(split: str, staged: Mapping[str, list[Shard]], plan: SplitPlan) -> list[SplitShard]:
    """Return the staged shards that may contain text of the split; at least one."""
    if split in staged:
        return [SplitShard(split, shard) for shard in staged[split]]
    shards = [SplitShard(split, shard, plan) for shard in staged["main"]]
    return [shard for shard in shards if shard.may_have_text()] or shards[:1]


def _make_tokenizer(
    given: "PreTrainedTokenizerBase | None", train: Sequence[SplitShard], stage: Path, settings: Prepare, work: Path
) -> tuple["PreTrainedTokenizerBase", list[str]]:
    """Return the given tokenizer, or one trained on a sample of the train split, and notes on added tokens."""
    notes = [] if given is None else ensure_special_tokens(given)

    def make(folder: Path) -> Facts:
        tokenizer = given
        if tokenizer is None:
            from llmkit.tokens.training_tokenizers import train_tokenizer  # loads transformers

            share = _training_share(stage, settings)
            of = f" on {share:.1%} of the text" if share < 1 else ""
            console.info(f"training a {settings.tokenizer.kind} tokenizer{of}")
            n_bytes = sum(total.n_bytes for total in read_totals(stage))
            require_address_space(TRAINING_MEMORY_FACTOR * int(share * n_bytes), "training the tokenizer")
            documents = (document for text in train for document in text.read())
            with defer_signals("the tokenizer is trained"):
                tokenizer = train_tokenizer(_sample_texts(documents, share), settings.tokenizer)
        tokenizer.save_pretrained(folder)
        return {}

    folder = work / FOLDER / "tokenizer"
    run_stage(work, folder, make)
    return load_tokenizer(str(folder)) if given is None else given, notes  # loaded, as in a resumed run


def _training_share(stage: Path, settings: Prepare) -> float:
    """Return the fraction of the train split that the tokenizer is trained on; `max_train_bytes` limits memory."""
    totals = [(total.n_bytes, total.n_chars) for total in read_totals(stage)]
    n_bytes, n_characters = sum(pair[0] for pair in totals), sum(pair[1] for pair in totals)
    limit = float(settings.tokenizer.max_train_bytes)
    if settings.tokenizer.reads_bytes:
        three_byte_share = min(1.0, (n_bytes - n_characters) / 2 / max(1, n_characters))
        limit /= 1 + CHINESE_MEMORY_FACTOR * three_byte_share
    return min(1.0, limit / max(1.0, n_bytes * (1 - settings.split.validation - settings.split.test)))


def _sample_texts(documents: Iterable[Document], share: float) -> Iterator[str]:
    """Yield the first `share` of every chunk. Chunks are short, because training doubles each in memory."""
    for document in documents:
        start = 0
        while start < len(document.text):
            line_end = document.text.find("\n", start + TRAINING_CHUNK, start + 2 * TRAINING_CHUNK)
            end = line_end + 1 if line_end >= 0 else start + 2 * TRAINING_CHUNK
            chunk = document.text[start:end]
            yield chunk if share >= 1 else chunk[: max(1, int(len(chunk) * share))]
            start = end


def _encode(
    map_shards: MapShards, encode: partial[Facts], texts: Sequence[SplitShard], work: Path, counts: TextCounts
) -> Iterator[Path]:
    """Tokenize the shards of a split; yields their folders, and adds their counts and words to `counts`."""
    split = texts[0].split
    tasks = [(work / "encoded" / f"encoded-{split}-{n:05d}", text) for n, text in enumerate(texts)]
    facts = _progress_bar(f"tokenizing {split}", map_shards(encode, tasks), len(tasks))
    for (folder, _), found in zip(tasks, facts, strict=True):
        counts.update(TextCounts(**{name: Counter(each) for name, each in found.items()}))
        yield folder
    add_words(counts.totals, counts.words)


def _describe_split(folder: Path, counts: TextCounts, *, sentences: bool) -> Facts:
    """Return the totals of a written split for the manifest; checks that no token is lost."""
    totals = counts.totals
    if not totals["tokens"]:
        hint = "give more text, or disable the held-out splits: -s prepare.split.validation=0 -s prepare.split.test=0"
        raise DataError(f"no text is left for the {folder.name} split", where="prepare.split", hint=hint)
    stored = len(Split(folder).stream)
    if stored != totals["tokens"]:
        raise AssertionError(f"{folder.name}: {totals['tokens']} tokens went in, {stored} came out")
    digest = hash_text("\n".join(Split(folder).table.column("hash").to_pylist()))
    found = {"sentences_hash": Split(folder).hash_sentences()} if sentences else {}
    unknown = {"unknown_examples": counts.unknown_examples()} if totals["unknown_tokens"] else {}
    return {**totals, **unknown, "documents_hash": digest, **found}


def _note_small(splits: Mapping[str, Facts], user_splits: Mapping[str, str]) -> list[str]:
    """Return a sentence per held-out split that is too small to measure anything, except the user's own splits."""
    return [
        f"the {name} split has only {facts['characters']:,} characters, too few for reliable metrics; give more text, "
        f"or raise prepare.split.{name}"
        for name, facts in splits.items()
        if name != "train" and name not in user_splits and facts["characters"] < MIN_HELD_OUT_CHARS
    ]


def _compare_splits(
    map_shards: MapShards, texts: Mapping[str, Sequence[SplitShard]], n_bytes: Mapping[str, int], folder: Path
) -> Facts:
    """Return the overlap of each held-out split with the train split.

    `n_bytes` has the size of each held-out split; `folder` stores the sampled hashes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    windows: list[tuple[Path, int]] = []
    for name, size in n_bytes.items():
        sampled = map_shards(partial(sample_shard, size), texts[name])
        hashes, every = merge_windows(_progress_bar(f"sampling {name}", sampled, len(texts[name])))
        windows.append((folder / f"{name}.npy", every))
        np.save(windows[-1][0], hashes)
    masks: list[Any] = [np.zeros(len(np.load(path)), bool) for path, _ in windows]
    train = texts["train"] if windows else []
    for found in _progress_bar("comparing splits", map_shards(partial(match_shard, windows), train), len(train)):
        masks = [mask | more for mask, more in zip(masks, found, strict=True)]
    pairs = zip(n_bytes, masks, windows, strict=True)
    return {name: as_json(count_overlap(mask, every)) for name, mask, (_, every) in pairs}


def _samples(train: Path, tokenizer: "PreTrainedTokenizerBase") -> list[str]:
    """Return decoded passages from three places of the train split, as the model sees them."""
    stream = Split(train).stream
    starts = [len(stream) * n // N_SAMPLES for n in range(N_SAMPLES)]
    length = min(SAMPLE_TOKENS, len(stream))
    return [str(tokenizer.decode(stream.read(start, length).tolist())) for start in starts]
