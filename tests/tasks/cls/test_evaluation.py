"""The worst errors are kept as the model read them, and files and held-out rows are scored."""

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import make_messages, save_bert, write_table
from transformers import BertForSequenceClassification, PreTrainedTokenizerBase

from llmkit.config.loading import dump_recipe, load_recipe
from llmkit.core.errors import DataError, UsageError
from llmkit.core.files import write_json, write_text
from llmkit.datasets.labelled import encode_inputs
from llmkit.tasks.base import EvaluationRequest
from llmkit.tasks.cls.data import load_labelled
from llmkit.tasks.cls.evaluation import MAX_ERRORS, ErrorExamples, evaluate_classifier
from llmkit.tasks.cls.label_types import get_label_type
from llmkit.tokens.loading import load_tokenizer
from llmkit.training.batches import BatchPlan
from llmkit.training.contract import Plan
from llmkit.training.folder import RunFolder, describe_origin

NAMES = ["ham", "spam"]


@pytest.fixture
def tokenizer(tmp_path: Path) -> PreTrainedTokenizerBase:
    return load_tokenizer(save_bert(tmp_path / "bert"))


def make(tokenizer: PreTrainedTokenizerBase, label_type: str = "single_label") -> ErrorExamples:
    return ErrorExamples(get_label_type(label_type), NAMES, np.array([0.5, 0.5]), tokenizer)


