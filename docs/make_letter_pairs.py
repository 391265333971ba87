"""Make llmkit/text/decoding/letter_pairs.npz: how often one letter follows another in 42 languages.

    pip install brotli
    pip download --no-deps lingua-language-detector==1.4.2 langdetect==1.0.9 django==5.2.19 -d FOLDER
    python docs/make_letter_pairs.py FOLDER

Sources: the letter pairs that lingua-language-detector (Apache-2.0) counted in news, the pairs with word boundaries of
langdetect's profiles (Apache-2.0), and the translations of Django's messages (BSD-3-Clause). Only counts are kept. For
Chinese, Japanese and Korean the frequencies of single characters are kept: lingua's, and for simplified Chinese also
those of jieba's dictionary (MIT).

For each script there are its letters, its languages, and `pairs` (languages, letters + 1, letters + 1) with
round(-16 ln P(second | first)); index 0 is a word boundary, and 255 means not seen.
"""

import gettext
import io
import json
import re
import sys
import tarfile
import zipfile
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import brotli
import jieba
import numpy as np
import opencc

from llmkit.text.decoding.encoding_detection import SINGLE_BYTE
from llmkit.text.decoding.letters import PAIR_SCALE, PAIRS_FILE, SCRIPTS, fold, script_of

LANGUAGES = {
    "latin": "af ca cs cy da de en eo es et eu fi fr ga hr hu id is it lt lv nb nl pl pt ro sk sl sq sv tl tr vi",
    "cyrillic": "be bg kk mk mn ru sr uk",
    "greek": "el",
    "hebrew": "he",
    "arabic": "ar fa ur",
    "thai": "th",
}
LANGDETECT_NAMES = {"nb": "no"}
VIETNAMESE = map(chr, range(0x1EA0, 0x1EFA))
MARKUP = re.compile(r"%\(\w+\)\w|%\w|\{\w*\}|<[^>]*>|https?:\S+|&\w+;")
INSIDE_NEWS = 0.8
"""Weight of news for pairs inside words."""


def main(folder: Path) -> None:
    """Read the three packages in the folder and write the table."""
    lingua, django = zipfile.ZipFile(find(folder, "lingua")), zipfile.ZipFile(find(folder, "django-5"))
    profiles = tarfile.open(find(folder, "langdetect"))  # noqa: SIM115
    encodable = {char for name in SINGLE_BYTE for char in bytes(range(256)).decode(name, "ignore")} | set(VIETNAMESE)
    letters = sorted({fold(char) for char in encodable if script_of(fold(char))})
    arrays: dict[str, Any] = {}
    for script in SCRIPTS:
        alphabet = [char for char in letters if script_of(char) == script]
        index = {char: n for n, char in enumerate(alphabet, 1)} | {" ": 0}
        tables = []
        for name in LANGUAGES[script].split():
            news = count_news(lingua, name, index)
            others = count_profile(profiles, name, index) + count_messages(django, name, index)
            if script != "thai":  # lingua leaves out the vowel signs
                inside = INSIDE_NEWS * news / news.sum() + (1 - INSIDE_NEWS) * others / others[1:, 1:].sum()
                others[1:, 1:] = others[1:, 1:].sum() * inside[1:, 1:]
            tables.append(to_costs(others / np.maximum(others.sum(axis=1, keepdims=True), 1e-9)))
        arrays[f"{script}_letters"] = np.array("".join(alphabet))
        arrays[f"{script}_languages"] = np.array(LANGUAGES[script])
        arrays[f"{script}_pairs"] = np.stack(tables)
    traditional, japanese, korean = (read_news(lingua, name, "unigrams") for name in ("zh", "ja", "ko"))
    counts = [simplify(traditional), traditional, japanese, korean]  # in the order of IDEOGRAPHIC
    kept = sorted({char for each in counts for char, p in each.items() if "\u2e80" < char < "\uff00" and p > 1e-8})
    arrays["ideographs"] = np.array("".join(kept))
    arrays["ideograph_costs"] = np.stack([to_costs(np.array([each.get(c, 0) for c in kept])) for each in counts])
    np.savez_compressed(PAIRS_FILE, **arrays)
    for name, array in arrays.items():
        print(name, array.shape or len(str(array)))
    print(f"{PAIRS_FILE}: {PAIRS_FILE.stat().st_size:,} bytes")


