"""The stages of a prepared folder, one after the other: staged text, tokenizer, splits, overlap, and the receipt.

Every pass over the text is mapped over its shards (shards.py), by whichever executor; with one worker, in this
process. What depends on the order of all documents is done here: which copy is the first, the split, training the
tokenizer, joining the rows. Cleaned text is staged on disk once, because three passes need it, so memory stays flat.
Each stage is finished for itself, so that a run that is stopped need not begin at the beginning; see staging_dir.py.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llmkit.config.prepare import Prepare
from llmkit.core import console
from llmkit.core.errors import DataError
from llmkit.core.machine import describe_versions
from llmkit.core.progress import ProgressBar
from llmkit.datasets.rows import add_words, can_mask
from llmkit.preparing.executors import MapShards
from llmkit.preparing.shards import (
    as_json,
    clean_shard,
    cut_files,
    encode_shard,
    match_shard,
    sample_shard,
)
from llmkit.preparing.staging_dir import FOLDER, Facts, finished_files, run_stage
from llmkit.runs.stopping import defer_signals
from llmkit.text.chinese_words import choose_word_cutter
from llmkit.text.dedup import PARAGRAPHS, Keys, drop_paragraphs, keep_first
from llmkit.text.documents import Document, StepCounts, hash_text
from llmkit.text.overlap import count_overlap, merge_windows
from llmkit.text.sources import Source, find_files, require_documents
from llmkit.text.splitting import SplitPlan, SplitShard, plan_split
from llmkit.text.staging import (
    Shard,
    find_shards,
    link_shards,
    read_keys,
    read_others,
    read_shard,
    read_totals,
    sample_shards,
    slice_shards,
    stage_documents,
)
from llmkit.tokens.encoding_tokenizer import load_encoding_tokenizer, save_encoding_tokenizer
from llmkit.tokens.fast_encoding import check_encoder
from llmkit.tokens.store import Split, join_splits
from llmkit.tokens.tokenizer import ensure_special_tokens, fingerprint_tokenizer, id_dtype, load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SPLITS = ("train", "validation", "test")
CHECKED_CHARACTERS, CHECKED_STRETCH = 500_000, 20_000
"""Of the sample on which the fast encoder is checked: at most so many, from stretches of this length."""
TRAINING_CHUNK = 25_000
CHINESE_COSTS = 15
"""BPE training holds every different run between spaces or punctuation; in Chinese nearly all differ. Measured:
88 bytes of memory a byte of Chinese, 4 a byte of English."""
N_SAMPLES = 3
SAMPLE_TOKENS = 48


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the user gave."""

    files: Sequence[str]
    own: dict[str, str]
    """Files by split."""
    tokenizer: "PreTrainedTokenizerBase | None" = None
    """None where one is to be trained."""


