"""train.max_rows: held-out rows and labels stay as they are, and what is left out is counted."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import make_messages, save_bert, write_table
from transformers import PreTrainedTokenizerBase

from llmkit.config.cls import Cls
from llmkit.config.loading import load_recipe
from llmkit.config.prepare import Read
from llmkit.config.train import Train
from llmkit.core.errors import UsageError
from llmkit.evaluating.evaluate import evaluate
from llmkit.runs.train import finetune
from llmkit.tables.train_sample import TrainSample, sample_of
from llmkit.tasks.cls.data import LabelledData, load_labelled
from llmkit.tokens.tokenizer import load_tokenizer


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_bert(tmp_path_factory.mktemp("bert") / "bert")


@pytest.fixture(scope="module")
def tokenizer(bert: str) -> PreTrainedTokenizerBase:
    return load_tokenizer(bert)


def load(tokenizer: PreTrainedTokenizerBase, path: str, sample: Any, **section: Any) -> LabelledData:
    cls = Cls(validation=0.2, test=0.2, **section)
    return load_labelled(cls, Read(), {"train": path}, tokenizer, 32, sample=sample)


def test_sample_changes_only_the_train_rows_and_keeps_every_label(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    rows = [*make_messages(100), *((f"a rare text {n}", "稀有") for n in range(5))]
    path = write_table(tmp_path / "a.csv", rows)
    whole, part = (load(tokenizer, path, sample) for sample in (None, TrainSample(10, seed=3)))
    assert part.label2id == whole.label2id == {"ham": 0, "spam": 1, "稀有": 2}
    for name in ("validation", "test"):
        assert (part.splits[name].lines == whole.splits[name].lines).all()
        assert (part.splits[name].labels == whole.splits[name].labels).all()
    assert len(part.splits["train"]) == 10
    assert set(part.splits["train"].lines) < set(whole.splits["train"].lines)
    assert np.bincount(part.splits["train"].labels).min() >= 1
    assert f"train.max_rows: 10 of {len(whole.splits['train'])} train rows, stratified by label, seed 3" in part.notes
    assert part.splits["validation"].baseline is not None
    assert part.splits["validation"].baseline.method["n_train_rows"] == 10, "fitted on the same rows"


def test_labels_without_a_row_and_a_sample_of_all_rows_are_reported(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    path = write_table(tmp_path / "a.csv", [(f"text {n}", f"label {n % 5}") for n in range(50)])
    data = load(tokenizer, path, TrainSample(3, seed=0))
    assert any(
        "3 of 30 train rows" in note and "2 of 5 labels without a row, for example" in note for note in data.notes
    )
    assert len(data.label2id) == 5
    assert "train.max_rows 99: all 30 train rows are used" in load(tokenizer, path, TrainSample(99, seed=0)).notes


def test_several_labels_and_numbers_per_row_are_sampled_too(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    path = write_table(tmp_path / "a.csv", [(f"text {n}", "a;b" if n % 2 else "b;c") for n in range(40)])
    data = load(tokenizer, path, TrainSample(6, seed=0), separator=";")
    assert data.splits["train"].labels.sum(0).tolist() == [3, 6, 3]
    path = write_table(tmp_path / "b.csv", [(f"text {n}", n / 2) for n in range(40)])
    data = load(tokenizer, path, TrainSample(6, seed=0), labels="regression")
    assert len(data.splits["train"]) == 6
    assert "train.max_rows: 6 of 24 train rows, seed 0" in data.notes


def test_sample_is_the_recipes_and_language_models_refuse_it() -> None:
    assert sample_of(Train()) is None
    assert sample_of(Train(max_rows=7, seed=2)) == TrainSample(7, 2)
    for task in ("clm", "mlm"):
        with pytest.raises(UsageError, match=f"applies only to tasks that read rows of a table, not to {task}"):
            load_recipe(None, ["train.max_rows=7"], task=task)


def test_eval_of_a_run_on_a_sample_scores_the_rows_it_held_out(bert: str, tmp_path: Path) -> None:
    settings = ("train.max_steps=2", "train.max_rows=8", "train.global_batch_size=8", "train.precision=fp32")
    recipe = load_recipe(None, settings, task="cls")
    path = write_table(tmp_path / "a.csv", make_messages(40))
    result = finetune(recipe, files={"train": path}, out=tmp_path / "run", model=bert)
    again = evaluate(load_recipe(None, task="cls"), model=str(tmp_path / "run"))
    assert again["n_rows"] == result["validation"]["n_rows"] == 4
    assert again["log_loss"] == pytest.approx(result["validation"]["log_loss"], abs=1e-6)
