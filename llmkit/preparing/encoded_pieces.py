"""Tokens in pieces, for an engine (engines.py): workers store the rows of a piece, which are then joined in order.

Workers load no transformers: they have a tokenizer as `save_bare` writes it, and what the fast encoder may do for the
whole text as `check_pieces` found it.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path

from llmkit.datasets.rows import add_words, encode_counted
from llmkit.preparing.engines import Map
from llmkit.preparing.prepared_pieces import watch
from llmkit.preparing.unfinished import Facts, finish_piece
from llmkit.text.splitting import SplitPiece
from llmkit.text.staging import Piece, read_others, read_piece
from llmkit.tokens.bare_tokenizer import load_bare
from llmkit.tokens.fast_encoding import Encoder, EncoderCheck, check_characters, check_text, join_checks, make_encoder
from llmkit.tokens.store import write_split
from llmkit.tokens.tokenizer import id_dtype

MAX_PARTS = 8
"""Of a text whose encoding is checked; each is compared on at least 60,000 characters, mostly of hard texts."""
MIN_CHARACTERS = 1_000
"""Compared in one task."""


@dataclass(frozen=True, slots=True)
class CheckTask:
    """Compare the fast encoder with `tokenizers` on the characters of a text, or on some of its pieces; see
    `check_part`."""

    with_offsets: bool
    tokenizer: Path
    """Of `save_bare`, here and below."""
    characters: str = ""
    pieces: Sequence[Piece] = ()
    n_parts: int = 1
    known: EncoderCheck | None = None
    """On the characters."""


@dataclass(frozen=True, slots=True)
class EncodeTask:
    """Turn a piece of a split into tokens; see `encode_piece`."""

    text: SplitPiece
    tokenizer: Path
    check: EncoderCheck
    cutter: str | None
    work: Path
    piece: Path


def check_pieces(run: Map, pieces: Sequence[Piece], tokenizer: Path, *, with_offsets: bool) -> EncoderCheck:
    """What the fast encoder may do for all the text; a line says so where it is refused."""
    characters = sorted(set(map(chr, range(128))).union(*map(read_others, pieces)))
    step = max(MIN_CHARACTERS, -(-len(characters) // MAX_PARTS))
    tasks = [
        CheckTask(with_offsets, tokenizer, "".join(characters[start : start + step]))
        for start in range(0, len(characters), step)
    ]
    known = join_checks(list(run(check_part, tasks)))
    if known.mismatched is None:
        return known
    n_parts = min(len(pieces), MAX_PARTS)
    tasks = [CheckTask(with_offsets, tokenizer, "", pieces[part::n_parts], n_parts, known) for part in range(n_parts)]
    return join_checks(list(watch("checking the fast encoder", run(check_part, tasks), n_parts)))


def check_part(task: CheckTask) -> EncoderCheck:
    """What the fast encoder may do for the task's part of the text."""
    tokenizer = load_bare(task.tokenizer)
    if task.known is None:
        return check_characters(tokenizer, task.characters, with_offsets=task.with_offsets)
    documents = chain.from_iterable(map(read_piece, task.pieces))
    return check_text(tokenizer, documents, task.n_parts, with_offsets=task.with_offsets, known=task.known)


def encode_pieces(
    run: Map,
    texts: Sequence[SplitPiece],
    tokenizer: Path,
    check: EncoderCheck,
    cutter: str | None,
    work: Path,
    totals: Counter[str],
) -> Iterator[Path]:
    """Where the rows of a split are stored, piece by piece; it fills `totals` as `encode_rows` does."""
    name = f"encoded-{texts[0].split}"
    tasks = [
        EncodeTask(text, tokenizer, check, cutter, work, work / "encoded" / f"{name}-{n:05d}")
        for n, text in enumerate(texts)
    ]
    counted: Counter[str] = Counter()
    facts = watch(f"tokenizing {texts[0].split}", run(encode_piece, tasks), len(tasks))
    for task, found in zip(tasks, facts, strict=True):
        totals.update(found["totals"])
        counted.update(found["counted"])
        yield task.piece
    add_words(totals, counted)


def encode_piece(task: EncodeTask) -> Facts:
    """Store the rows of the piece, as a split of its own."""

    def make(folder: Path) -> Facts:
        tokenizer = load_bare(task.tokenizer)
        totals: Counter[str] = Counter()
        counted: Counter[str] = Counter()
        encoder = _open_encoder(task.tokenizer, task.check)
        rows = encode_counted(task.text.read(), tokenizer, totals, counted, task.cutter, encoder)
        write_split(folder, rows, id_dtype(tokenizer), sentences=task.cutter is not None)
        return {"totals": totals, "counted": counted}

    return finish_piece(task.work, task.piece, make)


@lru_cache(maxsize=1)
def _open_encoder(tokenizer: Path, check: EncoderCheck) -> Encoder:
    """Once in a worker's life."""
    return make_encoder(load_bare(tokenizer), check)