def build_prepared(inputs: Inputs, settings: Prepare, work: Path, map_shards: MapShards) -> Facts:
    """Fill `folder/` of the place that `staging_dir` gives; the manifest's contents.

    Two runs on the same input write the same bytes, stopped in between or not, on whatever executor.

    Raises:
        DataError: unreadable input, or nothing left after cleaning.
    """
    folder, stage = work / FOLDER, work / "staged"
    given = {"main": inputs.files} | {split: find_files([path]) for split, path in inputs.own.items()}
    read = _stage_texts(map_shards, given, settings, work)
    staged = {name: slice_shards(find_shards(stage / name)) for name in given}
    plan = plan_split(read_totals(stage / "main"), settings.split)
    names = [name for name in SPLITS if name in plan.names or name in inputs.own]
    texts = {name: _shards_of(name, staged, plan) for name in names}
    tokenizer, notes = _make_tokenizer(inputs.tokenizer, texts["train"], stage / "main", settings, work)
    cutter = _word_cutter(settings, tokenizer)

    @cache
    def encode() -> partial[Facts]:
        """`encode_shard`, as it is for all splits: the fast encoder is checked once a run."""
        bare, shards = save_encoding_tokenizer(tokenizer, work), [shard for name in given for shard in staged[name]]
        sample = sample_shards(shards, CHECKED_CHARACTERS, CHECKED_STRETCH)
        characters = set().union(*map(read_others, shards))
        check = check_encoder(load_encoding_tokenizer(bare), sample, characters, with_offsets=cutter is not None)
        return partial(encode_shard, bare, check, cutter, work)

    def store(folder: Path) -> Facts:
        totals: Counter[str] = Counter(documents=0, characters=0, bytes=0, tokens=0, unknown_tokens=0)
        parts = _encode(map_shards, encode(), texts[folder.name], work, totals)
        join_splits(folder, parts, id_dtype(tokenizer), sentences=cutter is not None)
        return _describe_split(folder, totals, sentences=cutter is not None)

    splits = {name: run_stage(work, folder / name, store) for name in names}

    def compare(_: Path) -> Facts:
        n_bytes = {name: splits[name]["bytes"] for name in names[1:]}
        return _compare_splits(map_shards, texts, n_bytes, work / "windows")

    overlap = run_stage(work, work / "overlap", compare)
    n_bytes = sum(split["bytes"] for split in splits.values())
    n_tokens = sum(split["tokens"] for split in splits.values())
    return {
        "versions": describe_versions(),
        **read,
        "split_by": plan.by,
        "splits": splits,
        "sentences": None if cutter is None else {"chinese_words": cutter},
        "overlap": overlap,
        "bytes_per_token": n_bytes / n_tokens,
        "tokenizer": {
            "kind": settings.tokenizer.path or settings.tokenizer.kind,
            "vocab_size": len(tokenizer),
            "fingerprint": fingerprint_tokenizer(tokenizer),
        },
        "notes": notes,
        "samples": _samples(folder / "train", tokenizer),
        "files": finished_files(work),
    }


def planned_word_cutter(settings: Prepare) -> str | None:
    """What `_word_cutter` may be, before there is a tokenizer."""
    wanted = settings.tokenizer.may_mask if settings.sentences == "auto" else settings.sentences
    return choose_word_cutter(settings.chinese_words) if wanted else None


def _watch(what: str, results: Iterable[Any], n_tasks: int) -> Iterator[Any]:
    """Pass results through and show how many of them are there, on a terminal."""
    with ProgressBar(what, "shards", n_tasks) as bar:
        for result in results:
            yield result
            bar.add(1)


def _stage_texts(map_shards: MapShards, given: Mapping[str, Sequence[str]], settings: Prepare, work: Path) -> Facts:
    """Stage the inputs in `main` and each split of the user's own under its name; the receipt's part on reading."""

    @cache
    def clean(name: str) -> list[tuple[Path, Facts]]:
        """Where each shard is staged, and what was read and cleaned."""
        groups = cut_files(given[name])
        tasks = [(work / "cleaned" / f"cleaned-{name}-{n:05d}", group) for n, group in enumerate(groups)]
        run = partial(clean_shard, settings, work, len(groups) == 1)
        facts = _watch(f"reading and cleaning {name}", map_shards(run, tasks), len(tasks))
        return [(folder, each) for (folder, _), each in zip(tasks, facts, strict=True)]

    def make(stage: Path) -> Facts:
        sources: list[Source] = []
        steps: dict[str, StepCounts] = {}
        for name in given:
            _join_shards(clean(name), settings, stage / name, sources, steps if name == "main" else {})
        return {
            "sources": [as_json(source) for source in sources],
            "steps": {name: as_json(counts) for name, counts in steps.items()},
        }

    read = run_stage(work, work / "staged", make)
    for name in given:
        clean(name)  # a former run's shards are checked, for it is them that the stage refers to
    return read


def _join_shards(
    shards: Sequence[tuple[Path, Facts]],
    settings: Prepare,
    folder: Path,
    sources: list[Source],
    steps: dict[str, StepCounts],
) -> None:
    """Make `folder` the cleaned shards without copies; adds to `sources`, and to `steps` what each step did.

    Raises:
        DataError: no document is left.
    """
    for _, facts in shards:
        sources += [Source(**source | {"skipped": Counter(source["skipped"])}) for source in facts["sources"]]
        for step, counts in facts["steps"].items():
            _add_counts(steps.setdefault(step, StepCounts()), counts)
    require_documents(sources, steps, _drop_copies([shard for shard, _ in shards], settings, folder, steps))