def test_worst_errors_of_all_chunks_are_kept_in_order(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    rng = np.random.default_rng(0)
    labels, sure = rng.integers(2, size=90), rng.random(90)
    outputs = np.stack([1 - sure, sure], 1)
    inputs = encode_inputs(tokenizer, [f"win {n}" for n in range(90)], None, block_size=32)
    whole, parts = make(tokenizer), make(tokenizer)
    whole.add(labels, outputs, inputs, np.arange(90))
    for begin in range(0, 90, 30):
        rows = slice(begin, begin + 30)
        part = encode_inputs(tokenizer, [f"win {n}" for n in range(begin, begin + 30)], None, block_size=32)
        parts.add(labels[rows], outputs[rows], part, np.arange(90)[rows])
    assert whole.worst() == parts.worst()
    wrong = outputs.argmax(1) != labels
    worst = np.argsort(-outputs.max(1) * wrong, kind="stable")[:MAX_ERRORS]
    assert [record["line"] for record in whole.worst()] == worst.tolist()
    for record in whole.worst():
        assert (record["label"], record["predicted"]) in (("ham", "spam"), ("spam", "ham"))
        assert record["probability"] == pytest.approx(outputs[record["line"]].max())


def test_text_of_an_error_is_the_input_of_the_model(tokenizer: PreTrainedTokenizerBase) -> None:
    inputs = encode_inputs(tokenizer, ["WIN Free cash prize"], ["home now"], block_size=8)
    mistakes = make(tokenizer)
    mistakes.add(np.array([0]), np.array([[0.1, 0.9]]), inputs, np.array([7]))
    [record] = mistakes.worst()
    assert record["line"] == 7
    assert record["text"].startswith("win free") and "prize" not in record["text"]
    assert record["pair"].startswith("home")


def test_error_of_a_regression_has_no_probability(tokenizer: PreTrainedTokenizerBase) -> None:
    mistakes = make(tokenizer, "regression")
    inputs = encode_inputs(tokenizer, ["win", "home"], None, block_size=8)
    mistakes.add(np.array([1.0, 1.0]), np.array([1.5, 9.0]), inputs, np.array([1, 2]))
    first = mistakes.worst()[0]
    assert first["line"] == 2 and "probability" not in first and "pair" not in first


LABEL_NAMES = {"ham": 0, "spam": 1}


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A classifier whose head was never trained."""
    path = save_bert(tmp_path / "bert")
    torch.manual_seed(1)
    network = BertForSequenceClassification.from_pretrained(path, label2id=LABEL_NAMES, id2label={0: "ham", 1: "spam"})
    network.save_pretrained(path)
    return path


def evaluate(model: str, *data: str, run: Path | None = None, show: bool = False, **overrides: str) -> dict[str, Any]:
    recipe: Any = load_recipe(None, [f"evaluate.{name}={value}" for name, value in overrides.items()], task="cls")
    request = EvaluationRequest(model, model, data, None if run is None else RunFolder(run), show)
    return evaluate_classifier(recipe, request)


def test_metrics_are_over_all_rows_of_a_file(model: str, tmp_path: Path) -> None:
    path = write_table(tmp_path / "a.csv", make_messages(40))
    found = evaluate(model, path)
    assert found["label_type"] == "single_label"
    assert sum(sum(row) for row in found["confusion"]["counts"]) == 40
    assert found["n_windows"] == 40 and found["n_truncated"] == 0
    assert found["method"]["data"] == "a.csv" and "weights" not in found["method"]
    assert "mistakes" not in found
    shown = evaluate(model, path, show=True)
    wrong = 40 - sum(found["confusion"]["counts"][n][n] for n in range(2))
    assert len(shown["mistakes"]) == min(20, wrong)
    assert shown["accuracy"] == found["accuracy"]


def test_no_file_and_several_files_are_refused(model: str) -> None:
    with pytest.raises(UsageError, match="no data to score is given"):
        evaluate(model)
    with pytest.raises(UsageError, match="2 files are given"):
        evaluate(model, "a.csv", "b.csv")


def test_unknown_label_is_reported_before_any_row_is_scored(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_table(tmp_path / "a.csv", [*make_messages(40), ("some words", "eggs")])
    monkeypatch.setattr("llmkit.tasks.cls.prediction.score_rows", lambda *_, **__: pytest.fail("it was scored"))
    with pytest.raises(DataError, match="eggs"):
        evaluate(model, path)


def make_run(tmp_path: Path, model: str) -> tuple[Path, set[int]]:
    """As much of a run as scoring reads, and how many rows it held out."""
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    recipe: Any = load_recipe(None, ["cls.validation=0.25"], task="cls")
    files = {"train": write_table(tmp_path / "rows.csv", make_messages(40))}
    labelled = load_labelled(recipe.cls, recipe.prepare.read, files, load_tokenizer(model), 64, quiet=True)
    write_text(run.recipe, dump_recipe(recipe))
    origin = describe_origin("bert", files, run.path)
    plan = Plan(1, 1, 1, BatchPlan(8, 8, 1), "fp32", {"data": labelled.fingerprint()})
    write_json(run.manifest, {"origin": origin, "plan": asdict(plan)})
    return run.path, set(labelled.splits["validation"].lines.tolist())


def test_held_out_rows_of_a_run_are_scored_again(model: str, tmp_path: Path) -> None:
    run, lines = make_run(tmp_path, model)
    found = evaluate(model, run=run, show=True)
    assert sum(sum(row) for row in found["confusion"]["counts"]) == len(lines) < 40
    assert {mistake["line"] for mistake in found["mistakes"]} <= lines
    assert found["method"]["data"] == "rows.csv"
    assert "the best of the run on these rows" in found["method"]["weights"]


def test_file_that_the_run_was_trained_on_is_named(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, _ = make_run(tmp_path, model)
    copy = shutil.copy(tmp_path / "rows.csv", tmp_path / "copy.csv")
    for path in (str(tmp_path / "rows.csv"), str(copy)):
        evaluate(model, path, run=run)
        assert f"the run was trained on rows of {path}" in capsys.readouterr().err
    evaluate(model, write_table(tmp_path / "new.csv", make_messages(12)), run=run)
    assert "trained on" not in capsys.readouterr().err


def test_changed_rows_and_missing_splits_of_a_run_are_refused(model: str, tmp_path: Path) -> None:
    run, _ = make_run(tmp_path, model)
    with pytest.raises(UsageError, match="the run has no test rows") as caught:
        evaluate(model, run=run, split="test")
    assert "train, validation" in caught.value.problems[0].hint
    write_table(tmp_path / "rows.csv", make_messages(41))
    with pytest.raises(UsageError, match="the rows have changed"):
        evaluate(model, run=run)
    write_json(run / "manifest.json", {})
    with pytest.raises(UsageError, match="does not name its training data"):
        evaluate(model, run=run)
