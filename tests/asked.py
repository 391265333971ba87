"""Questions that a tiny model can learn to answer: the answer is the word after the one that the question names."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from tiny import FILLER, HAM, SPAM


def make_articles(
    n_articles: int, seed: int = 0, *, unanswerable: float = 0.0, n_words: int = 12
) -> list[dict[str, Any]]:
    """Articles in the form of SQuAD, with two paragraphs of two questions each."""
    rng = np.random.default_rng(seed)
    articles = []
    for number in range(n_articles):
        paragraphs = []
        for part in range(2):
            words = [str(word) for word in rng.choice(FILLER, n_words)]
            names = [str(name) for name in rng.permutation(SPAM)[:2]]
            values = [str(value) for value in rng.choice(HAM, 2)]
            for place, name, value in zip((3, n_words - 2), names, values, strict=True):
                words[place : place + 2] = [name, value]
            context = " ".join(words)
            qas = []
            for side, (name, value) in enumerate(zip(names, values, strict=True)):
                asked = {"id": f"{number}-{part}-{side}", "question": f"what is {name} ?"}
                start = context.index(f"{name} {value}") + len(name) + 1
                asked |= {"answers": [{"text": value, "answer_start": start}], "is_impossible": False}
                if rng.random() < unanswerable:
                    other = next(str(word) for word in SPAM if word not in names)
                    asked |= {"question": f"what is {other} ?", "answers": [], "is_impossible": True}
                qas.append(asked)
            paragraphs.append({"context": context, "qas": qas})
        articles.append({"title": f"article {number}", "paragraphs": paragraphs})
    return articles


def write_squad(path: Path, articles: list[dict[str, Any]]) -> str:
    path.write_text(json.dumps({"version": "1.1", "data": articles}))
    return str(path)


def write_rows(path: Path, articles: list[dict[str, Any]]) -> str:
    """The same questions as one object per line, with the answers in the form of the hub."""
    lines = []
    for article in articles:
        for paragraph in article["paragraphs"]:
            for asked in paragraph["qas"]:
                answers = {
                    "text": [each["text"] for each in asked["answers"]],
                    "answer_start": [each["answer_start"] for each in asked["answers"]],
                }
                row = {"id": asked["id"], "question": asked["question"], "context": paragraph["context"]}
                lines.append(json.dumps(row | {"answers": answers}))
    path.write_text("\n".join(lines) + "\n")
    return str(path)