def _add_counts(count: StepCounts, more: dict[str, Any]) -> None:
    """A Counter keeps the order in which its names first came, in shards as in one."""
    count.documents_in += more["documents_in"]
    count.documents_out += more["documents_out"]
    count.changed += more["changed"]
    count.dropped.update(more["dropped"])
    count.removed.update(more["removed"])


def _drop_copies(shards: list[Path], settings: Prepare, folder: Path, steps: dict[str, StepCounts]) -> int:
    """Make `folder` the shards' documents without copies; how many there are."""
    keys: Iterator[Keys] = (key for shard in shards for key in read_keys(shard))
    stays = keep_first(keys, settings.dedup, steps)
    kept = [[next(stays) for _ in read_keys(shard)] for shard in shards]
    next(stays, None)  # without any document too, the steps are counted
    if not settings.dedup.paragraphs:
        link_shards(folder, zip(shards, kept, strict=True))
        return sum(map(sum, kept))
    link_shards(folder / "before", zip(shards, kept, strict=True))
    count, seen = steps.setdefault(PARAGRAPHS, StepCounts()), set[bytes]()
    n_documents = 0
    for number, shard in enumerate(find_shards(folder / "before")):
        documents = drop_paragraphs(read_shard(shard), count, seen)
        n_documents += stage_documents(documents, folder / f"{number:05d}").n_documents
    link_shards(folder, [(folder / f"{number:05d}", None) for number in range(len(shards))])
    return n_documents


def _shards_of(split: str, staged: Mapping[str, list[Shard]], plan: SplitPlan) -> list[SplitShard]:
    """Those of all staged shards that may have text of the split; at least one."""
    if split in staged:
        return [SplitShard(split, shard) for shard in staged[split]]
    shards = [SplitShard(split, shard, plan) for shard in staged["main"]]
    return [shard for shard in shards if shard.may_have_text()] or shards[:1]


def _make_tokenizer(
    given: "PreTrainedTokenizerBase | None", train: Sequence[SplitShard], stage: Path, settings: Prepare, work: Path
) -> tuple["PreTrainedTokenizerBase", list[str]]:
    """The tokenizer, trained on an even sample of the train split or taken as it is, and what was added to it."""
    folder = work / FOLDER / "tokenizer"
    if given is not None:
        notes = ensure_special_tokens(given)
        run_stage(work, folder, lambda folder: _save(given, folder))
        return given, notes

    def make(folder: Path) -> Facts:
        from llmkit.tokens.training_tokenizers import train_tokenizer  # loads transformers

        share = _training_share(stage, settings)
        of = f" on {share:.1%} of the text" if share < 1 else ""
        console.info(f"training a {settings.tokenizer.kind} tokenizer{of}")
        documents = (document for text in train for document in text.read())
        with defer_signals("the tokenizer is trained"):
            trained = train_tokenizer(_sample_texts(documents, share), settings.tokenizer)
        return _save(trained, folder)

    run_stage(work, folder, make)
    return load_tokenizer(str(folder)), []  # as a run finds it that goes on from here


def _save(tokenizer: "PreTrainedTokenizerBase", folder: Path) -> Facts:
    tokenizer.save_pretrained(folder)
    return {}


def _training_share(stage: Path, settings: Prepare) -> float:
    """How much of the train split the tokenizer is trained on, so that memory stays in bounds."""
    totals = [(total.n_bytes, total.n_chars) for total in read_totals(stage)]
    n_bytes, n_characters = sum(pair[0] for pair in totals), sum(pair[1] for pair in totals)
    limit = float(settings.tokenizer.max_train_bytes)
    if settings.tokenizer.reads_bytes:
        three_byte_share = min(1.0, (n_bytes - n_characters) / 2 / max(1, n_characters))
        limit /= 1 + CHINESE_COSTS * three_byte_share
    return min(1.0, limit / max(1.0, n_bytes * (1 - settings.split.validation - settings.split.test)))


