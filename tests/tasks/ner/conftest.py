"""Tiny taggers, trained once for the tests of this folder."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tiny import make_tagged, save_bert, save_gpt2, write_conll

from llmkit.config.loading import load_recipe
from llmkit.evaluating.predict import predict
from llmkit.runs.train import finetune

TINY = (
    "train.max_steps=80", "train.global_batch_size=8", "train.precision=fp32", "optim.learning_rate=1e-2",
    "model.dropout=0", "ner.validation=0.25",
)  # fmt: skip


def train(out: Path, model: str, data: str, *overrides: str, **options: Any) -> dict[str, Any]:
    recipe = load_recipe(None, [*TINY, *overrides], task="ner")
    return finetune(recipe, files={"train": data}, out=out, model=model, **options)


def find_entities(run: Path, data: str | Sequence[Any], *overrides: str) -> list[dict[str, Any]]:
    lines: list[str] = []
    recipe = load_recipe(run / "recipe.yaml", overrides, forget_columns=True)
    rows = data if isinstance(data, str) else [each if isinstance(each, dict) else {"text": each} for each in data]
    predict(recipe, model=str(run), data=rows, out=None, write=lines.append, file_format="jsonl")
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_bert(tmp_path_factory.mktemp("models") / "bert")


@pytest.fixture(scope="session")
def words(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_conll(tmp_path_factory.mktemp("data") / "words.conll", make_tagged(160))


@pytest.fixture(scope="session")
def run(bert: str, words: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "bert"
    train(out, bert, words, show_samples=True)
    return out


@pytest.fixture(scope="session")
def gpt2_run(words: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "gpt2"
    train(out, save_gpt2(tmp_path_factory.mktemp("models") / "gpt2"), words)
    return out
