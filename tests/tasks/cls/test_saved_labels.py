"""A classifier that is trained on new rows starts with its old predictions for known labels, for every label type."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import make_messages, save_bert, save_gpt2, write_table

from llmkit.config.loading import load_recipe
from llmkit.config.recipe import ClsRecipe
from llmkit.runs.train import finetune
from llmkit.tasks.base import TrainingRequest
from llmkit.tasks.cls.prediction import open_scorer, score_rows
from llmkit.tasks.cls.training import ClsTraining, open_classifier_training

TINY = (
    "train.max_steps=6", "train.global_batch_size=8", "train.precision=fp32", "optim.learning_rate=1e-2",
    "model.dropout=0", "cls.validation=0.25", "cls.baseline=false",
)  # fmt: skip
TEXTS = [text for text, _ in make_messages(60)]


def recipe(*overrides: str) -> ClsRecipe:
    found = load_recipe(None, [*TINY, *overrides], task="cls")
    assert isinstance(found, ClsRecipe)
    return found


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    return {"bert": save_bert(folder / "bert"), "gpt2": save_gpt2(folder / "gpt2")}


def train(tmp_path: Path, model: str, rows: Any, *overrides: str) -> Path:
    path = write_table(tmp_path / "old.csv", rows)
    finetune(recipe(*overrides), files={"train": path}, out=tmp_path / "old", model=model)
    return tmp_path / "old"


def outputs_of(run: Path, task: ClsTraining) -> Any:
    """Outputs of a finished run for the train rows of another task."""
    scorer = open_scorer(str(run / "model"), task.recipe.evaluate)
    return scorer.names, scorer.score_inputs(task.labelled.splits["train"].inputs)


def start(run: Path, data: str, *overrides: str) -> tuple[ClsTraining, np.ndarray]:
    """The task that goes on from a run, and its outputs for the train rows before the first step."""
    request = TrainingRequest({"train": data}, run.parent / "new", str(run))
    setup = open_classifier_training(recipe(*overrides), request)
    assert isinstance(setup.task, ClsTraining)
    setup.network.eval()
    split = setup.task.labelled.splits["train"]
    with torch.no_grad():
        scores = score_rows(
            setup.network, split.inputs, token_types=setup.task.token_types, tokens_at_once=512, precision="fp32"
        )
    mean, std = setup.task.target_scale
    return setup.task, setup.task.label_type.to_outputs(scores, {"target_mean": mean, "target_std": std})


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_more_labels_keep_the_probabilities_among_the_old_ones(
    tmp_path: Path, models: dict[str, str], family: str, capsys: pytest.CaptureFixture[str]
) -> None:
    old = ["财经", "体育", "娱乐"]
    run = train(tmp_path, models[family], [(text, old[n % 3]) for n, text in enumerate(TEXTS)])
    new = ["娱乐", "a", "体育", "股票", "财经"]
    data = write_table(tmp_path / "new.csv", [(text, new[n % 5]) for n, text in enumerate(TEXTS)])
    capsys.readouterr()
    task, found = start(run, data)
    output = capsys.readouterr().err
    assert "3 kept (" in output and "2 new (a, 股票)" in output
    names, expected = outputs_of(run, task)
    assert sorted(names) == sorted(old)
    columns = [task.labelled.label2id[name] for name in names]
    np.testing.assert_allclose(found[:, columns] / found[:, columns].sum(1, keepdims=True), expected, atol=1e-5)


def test_fewer_labels_and_renamed_ones_keep_theirs(
    tmp_path: Path, models: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(tmp_path, models["bert"], [(text, "abc"[n % 3]) for n, text in enumerate(TEXTS)])
    data = write_table(tmp_path / "new.csv", [(text, ("good", "c")[n % 2]) for n, text in enumerate(TEXTS)])
    task, found = start(run, data, "cls.label_map={a: good}")
    assert "2 kept (good, c), 1 dropped, because no row has them (b)" in capsys.readouterr().err
    names, expected = outputs_of(run, task)
    kept = expected[:, [names.index("a"), names.index("c")]]
    columns = [task.labelled.label2id["good"], task.labelled.label2id["c"]]
    np.testing.assert_allclose(found[:, columns], kept / kept.sum(1, keepdims=True), atol=1e-5)


def test_several_labels_per_row_keep_their_probabilities(tmp_path: Path, models: dict[str, str]) -> None:
    sets = ["a;b", "b;c", "c", "a"]
    run = train(tmp_path, models["bert"], [(t, sets[n % 4]) for n, t in enumerate(TEXTS)], "cls.separator=;")
    others = ["c;新", "新;a", "a;c", "新"]
    data = write_table(tmp_path / "new.csv", [(text, others[n % 4]) for n, text in enumerate(TEXTS)])
    task, found = start(run, data, "cls.separator=;")
    names, expected = outputs_of(run, task)
    for name in ("a", "c"):
        column = found[:, task.labelled.label2id[name]]
        np.testing.assert_allclose(column, expected[:, names.index(name)], atol=1e-5)


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_numbers_start_with_the_predictions_of_the_model(
    tmp_path: Path, models: dict[str, str], family: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [(text, len(text) / 7) for text in TEXTS]
    run = train(tmp_path, models[family], rows, "cls.labels=regression")
    data = write_table(tmp_path / "new.csv", [(text, 100 + 3 * number) for text, number in rows])
    capsys.readouterr()
    task, found = start(run, data, "cls.labels=regression")
    assert "head is kept" in capsys.readouterr().err
    np.testing.assert_allclose(found, outputs_of(run, task)[1], rtol=1e-3, atol=1e-3)
    other = write_table(tmp_path / "other.csv", [(text, "stars", number) for text, number in rows], ("text", "x", "y"))
    start(run, other, "cls.labels=regression", "cls.label=y")
    output = capsys.readouterr().err
    assert "the model's head (label) has no value of the data: using a new head; if label and y are the same" in output
    assert "set --label-map 'label=y'" in output
    task, found = start(run, other, "cls.labels=regression", "cls.label=y", "cls.label_map={label: y}")
    assert "head is kept" in capsys.readouterr().err


def test_run_that_goes_on_with_a_new_label_trains_and_answers_with_all(tmp_path: Path, models: dict[str, str]) -> None:
    run = train(tmp_path, models["bert"], make_messages(40))
    data = write_table(tmp_path / "new.csv", [*make_messages(40), *((f"buy {n}", "advert") for n in range(20))])
    finetune(recipe(), files={"train": data}, out=tmp_path / "new", model=str(run))
    config = json.loads((tmp_path / "new/model/config.json").read_text())
    assert list(config["id2label"].values()) == ["advert", "ham", "spam"]
