"""The snippet of a saved model's card gives the answers of `predict` in plain transformers."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from asked import make_articles, write_squad
from tiny import save_bert, save_gpt2

from llmkit.config.loading import load_recipe
from llmkit.evaluating.predict import predict
from llmkit.runs.train import finetune

ASKED = [
    ("what is win ?", "we at win noon, in the   later \n"),
    ("what is cash ?", "in a the " * 40 + "cash lunch " + "we the " * 20),
    ("what is [SEP] ?", "a [SEP] b 日本 <|endoftext|> c"),
    ("free", "free"),
]


def load_snippet(model: Path) -> Callable[[str, str], str]:
    code = re.search(r"```python\n(.*?)```", (model / "README.md").read_text(), re.DOTALL)
    assert code
    lines = code[1].replace("PATH_OF_THIS_FOLDER", str(model)).strip().splitlines()
    assert lines[-1].startswith("print(answer(")
    names: dict[str, Callable[[str, str], str]] = {}
    exec("\n".join(lines[:-1]), names)
    return names["answer"]


@pytest.mark.parametrize(("family", "unanswerable"), [("bert", 0.0), ("bert", 0.5), ("gpt2", 0.5)])
def test_snippet_gives_the_answers_of_predict(family: str, unanswerable: float, tmp_path: Path) -> None:
    model = (save_bert if family == "bert" else save_gpt2)(tmp_path / "base")
    data = write_squad(tmp_path / "train.json", make_articles(12, unanswerable=unanswerable))
    overrides = ["train.max_steps=10", "train.block_size=48", "qa.stride=8", "qa.max_question_length=20"]
    overrides += ["optim.learning_rate=1e-2", "qa.max_answer_length=6", "qa.no_answer_threshold=0.05"]
    overrides = overrides if unanswerable else overrides[:-1]
    finetune(load_recipe(None, overrides, "qa"), files={"train": data}, out=tmp_path / "run", model=model)
    rows = [{"question": question, "context": context} for question, context in ASKED]
    rows += [
        {"question": each["question"], "context": paragraph["context"]}
        for article in make_articles(4, seed=5, unanswerable=unanswerable)
        for paragraph in article["paragraphs"]
        for each in paragraph["qas"]
    ]
    lines: list[str] = []
    recipe = load_recipe(tmp_path / "run/recipe.yaml", forget_columns=True)
    predict(recipe, model=str(tmp_path / "run"), data=rows, out=None, write=lines.append, file_format="jsonl")
    answer = load_snippet(tmp_path / "run/model")
    answers = [json.loads(line)["answer"] for line in lines]
    assert [answer(row["question"], row["context"]) for row in rows] == answers
    if unanswerable:
        assert "" in answers and any(answers)
