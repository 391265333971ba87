"""Synthetic text over a vocabulary of any size, prepared: the cost of a step does not depend on the content."""

import random
from itertools import accumulate
from pathlib import Path

from turns import call_llmkit

FIRST_CHARACTER = 0x4E00
"""From here on characters stand close together, one form each: 21,000 of Chinese, and then of Korean."""
KOREAN = 0xAC00


def prepare_made_text(folder: Path, vocab_size: int, n_characters: int) -> Path:
    """A prepared folder under `folder`: one token per character, `vocab_size` tokens including the special ones."""
    data = folder / f"made-{vocab_size}-{n_characters}"
    if not data.exists():
        source = folder / f"{data.name}.txt"
        write_text(source, vocab_size, n_characters)
        call_llmkit(
            "prepare", source, "--out", data, "-s", "prepare.tokenizer.kind=char",
            "-s", f"prepare.tokenizer.vocab_size={vocab_size}", "-s", "prepare.split.by=position",
            "-s", "prepare.split.validation=0.02", "-s", "prepare.split.test=0",
        )  # fmt: skip
    return data


def write_text(path: Path, vocab_size: int, n_characters: int) -> None:
    """Lines of 60 characters, sampled by Zipf's law after each has occurred once."""
    letters = [chr(code) for code in (*range(FIRST_CHARACTER, 0x9FA6), *range(KOREAN, 0xD7A4), *range(0x3400, 0x4DB6))]
    letters = letters[:vocab_size]
    draw = random.Random(0)
    weights = list(accumulate(1 / (rank + 10) for rank in range(len(letters))))
    drawn = [*letters, *draw.choices(letters, cum_weights=weights, k=max(0, n_characters - len(letters)))]
    lines = ["".join(drawn[start : start + 60]) for start in range(0, len(drawn), 60)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
