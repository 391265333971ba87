"""Two data sets from the slots of Snips: multi-label classification and regression.

    python benchmarks/snips_slots.py --slots train.slots.conll --out build/snips/train
    llmkit finetune-cls --model MODEL --data build/snips/train-slots.csv --out runs/slots -s "cls.separator=|"
    llmkit finetune-cls --model MODEL --data build/snips/train-ratings.csv --out runs/ratings -s cls.labels=regression

`-slots.csv`: the types of slots in a sentence (artist, city, timeRange ...), 39 in all. `-ratings.csv`: the rating of
a book, from the slot rating_value, which the model must tell from other numbers, such as the best possible rating;
sentences without such a number are skipped.
"""

import argparse
import csv
from pathlib import Path

WORDS = {"zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", type=Path, required=True, help="one word and its BIO tag per line")
    parser.add_argument("--out", type=Path, required=True, help="where the two files begin")
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    sentences = read_sentences(options.slots)
    slots = [(text(words), "|".join(sorted({tag[2:] for _, tag in words if tag != "O"}))) for words in sentences]
    ratings = [(text(words), rating) for words in sentences if (rating := find_rating(words)) is not None]
    for name, header, rows in (("slots", ("text", "slots"), slots), ("ratings", ("text", "rating"), ratings)):
        path = options.out.with_name(f"{options.out.name}-{name}.csv")
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([header, *rows])
        print(f"{path}: {len(rows):,} rows")


def read_sentences(path: Path) -> list[list[tuple[str, str]]]:
    """Words with their tags; an empty line ends a sentence."""
    blocks = path.read_text(encoding="utf-8").split("\n\n")
    cells = [[line.split("\t") for line in block.splitlines() if line] for block in blocks]
    return [[(word, tag) for word, tag in sentence] for sentence in cells if sentence]


def text(words: list[tuple[str, str]]) -> str:
    """The sentence."""
    return " ".join(word for word, _ in words)


def find_rating(words: list[tuple[str, str]]) -> int | None:
    """The number in rating_value."""
    found = [word.lower() for word, tag in words if tag == "B-rating_value"]
    if len(found) != 1:
        return None
    return int(found[0]) if found[0].isdecimal() else WORDS.get(found[0])


if __name__ == "__main__":
    main()
