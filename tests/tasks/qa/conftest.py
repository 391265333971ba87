"""Tiny models, files of questions, and a run of each kind, shared by the tests of this folder."""

from pathlib import Path

import pytest
from asked import make_articles, recipe, write_squad
from tiny import save_bert, save_gpt2

from llmkit.runs.train import finetune


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_bert(tmp_path_factory.mktemp("models") / "bert")


@pytest.fixture(scope="session")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_gpt2(tmp_path_factory.mktemp("models") / "gpt2")


@pytest.fixture(scope="session")
def questions(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_squad(tmp_path_factory.mktemp("data") / "train.json", make_articles(16))


@pytest.fixture(scope="session")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_squad(tmp_path_factory.mktemp("data") / "mixed.json", make_articles(24, unanswerable=0.4))


@pytest.fixture(scope="session")
def run(bert: str, questions: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    finetune(recipe(), files={"train": questions}, out=out, model=bert, show_samples=True)
    return out


@pytest.fixture(scope="session")
def mixed_run(bert: str, mixed: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "mixed"
    finetune(recipe(), files={"train": mixed}, out=out, model=bert)
    return out
