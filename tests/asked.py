"""Questions that a tiny model can learn to answer: the answer is the word after the one that the question names."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from tiny import FILLER, HAM, SPAM

from llmkit.config.loading import load_recipe
from llmkit.config.recipe import Recipe
from llmkit.evaluating.predict import predict

TINY = (
    "train.max_steps=16", "train.global_batch_size=8", "train.log_steps=1", "train.precision=fp32",
    "train.block_size=48", "optim.learning_rate=1e-2", "model.dropout=0", "qa.validation=0.25", "qa.stride=8",
    "qa.max_question_length=12",
)  # fmt: skip


def make_articles(
    n_articles: int, seed: int = 0, *, unanswerable: float = 0.0, n_words: int = 12
) -> list[dict[str, Any]]:
    """Articles in the form of SQuAD, with two paragraphs of two questions each."""
    rng = np.random.default_rng(seed)
    articles = []
    for number in range(n_articles):
        paragraphs = []
        for part in range(2):
            size = n_words + number % 4
            words = [str(word) for word in rng.choice(FILLER, size)]
            names = [str(name) for name in rng.permutation(SPAM)[:2]]
            values = [str(value) for value in rng.choice(HAM, 2)]
            for place, name, value in zip((3, size - 2), names, values, strict=True):
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


def recipe(*overrides: str) -> Recipe:
    return load_recipe(None, [*TINY, *overrides], task="qa")


def read_json(run: Path, name: str) -> dict[str, Any]:
    return dict(json.loads((run / name).read_text()))


def read_log(run: Path, kind: str = "train") -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [record for record in records if record["kind"] == kind]


def answer_rows(run: Path, data: Any, *overrides: str, n_best: bool = False) -> list[dict[str, Any]]:
    lines: list[str] = []
    asked = load_recipe(run / "recipe.yaml", overrides, forget_columns=True)
    predict(
        asked, model=str(run), data=data, out=None, write=lines.append, file_format="jsonl", all_probabilities=n_best
    )
    return [json.loads(line) for line in lines]
