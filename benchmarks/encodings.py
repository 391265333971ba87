"""Encodings: how often `prepare` reads legacy text rightly, refuses it, or is wrong in silence.

    python benchmarks/encodings.py
    pip download --no-deps django-allauth==65.22.1
    python benchmarks/encodings.py --messages django_allauth-65.22.1-py3-none-any.whl

Each language in each of its encodings and in UTF-8, 16 and 32, in pieces of 60, 600 and 6,000 bytes. The texts are
those of tests/languages.tsv, of about 450 characters each; with --messages also the translations of django-allauth
(MIT). The table of letter pairs was made from neither. Right: the text is the one that was encoded, whatever the
encoding is called.
"""

import argparse
import gettext
import io
import random
import re
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # for languages.py

from languages import ENCODINGS, TEXTS, UNICODE, encode, split_tones

from llmkit.core.errors import DataError
from llmkit.text.decoding.encodings import TextStream

LENGTHS = {60: 10, 600: 3, 6000: 1}
"""Bytes of a piece, and pieces of each text in each encoding."""
CATALOGS = {"zh-hans": "zh_Hans", "zh-hant": "zh_Hant", "pt": "pt_PT"}
MARKUP = re.compile(r"%\(\w+\)\w|%\w|\{\w*\}|<[^>]*>|https?:\S+|&\w+;")
MIN_CHARS = 3000


def main() -> None:
    """Print the share of right, refused and wrong readings by length, and each wrong one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=Path, help="wheel of django-allauth")
    parser.add_argument("--show", type=int, default=20, help="number of refused and wrong pieces to show per length")
    options = parser.parse_args()
    corpora = {"own texts": {language: re.split(r"(?<=[.。]) ?", text) for language, text in TEXTS.items()}}
    if options.messages:
        corpora["django-allauth"] = read_messages(options.messages)
    shown: Counter[int] = Counter()
    print(f"{'texts':<16}{'languages':>10}{'bytes':>8}{'pieces':>8}{'right':>9}{'refused':>9}{'wrong':>9}")
    for name, texts in corpora.items():
        for length, repeats in LENGTHS.items():
            found: Counter[str] = Counter()
            for language, encoding, text, data in make_pieces(texts, length, repeats):
                outcome, what = read(text, data)
                found[outcome] += 1
                if outcome != "right" and shown[length] < options.show:
                    shown[length] += 1
                    print(f"  {outcome}: {language} {encoding} {length}: {what}")
            if n := found.total():
                shares = "".join(f"{found[key] / n:>9.2%}" for key in ("right", "refused", "wrong"))
                print(f"{name:<16}{len(texts):>10}{length:>8}{n:>8}{shares}")


def read_messages(wheel: Path) -> dict[str, list[str]]:
    """The translated messages of each language, where there are enough."""
    found: dict[str, list[str]] = {}
    with zipfile.ZipFile(wheel) as file:
        for language in TEXTS:
            path = f"allauth/locale/{CATALOGS.get(language, language)}/LC_MESSAGES/django.mo"
            if path not in file.namelist():
                continue
            catalog: dict[Any, str] = gettext.GNUTranslations(io.BytesIO(file.read(path)))._catalog  # type: ignore[attr-defined]
            kept = [text for key, text in catalog.items() if key and text not in (key, key[0]) and len(text) < 2000]
            messages = [MARKUP.sub("", re.sub(r"[ \n]+", " ", text)) for text in kept]
            if sum(map(len, messages)) > MIN_CHARS:
                found[language] = messages
    return found


def make_pieces(texts: dict[str, list[str]], length: int, repeats: int) -> Iterator[tuple[str, str, str, bytes]]:
    """(language, encoding, text, bytes) of pieces of whole sentences, of between 60 % and 140 % of the length."""
    draw = random.Random(0)
    for language, sentences in texts.items():
        for encoding in (*ENCODINGS[language].split(), *UNICODE):
            for _ in range(repeats):
                first = draw.randrange(len(sentences))
                piece, data = "", b""
                for sentence in sentences[first:] + sentences[:first]:
                    longer = encode(f"{piece}{sentence}\n", encoding)
                    if longer is None or len(longer) > 1.4 * length:
                        continue
                    piece, data = f"{piece}{sentence}\n", longer
                    if len(data) >= length:
                        break
                if len(data) >= 0.6 * length and not piece.isascii():
                    yield language, encoding, split_tones(piece) if encoding == "cp1258" else piece, data


def read(text: str, data: bytes) -> tuple[str, str]:
    """right, refused or wrong, and what was read."""
    stream = TextStream(io.BytesIO(data), "auto", "a.txt")
    try:
        found = "".join(stream)
    except DataError as error:
        return "refused", error.problems[0].what
    return ("right" if found == text else "wrong"), f"{stream.encoding}, {stream.example}"


if __name__ == "__main__":
    main()
