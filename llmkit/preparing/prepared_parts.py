"""The parts of a prepared folder, one after the other: staged text, tokenizer, splits, and the receipt over them.

Cleaned text is staged on disk once, because three passes need it: the split wants lengths, the
tokenizer wants the train split, and encoding wants the tokenizer. Memory stays flat throughout.
Each part is finished for itself, so that a run that is stopped need not begin at the beginning; see unfinished.py.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmkit.config.prepare import Prepare
from llmkit.core.errors import DataError, say
from llmkit.core.machine import describe_versions
from llmkit.core.progress import Meter
from llmkit.datasets.rows import can_mask, encode_rows
from llmkit.preparing.encoded_pieces import check_pieces, encode_pieces
from llmkit.preparing.engines import Map
from llmkit.preparing.prepared_pieces import (
    CleanedPiece,
    as_json,
    clean_pieces,
    compare_pieces,
    stage_pieces,
)
from llmkit.preparing.unfinished import FOLDER, Facts, finish_part, finished_files
from llmkit.runs.stopping import watch_signals
from llmkit.text.chinese_words import choose_word_cutter
from llmkit.text.cleaners import clean_documents
from llmkit.text.dedup import deduplicate
from llmkit.text.documents import Document, StepCounts, hash_text
from llmkit.text.look import look_at
from llmkit.text.overlap import find_overlap
from llmkit.text.readers import read_documents
from llmkit.text.sources import Source, find_files, require_documents
from llmkit.text.splitting import SplitPiece, plan_split
from llmkit.text.staging import Piece, find_pieces, read_totals, slice_pieces, stage_documents
from llmkit.tokens.bare_tokenizer import save_bare
from llmkit.tokens.fast_encoding import Encoder, EncoderCheck, choose_encoder
from llmkit.tokens.store import Split, join_splits, write_split
from llmkit.tokens.tokenizer import ensure_special_tokens, fingerprint_tokenizer, id_dtype, load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SPLITS = ("train", "validation", "test")
TRAINING_PIECE = 25_000
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


def build_prepared(inputs: Inputs, settings: Prepare, work: Path, run: Map | None = None) -> Facts:
    """Fill `folder/` of the place that `unfinished_folder` gives; the manifest's contents.

    With `run` an engine does the work, in pieces. Two runs on the same input write
    the same bytes, stopped in between or not, on whatever engine.

    Raises:
        DataError: unreadable input, or nothing left after cleaning.
    """
    folder, stage, own = work / FOLDER, work / "staged", inputs.own
    given = {"main": inputs.files} | {split: find_files([path]) for split, path in own.items()}
    cleaned = run and {name: clean_pieces(run, paths, settings, name, work) for name, paths in given.items()}
    read = finish_part(work, stage, lambda part: _stage_all(given, settings, part, cleaned or {}))
    plan = plan_split(read_totals(stage / "main"), settings.split)
    names = [name for name in SPLITS if name in plan.names or name in own]

    def pieces_of(split: str) -> list[SplitPiece]:
        """Of a text that was staged in this process, one."""
        if split in own:
            return [SplitPiece(split, piece) for piece in staged_pieces(split)]
        pieces = [SplitPiece(split, piece, plan) for piece in staged_pieces("main")]
        return [piece for piece in pieces if piece.may_have_text()] or pieces[:1]

    def staged_pieces(name: str) -> list[Piece]:
        return find_pieces(stage / name) if run is None else slice_pieces(find_pieces(stage / name))

    def documents_of(split: str) -> Iterator[Document]:
        return (document for piece in pieces_of(split) for document in piece.read())

    def encode(folder: Path, totals: Counter[str]) -> None:
        split, dtype, sentences = folder.name, id_dtype(tokenizer), cutter is not None
        if run is not None:
            parts = encode_pieces(run, pieces_of(split), bare(), check(), cutter, work, totals)
            join_splits(folder, parts, dtype, sentences=sentences)
            return
        with Meter(f"tokenizing {split}") as meter:
            documents = _count_bytes(documents_of(split), meter)
            rows = encode_rows(documents, tokenizer, totals, cutter, encoder())
            write_split(folder, rows, dtype, sentences=sentences)

    @cache
    def encoder() -> Encoder:
        """What makes ids of all splits."""
        texts = (text for name in names for text in documents_of(name))
        return choose_encoder(tokenizer, texts, with_offsets=cutter is not None)

    @cache
    def bare() -> Path:
        return save_bare(tokenizer, work)

    @cache
    def check() -> EncoderCheck:
        """What the fast encoder may do in workers."""
        assert run is not None
        pieces = [piece for name in ("main", *own) for piece in staged_pieces(name)]
        return check_pieces(run, pieces, bare(), with_offsets=cutter is not None)

    def store(part: Path) -> Facts:
        return _store(part, encode, sentences=cutter is not None)

    def compare_texts(part: Path) -> Facts:
        if run is not None:
            held_out = {name: (pieces_of(name), splits[name]["bytes"]) for name in names[1:]}
            found = compare_pieces(run, pieces_of("train"), held_out, work / "windows")
        else:
            overlaps = find_overlap(
                documents_of("train"), *((documents_of(name), splits[name]["bytes"]) for name in names[1:])
            )
            found = dict(zip(names[1:], overlaps, strict=True))
        return {name: as_json(overlap) for name, overlap in found.items()}

    tokenizer, notes = _make_tokenizer(inputs.tokenizer, documents_of("train"), stage / "main", settings, work)
    cutter = _word_cutter(settings, tokenizer)
    splits = {name: finish_part(work, folder / name, store) for name in names}
    overlap = finish_part(work, work / "overlap", compare_texts)
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
    may_mask = settings.tokenizer.path is not None or settings.tokenizer.kind == "wordpiece"
    wanted = may_mask if settings.sentences == "auto" else settings.sentences
    return choose_word_cutter(settings.chinese_words) if wanted else None


def _stage_all(
    given: dict[str, Sequence[str]], settings: Prepare, stage: Path, cleaned: dict[str, list[CleanedPiece]]
) -> Facts:
    """Stage the inputs in `main` and each split of the user's own under its name; the receipt's part on reading."""
    sources: list[Source] = []
    steps: dict[str, StepCounts] = {}
    for name, files in given.items():
        counts = steps if name == "main" else {}
        if name in cleaned:
            stage_pieces(cleaned[name], settings, stage / name, sources, counts)
        else:
            _stage(files, settings, stage / name, sources, counts)
    return {
        "sources": [as_json(source) for source in sources],
        "steps": {name: as_json(counts) for name, counts in steps.items()},
    }


def _stage(
    files: Sequence[str], settings: Prepare, folder: Path, sources: list[Source], steps: dict[str, StepCounts]
) -> None:
    """Read, clean and de-duplicate into `folder`."""
    documents: Iterable[Document] = read_documents(files, settings.read, sources)
    documents = clean_documents(documents, settings.clean, settings.read.strict, steps)
    documents = deduplicate(documents, settings.dedup, steps)
    with Meter("reading and cleaning") as meter:
        totals = stage_documents(_count_bytes(documents, meter), folder)
    require_documents(sources, steps, totals.n_documents)


def _count_bytes(documents: Iterable[Document], meter: Meter) -> Iterator[Document]:
    """Pass documents through and show how much they are."""
    for document in documents:
        yield document
        if meter.is_shown:
            meter.add(len(look_at(document.text).utf8))


def _make_tokenizer(
    given: "PreTrainedTokenizerBase | None", documents: Iterable[Document], stage: Path, settings: Prepare, work: Path
) -> tuple["PreTrainedTokenizerBase", list[str]]:
    """The tokenizer, trained on an even sample of the train split or taken as it is, and what was added to it."""
    part = work / FOLDER / "tokenizer"
    if given is not None:
        notes = ensure_special_tokens(given)
        finish_part(work, part, lambda folder: _save(given, folder))
        return given, notes

    def train(folder: Path) -> Facts:
        from llmkit.tokens.training_tokenizers import train_tokenizer  # loads transformers

        share = _training_share(stage, settings)
        of = f" on {share:.1%} of the text" if share < 1 else ""
        say(f"training a {settings.tokenizer.kind} tokenizer{of}")
        with watch_signals("the tokenizer is trained"):
            trained = train_tokenizer(_sample_texts(documents, share), settings.tokenizer)
        return _save(trained, folder)

    finish_part(work, part, train)
    return load_tokenizer(str(part)), []  # as a run finds it that goes on from here


def _save(tokenizer: "PreTrainedTokenizerBase", folder: Path) -> Facts:
    tokenizer.save_pretrained(folder)
    return {}


def _training_share(stage: Path, settings: Prepare) -> float:
    """How much of the train split the tokenizer is trained on, so that memory stays in bounds."""
    totals = [(total.n_bytes, total.n_chars) for total in read_totals(stage)]
    n_bytes, n_characters = sum(pair[0] for pair in totals), sum(pair[1] for pair in totals)
    limit = float(settings.tokenizer.max_train_bytes)
    if settings.tokenizer.kind == "byte-bpe":
        three_byte_share = min(1.0, (n_bytes - n_characters) / 2 / max(1, n_characters))
        limit /= 1 + CHINESE_COSTS * three_byte_share
    return min(1.0, limit / max(1.0, n_bytes * (1 - settings.split.validation - settings.split.test)))


def _sample_texts(documents: Iterable[Document], share: float) -> Iterator[str]:
    """The first `share` of every piece: an even sample. Pieces are short, as training doubles each in memory."""
    for document in documents:
        start = 0
        while start < len(document.text):
            line_end = document.text.find("\n", start + TRAINING_PIECE, start + 2 * TRAINING_PIECE)
            end = line_end + 1 if line_end >= 0 else start + 2 * TRAINING_PIECE
            piece = document.text[start:end]
            yield piece if share >= 1 else piece[: max(1, int(len(piece) * share))]
            start = end


def _word_cutter(settings: Prepare, tokenizer: "PreTrainedTokenizerBase") -> str | None:
    """What cuts Chinese words for the columns of sentences and words; None where these are not stored."""
    wanted = can_mask(tokenizer) if settings.sentences == "auto" else settings.sentences
    return choose_word_cutter(settings.chinese_words) if wanted else None


def _store(folder: Path, encode: Callable[[Path, Counter[str]], None], *, sentences: bool) -> dict[str, Any]:
    """Encode and write one split; its totals for the receipt. Tokens in = tokens out."""
    totals: Counter[str] = Counter(documents=0, characters=0, bytes=0, tokens=0, unknown_tokens=0)
    encode(folder, totals)
    if not totals["tokens"]:
        hint = f"give more text, or set prepare.split.{folder.name}=0, or prepare.split.by=document"
        raise DataError(f"no text is left for the {folder.name} split", where="prepare.split", hint=hint)
    stored = len(Split(folder).stream)
    if stored != totals["tokens"]:
        raise AssertionError(f"{folder.name}: {totals['tokens']} tokens went in, {stored} came out")
    digest = hash_text("\n".join(Split(folder).table.column("hash").to_pylist()))
    found = {"sentences_hash": Split(folder).hash_sentences()} if sentences else {}
    return {**totals, "documents_hash": digest, **found}


def _samples(train: Path, tokenizer: "PreTrainedTokenizerBase") -> list[str]:
    """Decoded beginnings from three places of the train split: what the model will really see."""
    stream = Split(train).stream
    starts = [len(stream) * n // N_SAMPLES for n in range(N_SAMPLES)]
    length = min(SAMPLE_TOKENS, len(stream))
    return [str(tokenizer.decode(stream.read(start, length).tolist())) for start in starts]