def _sample_texts(documents: Iterable[Document], share: float) -> Iterator[str]:
    """The first `share` of every chunk: an even sample. Chunks are short, as training doubles each in memory."""
    for document in documents:
        start = 0
        while start < len(document.text):
            line_end = document.text.find("\n", start + TRAINING_CHUNK, start + 2 * TRAINING_CHUNK)
            end = line_end + 1 if line_end >= 0 else start + 2 * TRAINING_CHUNK
            chunk = document.text[start:end]
            yield chunk if share >= 1 else chunk[: max(1, int(len(chunk) * share))]
            start = end


def _word_cutter(settings: Prepare, tokenizer: "PreTrainedTokenizerBase") -> str | None:
    """What cuts Chinese words for the columns of sentences and words; None where these are not stored."""
    wanted = can_mask(tokenizer) if settings.sentences == "auto" else settings.sentences
    return choose_word_cutter(settings.chinese_words) if wanted else None


def _encode(
    map_shards: MapShards, encode: partial[Facts], texts: Sequence[SplitShard], work: Path, totals: Counter[str]
) -> Iterator[Path]:
    """Where the rows of a split are stored, shard by shard; it fills `totals` as `encode_rows` does."""
    split = texts[0].split
    tasks = [(work / "encoded" / f"encoded-{split}-{n:05d}", text) for n, text in enumerate(texts)]
    counted: Counter[str] = Counter()
    facts = _watch(f"tokenizing {split}", map_shards(encode, tasks), len(tasks))
    for (folder, _), found in zip(tasks, facts, strict=True):
        totals.update(found["totals"])
        counted.update(found["counted"])
        yield folder
    add_words(totals, counted)


def _describe_split(folder: Path, totals: Counter[str], *, sentences: bool) -> Facts:
    """The totals of a split that was written, for the receipt. Tokens in = tokens out."""
    if not totals["tokens"]:
        hint = f"give more text, or set prepare.split.{folder.name}=0, or prepare.split.by=document"
        raise DataError(f"no text is left for the {folder.name} split", where="prepare.split", hint=hint)
    stored = len(Split(folder).stream)
    if stored != totals["tokens"]:
        raise AssertionError(f"{folder.name}: {totals['tokens']} tokens went in, {stored} came out")
    digest = hash_text("\n".join(Split(folder).table.column("hash").to_pylist()))
    found = {"sentences_hash": Split(folder).hash_sentences()} if sentences else {}
    return {**totals, "documents_hash": digest, **found}


def _compare_splits(
    map_shards: MapShards, texts: Mapping[str, Sequence[SplitShard]], n_bytes: Mapping[str, int], folder: Path
) -> Facts:
    """How much of each held-out split, given with its size, the train split has too; `folder` takes the samples."""
    folder.mkdir(parents=True, exist_ok=True)
    windows: list[tuple[Path, int]] = []
    for name, size in n_bytes.items():
        sampled = map_shards(partial(sample_shard, size), texts[name])
        hashes, every = merge_windows(_watch(f"sampling {name}", sampled, len(texts[name])))
        windows.append((folder / f"{name}.npy", every))
        np.save(windows[-1][0], hashes)
    masks: list[Any] = [np.zeros(len(np.load(path)), bool) for path, _ in windows]
    train = texts["train"] if windows else []
    for found in _watch("comparing splits", map_shards(partial(match_shard, windows), train), len(train)):
        masks = [mask | more for mask, more in zip(masks, found, strict=True)]
    pairs = zip(n_bytes, masks, windows, strict=True)
    return {name: as_json(count_overlap(mask, every)) for name, mask, (_, every) in pairs}


def _samples(train: Path, tokenizer: "PreTrainedTokenizerBase") -> list[str]:
    """Decoded beginnings from three places of the train split: what the model will really see."""
    stream = Split(train).stream
    starts = [len(stream) * n // N_SAMPLES for n in range(N_SAMPLES)]
    length = min(SAMPLE_TOKENS, len(stream))
    return [str(tokenizer.decode(stream.read(start, length).tolist())) for start in starts]
