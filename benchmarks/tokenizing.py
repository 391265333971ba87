"""Text to ids: the encoder of `prepare` compared with `tokenizers`, per kind of tokenizer, on one core.

    taskset -c 0 python benchmarks/tokenizing.py --texts books/ novels/ --json tokenizing.json

Each of --texts is a file or folder and gives one row per kind; the default is Python's own documentation. --vocab adds
BERT's tokenizer for each vocab.txt. `first` starts with an empty cache of chunks, `later` encodes the same text again.
`offsets` computes starts and words too, which BERT's sentences need. All ids, starts and words are compared; a
difference ends the run. The check that `prepare` makes beforehand is not timed here. The two alternate.
"""

import argparse
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
from turns import Row, finish, make_row, take_turns

from llmkit.config.prepare import Read, TokenizerSection
from llmkit.core.batching import batch_by_size
from llmkit.text.documents import Document
from llmkit.text.readers import read_documents
from llmkit.tokens.fast_encoding import (
    Encoder,
    EncoderCheck,
    check_encoder,
    make_encoder,
    make_encoding_tokenizer,
    plain_encoder,
)
from llmkit.tokens.loading import load_tokenizer
from llmkit.tokens.training_tokenizers import train_tokenizer

KINDS = ("byte-bpe", "wordpiece", "char", "word")
CHARACTERS_AT_ONCE = 500_000
"""Number of characters that are encoded at a time, as in `prepare`."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", nargs="+", default=["builtin:python-docs"])
    parser.add_argument("--vocab", type=Path, nargs="*", default=[], help="vocab.txt files")
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=list(KINDS))
    parser.add_argument("--vocab-size", type=int, default=16_384)
    parser.add_argument("--megabytes", type=float, default=8)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one core each
    finish([row for name in options.texts for row in measure_text(name, options)], options)


def measure_text(name: str, options: argparse.Namespace) -> list[Row]:
    documents = list(cut_documents(read_documents([name], Read(), []), options.megabytes))
    texts = [document.text for document in documents]
    rows = []
    for tokenizer_name in [*options.kinds, *map(str, options.vocab)]:
        if tokenizer_name in KINDS:
            section = TokenizerSection.model_validate({"kind": tokenizer_name, "vocab_size": options.vocab_size})
            tokenizer = train_tokenizer(texts, section)
        else:
            tokenizer = load_tokenizer(tokenizer_name)
        for with_offsets in (False, True) if tokenizer.mask_token else (False,):
            bare = make_encoding_tokenizer(tokenizer)
            check = check_encoder(bare, texts, set().union(*texts), with_offsets=with_offsets)
            if check.mismatched is None:
                raise SystemExit(f"{tokenizer_name}: there is no fast encoder for it")
            label = f"{tokenizer_name}, {Path(name).name}{', offsets' if with_offsets else ''}"
            rows += measure_encoders(
                label, partial(open_encoder, tokenizer, check), texts, with_offsets, options.rounds
            )
    return rows


def open_encoder(tokenizer: Any, check: EncoderCheck) -> tuple[Encoder, Encoder]:
    """A new fast encoder with an empty cache, and the encoder of `tokenizers`."""
    bare = make_encoding_tokenizer(tokenizer)
    return make_encoder(bare, check), plain_encoder(bare)


def measure_encoders(
    label: str, opened: Callable[[], tuple[Encoder, Encoder]], texts: Sequence[str], with_offsets: bool, rounds: int
) -> list[Row]:
    n_bytes = sum(len(text.encode()) for text in texts)
    results: dict[str, list[Any]] = {}
    warm: list[Encoder] = []

    def time_encoding(name: str) -> float:
        if name == "later":
            encoder = warm[-1]
        else:
            fast, slow = opened()
            encoder = slow if name == "tokenizers" else fast
            warm.append(fast)
            encode(encoder, texts[:0], with_offsets)
        started = process_time()
        results[name] = encode(encoder, texts, with_offsets)
        seconds = process_time() - started
        if name == "first":
            warm[:] = [encoder]
        return n_bytes / 1e6 / seconds

    names = ("tokenizers", "first", "later")
    figures = take_turns({name: partial(time_encoding, name) for name in names}, rounds)
    for name in names[1:]:
        equal = all(map(np.array_equal, results[name], results["tokenizers"]))
        if not equal or len(results[name]) != len(results["tokenizers"]):
            raise SystemExit(f"{label}: other ids than tokenizers'")
    return [
        make_row(f"{label}, {name}", {"llmkit": figures[name], "tokenizers": figures["tokenizers"]}, unit="MB/s")
        for name in names[1:]
    ]


def encode(encoder: Encoder, texts: Sequence[str], with_offsets: bool) -> list[Any]:
    """All arrays, one text after another."""
    found: list[Any] = []
    for batch in batch_by_size(texts, len, CHARACTERS_AT_ONCE):
        if with_offsets:
            found += [array for aligned in encoder.encode_with_offsets(batch) for array in aligned]
        else:
            found += encoder.encode(batch)
    return found


def cut_documents(documents: Any, megabytes: float) -> list[Document]:
    """Documents up to a number of megabytes; the last is cut."""
    kept, left = [], int(megabytes * 1e6)
    for document in documents:
        data = document.text.encode()[:left]
        left -= len(data)
        kept.append(Document(data.decode(errors="ignore"), document.source, document.index))
        if left <= 0:
            break
    return kept


if __name__ == "__main__":
    main()
