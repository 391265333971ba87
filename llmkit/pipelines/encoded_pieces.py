"""Tokens in pieces, for an engine (engines.py): workers store the rows of a piece, which are then joined in order."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from llmkit.pipelines.engines import Map
from llmkit.pipelines.prepared_pieces import watch
from llmkit.pipelines.unfinished import Facts, finish_piece
from llmkit.text.splitting import SplitPiece
from llmkit.tokens.fast_encoding import choose_encoder
from llmkit.tokens.rows import add_words, encode_counted
from llmkit.tokens.store import Row, Split, write_split
from llmkit.tokens.tokenizer import id_dtype, load_tokenizer


@dataclass(frozen=True, slots=True)
class EncodeTask:
    """Turn a piece of a split into tokens; see `encode_piece`."""

    text: SplitPiece
    tokenizer: Path
    cutter: str | None
    work: Path
    piece: Path


def encode_pieces(
    run: Map, texts: Sequence[SplitPiece], tokenizer: Path, cutter: str | None, work: Path, totals: Counter[str]
) -> Iterator[Row]:
    """The rows of a split, as `encode_rows` gives them; it fills `totals` too."""
    name = f"encoded-{texts[0].split}"
    tasks = [
        EncodeTask(text, tokenizer, cutter, work, work / "encoded" / f"{name}-{n:05d}") for n, text in enumerate(texts)
    ]
    counted: Counter[str] = Counter()
    facts = watch(f"tokenizing {texts[0].split}", run(encode_piece, tasks), len(tasks))
    for task, found in zip(tasks, facts, strict=True):
        totals.update(found["totals"])
        counted.update(found["counted"])
        yield from Split(task.piece).rows()
    add_words(totals, counted)


def encode_piece(task: EncodeTask) -> Facts:
    """Store the rows of the piece, as a split of its own."""

    def make(folder: Path) -> Facts:
        tokenizer = load_tokenizer(str(task.tokenizer))
        totals: Counter[str] = Counter()
        counted: Counter[str] = Counter()
        encode = choose_encoder(tokenizer, task.text.read()) if task.cutter is None else None
        rows = encode_counted(task.text.read(), tokenizer, totals, counted, task.cutter, encode)
        write_split(folder, rows, id_dtype(tokenizer), sentences=task.cutter is not None)
        return {"totals": totals, "counted": counted}

    return finish_piece(task.work, task.piece, make)