def find(folder: Path, name: str) -> Path:
    """The file of a package."""
    return next(path for path in folder.iterdir() if path.name.startswith(name) and path.suffix in (".whl", ".gz"))


def to_costs(p: Any) -> Any:
    """Probabilities as round(-16 ln p) in a byte."""
    return np.where(p > 0, np.minimum(254, np.round(-PAIR_SCALE * np.log(np.maximum(p, 1e-9)))), 255).astype(np.uint8)


def read_news(lingua: zipfile.ZipFile, name: str, kind: str) -> dict[str, float]:
    """lingua's probabilities: of letters, or of the second letter of a pair given the first."""
    data = json.loads(brotli.decompress(lingua.read(f"lingua/language-models/{name}/{kind}.json.br")))
    found = {}
    for fraction, ngrams in data["ngrams"].items():
        numerator, denominator = map(int, fraction.split("/"))
        found |= dict.fromkeys(ngrams.split(), numerator / denominator)
    return found


def count_news(lingua: zipfile.ZipFile, name: str, index: Mapping[str, int]) -> Any:
    """Shares of pairs inside words."""
    table = np.zeros((len(index),) * 2)
    single = read_news(lingua, name, "unigrams")
    for pair, p in read_news(lingua, name, "bigrams").items():
        first, second = (index.get(fold(char)) for char in pair)
        if first and second:
            table[first, second] += p * single.get(pair[0], 0)
    return table


def simplify(traditional: Mapping[str, float]) -> dict[str, float]:
    """Frequencies of simplified characters: half from the traditional ones, half from jieba's list of words."""
    convert = opencc.OpenCC("t2s").convert
    words: Counter[str] = Counter()
    for line in (Path(jieba.__file__).with_name("dict.txt")).read_text(encoding="utf-8").splitlines():
        word, number, *_ = line.split()
        for char in word:
            words[char] += int(number)
    n_words = words.total()
    found = Counter({char: 0.5 * number / n_words for char, number in words.items()})
    for char, p in traditional.items():
        found[convert(char)] += 0.5 * p
    return dict(found)


def count_profile(profiles: tarfile.TarFile, name: str, index: Mapping[str, int]) -> Any:
    """Counts of pairs with boundaries in langdetect's profile; zeros where it has none."""
    table = np.zeros((len(index),) * 2)
    path = f"langdetect-1.0.9/langdetect/profiles/{LANGDETECT_NAMES.get(name, name)}"
    if path in profiles.getnames():
        file = profiles.extractfile(path)
        assert file is not None
        add_pairs(table, index, ((p[0], p[1], n) for p, n in json.load(file)["freq"].items() if len(p) == 2))
    return table / max(1, table.sum())


def count_messages(django: zipfile.ZipFile, name: str, index: Mapping[str, int]) -> Any:
    """Counts of pairs with boundaries in Django's messages."""
    table = np.zeros((len(index),) * 2)
    pattern = re.compile(rf"/locale/{name}/LC_MESSAGES/.*\.mo$")
    for path in filter(pattern.search, django.namelist()):
        catalog: Mapping[Any, str] = gettext.GNUTranslations(io.BytesIO(django.read(path)))._catalog  # type: ignore[attr-defined]
        for key, message in catalog.items():
            if key:
                text = "".join(char if script_of(char) else " " for char in f" {MARKUP.sub(' ', message)} ")
                add_pairs(table, index, ((*pair, 1) for pair in pairwise(text)))
    return table / max(1, table.sum())


def add_pairs(table: Any, index: Mapping[str, int], pairs: Any) -> None:
    """Add (first, second, number) to the table, without pairs of two boundaries."""
    for first, second, n in pairs:
        row, column = index.get(fold(first)), index.get(fold(second))
        if row is not None and column is not None and (row or column):
            table[row, column] += n


if __name__ == "__main__":
    main(Path(sys.argv[1]))
