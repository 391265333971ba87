"""Books for tests of `prepare`, and settings that suit them."""

import shutil
from pathlib import Path

from llmkit.config.loading import load_recipe
from llmkit.config.prepare import Prepare

CHINESE = "却说曹操大喜，遂引兵追之。玄德曰：“此天助我也！”\n　　次日天明，众将皆至……\n\n"
SHARED = "A paragraph that many of the books have in common, and long enough to be found again.\n\n"
SMALL = ("prepare.tokenizer.vocab_size=300", "prepare.split.validation=0.2", "prepare.split.test=0.1")
NEAR = ("prepare.dedup.near=true", "prepare.dedup.near_threshold=0.7")


def settings(*overrides: str) -> Prepare:
    return load_recipe(None, [*SMALL, *overrides]).prepare


def write_books(folder: Path) -> Path:
    """Thirty files of two languages, some long enough for parts, with copies, near copies, copied paragraphs, control
    characters and a character that fastokens takes for another."""
    for n in range(30):
        lines = [f"It was the {n * 40 + line}th of times, and number {line * n} of all.\n" for line in range(40)]
        text = "".join(lines) * (5 if n % 7 == 0 else 1) + SHARED + CHINESE * (n % 4) + "ding\a" * (n % 3)
        text += "1\u180e 2" * (n % 11 == 0)
        (folder / f"{n:02}.txt").write_text(text, encoding="utf-8", newline="\r\n" if n % 5 == 0 else "\n")
    for n in (3, 12):
        shutil.copy(folder / f"{n:02}.txt", folder / f"{n:02}-again.txt")
        text = (folder / f"{n:02}.txt").read_text(encoding="utf-8")
        (folder / f"{n:02}-nearly.txt").write_text(text.replace("number 0 of", "number none of"), encoding="utf-8")
    return folder


def write_bad_files(folder: Path) -> None:
    (folder / "empty.txt").touch()
    (folder / "binary.txt").write_bytes(b"\x89PNG" + bytes(2000))
