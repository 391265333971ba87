"""Classifiers are compared on the same rows with a significance test, if their predictions are saved."""

import json
import shutil
from pathlib import Path

import pytest
from cli.test_app import run as run_cli
from tiny import make_messages, save_bert, write_table

from llmkit.config.loading import load_recipe
from llmkit.core.errors import UsageError
from llmkit.evaluating.evaluate import evaluate
from llmkit.metrics.spec import Metric
from llmkit.reporting.compare import compare
from llmkit.reporting.significance import describe_test, show_p_value
from llmkit.runs.train import finetune

TINY = (
    "train.global_batch_size=8",
    "train.precision=fp32",
    "cls.validation=0.25",
    "cls.test=0.25",
    "cls.baseline=false",
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    model, data = save_bert(folder / "bert"), write_table(folder / "messages.csv", make_messages(200))
    for name, more in (
        ("good", ("train.max_steps=30", "optim.learning_rate=1e-2")),
        ("untrained", ("train.max_steps=1", "optim.learning_rate=1e-9")),
        ("other-rows", ("train.max_steps=1", "cls.split_seed=7")),
    ):
        finetune(load_recipe(None, [*TINY, *more], task="cls"), files={"train": data}, out=folder / name, model=model)
    return folder


def test_classifiers_are_tested_on_the_same_rows(runs: Path, tmp_path: Path) -> None:
    result = compare([runs / "untrained", runs / "good"], by=None, out=tmp_path / "c")
    assert [row["run"] for row in result["runs"]] == ["good", "untrained"]
    assert (result["by"], result["split"], len(result["notes"])) == ("accuracy", "test", 1)
    assert "different numbers of tokens" in result["notes"][0]
    metrics = [json.loads((runs / name / "metrics.json").read_text())["test"] for name in ("good", "untrained")]
    (test,) = result["tests"]
    assert test["difference"] == pytest.approx(metrics[0]["accuracy"] - metrics[1]["accuracy"])
    assert test["n_rows"] == metrics[0]["n_rows"] == result["n_rows"]
    assert result["runs"][0]["intervals"]["accuracy"] == metrics[0]["intervals"]["accuracy"]
    assert test["p_value"] < 0.05 and test["method"] == "McNemar's exact test"
    page = (tmp_path / "c/compare.html").read_text()
    assert "Difference from the best run" in page and "McNemar" in page and "significant" in page
    by_f1 = compare([runs / "good", runs / "untrained"], by="f1_macro", out=tmp_path / "c")
    assert by_f1["tests"][0]["difference"] == pytest.approx(metrics[0]["f1_macro"] - metrics[1]["f1_macro"])


def test_p_values_of_several_tests_are_corrected(runs: Path, tmp_path: Path) -> None:
    (alone,) = compare([runs / "good", runs / "untrained"], by=None, out=tmp_path / "c")["tests"]
    copy = shutil.copytree(runs / "untrained", tmp_path / "copy")
    both = compare([runs / "good", runs / "untrained", copy], by=None, out=tmp_path / "c")["tests"]
    assert [test["p_value"] for test in both] == [pytest.approx(2 * alone["p_value"])] * 2


def test_the_terminal_shows_intervals_and_the_test(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("compare", str(runs / "good"), str(runs / "untrained"), "--out", str(tmp_path / "c"))
    code, out, _ = run_cli(monkeypatch, capsys, *arguments)
    assert code == 0
    assert "95% interval" in out and "Paired tests on" in out
    assert "good minus untrained: accuracy +" in out and "points, 95% interval +" in out and ", significant" in out


def test_run_without_predictions_is_named_with_the_command_that_saves_them(runs: Path, tmp_path: Path) -> None:
    old = shutil.copytree(runs / "untrained", runs / "old")
    shutil.rmtree(old / "predictions")
    manifest = json.loads((old / "manifest.json").read_text())
    for split in manifest["data"]["splits"].values():
        del split["rows_hash"]
    (old / "manifest.json").write_text(json.dumps(manifest))
    result = compare([runs / "good", old], by=None, out=tmp_path / "c")
    assert result["tests"] == []
    notes = " ".join(result["notes"])
    assert "do not record their test rows: old" in notes and f"llmkit eval {old} --split test" in notes
    evaluate(load_recipe(None, ["evaluate.split=test"], task="cls"), model=str(old))
    assert len(compare([runs / "good", old], by=None, out=tmp_path / "c")["tests"]) == 1


def test_runs_on_other_rows_are_refused_with_the_way_out(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="different rows") as caught:
        compare([runs / "good", runs / "other-rows"], by=None, out=tmp_path / "c")
    assert "--test FILE" in str(caught.value) and not (tmp_path / "c").exists()


def test_p_values_and_differences_are_short() -> None:
    assert [show_p_value(value) for value in (0.0004, 0.0314, 1.0)] == ["below 0.001", "0.031", "1.000"]
    test = {"run": "b", "best": "a", "difference": -0.012, "interval": [-0.03, 0.001], "p_value": 0.3}
    line = describe_test(test, Metric("mse", "squared error", "{:.4g}"))
    assert line == "a minus b: squared error -0.012, 95% interval -0.03 to +0.001, p = 0.300, not significant"
