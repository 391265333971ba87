"""The report and the terminal of a classifier: confusion matrices, labels and errors, escaped and bounded."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reporting.test_report import HOSTILE, SCRIPT, Page, make_run, read_report

from llmkit.cli.output import show_metrics
from llmkit.metrics.bootstrap import Bootstrap
from llmkit.metrics.classification import score_single_label
from llmkit.metrics.multilabel import score_multi_label
from llmkit.metrics.regression import score_regression


def make_scores(n_labels: int, n: int = 400, names: list[str] | None = None) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    labels = rng.integers(n_labels, size=n)
    logits = rng.normal(size=(n, n_labels)) + 2 * np.eye(n_labels)[labels]
    odds = np.exp(logits)
    names = names or [f"label {i:03}" for i in range(n_labels)]
    return score_single_label(labels, odds / odds.sum(1, keepdims=True), names, Bootstrap(n_resamples=50))


def report(run: Path, scores: dict[str, Any], label_type: str = "single_label", **splits: Any) -> Page:
    manifest = {"task": "cls", "label_type": label_type}
    return read_report(make_run(run, [], metrics={"test": scores, **splits}, manifest=manifest, recipe="a: 1"))


def test_table_of_the_baseline_has_only_metrics_with_a_value(tmp_path: Path) -> None:
    scores = make_scores(3) | {"ngram_baseline": {"model": "linear", "n_train_rows": 9}, "ngram_baseline_accuracy": 0.5}
    page = report(tmp_path / "r", scores)
    assert "n-gram baseline: linear, fitted on 9 rows" in page.text
    assert "F1, macro" in page.text and "F1, positive label" not in page.text


def test_headlines_have_interval_and_baseline(tmp_path: Path) -> None:
    scores = make_scores(3)
    page = report(tmp_path / "r", scores)
    low, high = scores["intervals"]["accuracy"]
    assert page.contents["b"][:2] == [f"{scores['accuracy']:.2%}", f"{scores['f1_macro']:.4f}"]
    expected = f"95% interval {low:.2%} to {high:.2%}; constant baseline: {scores['baseline_accuracy']:.2%}"
    assert expected in page.text and "over 400 rows" in page.text


def test_report_shows_every_count_of_the_confusion_matrix_shaded(tmp_path: Path) -> None:
    scores = make_scores(3)
    scores["confusion"]["counts"] = [[901, 0, 101], [7, 1203, 5], [0, 0, 0]]
    page = report(tmp_path / "r", scores)
    for count in ("901", "101", "1,203", "1,002"):
        assert count in page.contents["td"]
    classes = [attributes.get("class") for name, attributes in page.elements if name == "td"]
    assert classes.count("number right heat-8") == 1 and classes.count("number wrong heat-1") == 1
    assert "number wrong heat-0" in classes and "number wrong" in classes


@pytest.mark.parametrize("n_labels", [30, 31, 77])
def test_confusions_of_many_labels_are_listed_by_frequency(tmp_path: Path, n_labels: int) -> None:
    scores = make_scores(n_labels)
    page = report(tmp_path / "r", scores)
    assert ("Most frequent confusions" in page.text) is (n_labels > 30)
    assert ("Confusion matrix" in page.text) is (n_labels <= 30)
    for pair in scores["most_confused"] if n_labels > 30 else []:
        assert pair["label"] in page.contents["td"] and pair["predicted"] in page.contents["td"]


def test_list_of_metrics_omits_tables(tmp_path: Path) -> None:
    scores = make_scores(77)
    page = report(tmp_path / "r", scores, validation=scores)
    metrics = page.html[page.html.index("<h2>Metrics") :]
    assert len(metrics) < 12_000
    assert metrics.count("in a table above") == metrics.count("in metrics.json") == 4
    assert "intervals.mcc" in metrics and "calibration_error" in metrics


def test_markup_in_labels_and_errors_is_escaped(tmp_path: Path) -> None:
    scores = make_scores(2, names=[HOSTILE, "\x1b[31m" + HOSTILE])
    mistake = {"text": HOSTILE + "\x00", "pair": HOSTILE, "label": HOSTILE, "predicted": [HOSTILE], "line": HOSTILE}
    scores["mistakes"] = [mistake, {"text": "x" * 5000, "probability": 0.99, "line": 12}]
    page = report(tmp_path / "r", scores)
    assert "img" not in page.contents and page.contents["script"] == [SCRIPT]
    attributes = [key for _, attributes in page.elements for key in attributes]
    assert not [key for key in attributes if key == "style" or key.startswith("on")]
    assert "\x1b" not in page.html and "\x00" not in page.html
    assert "x" * 300 + "…" in page.html and "x" * 301 not in page.html
    # Two rows of labels, five cells of the mistake, and the text on curves: escaped, not dropped. Heads of the
    # confusion and keys of the curves are cut off.
    assert page.text.count("<script>alert(1)</script>") == 8


def test_multi_label_and_regression_have_their_own_headlines(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    marks = rng.random((50, 3)) < 0.4
    multi_label = score_multi_label(
        marks, rng.random((50, 3)), np.full(3, 0.25), ["a", "b", "c"], Bootstrap(n_resamples=20)
    )
    page = report(tmp_path / "multi_label", multi_label, "multi_label")
    assert page.contents["b"][:2] == [f"{multi_label['f1_micro']:.4f}", f"{multi_label['f1_macro']:.4f}"]
    assert "0.2500" in page.contents["td"] and "every row with every label" in page.text
    targets = rng.normal(size=50)
    numbers = score_regression(targets, targets + rng.normal(size=50), Bootstrap(n_resamples=20))
    page = report(tmp_path / "numbers", numbers | {"n_truncated": 3}, "regression")
    assert page.contents["b"][:2] == [f"{numbers['pearson']:.4f}", f"{numbers['spearman']:.4f}"]
    assert "3 of 50 rows were too long" in page.text


@pytest.mark.parametrize(
    ("label_type", "figures", "unit"),
    [
        ("single_label", {"f1_macro": 0.5}, "nats per row"),
        ("multi_label", {"average_precision_micro": 0.5}, "nats per row and label"),
        ("regression", {"mse": 0.5}, "squared error"),
    ],
)
def test_curves_of_a_classifier_have_the_unit_of_its_loss(
    tmp_path: Path, label_type: str, figures: dict[str, float], unit: str
) -> None:
    log = [{"kind": "train", "step": 1, "loss": 1.0}, {"kind": "eval", "step": 1, "loss": 1.0, **figures}]
    page = read_report(make_run(tmp_path / "r", log, manifest={"task": "cls", "label_type": label_type}))
    absent = next(text for text in page.contents["p"] if text.startswith("Not in the log"))
    assert absent == "Not in the log: learning rate, gradient norm, tokens per second, MFU."
    assert f"<h3>Loss<span>{unit}</span></h3>" in page.html
    assert sum(name == "svg" for name, _ in page.elements) == 2


@pytest.mark.parametrize(
    "spoilt", [None, 3, "x", [], [1], [None], {}, {"labels": 3}, {"labels": ["a"], "counts": [[None]]}]
)
@pytest.mark.parametrize("key", ["per_class", "confusion", "calibration", "most_confused", "intervals", "mistakes"])
def test_malformed_metric_is_left_out_of_the_report(tmp_path: Path, key: str, spoilt: Any) -> None:
    page = report(tmp_path / "r", make_scores(2) | {key: spoilt})
    assert "95% interval" in page.text or key == "intervals"
    assert ("Calibration" in page.text) is (key != "calibration")


def test_report_of_saved_metrics_equals_that_of_computed_ones() -> None:
    scores = make_scores(4)
    assert json.loads(json.dumps(scores)) == scores


def score_labels(names: list[str]) -> dict[str, Any]:
    return make_scores(len(names), n=300, names=names)


def shown(metrics: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> str:
    label_type = "regression" if "mse" in metrics else "multi_label" if "hamming_loss" in metrics else "single_label"
    show_metrics({"task": "cls", "label_type": label_type, **metrics})
    return capsys.readouterr().out


def test_terminal_shows_accuracy_with_interval_and_baseline(capsys: pytest.CaptureFixture[str]) -> None:
    scores = score_labels(["ham", "spam"])
    out = shown(scores, capsys)
    low, high = scores["intervals"]["accuracy"]
    first, second, *_ = out.splitlines()
    assert first.split()[:2] == ["accuracy", f"{scores['accuracy']:.2%}"]
    assert first.endswith(f"95% interval {low:.2%} to {high:.2%}")
    assert second.split()[-1] == f"{scores['baseline_accuracy']:.2%}"
    for count in np.ravel(scores["confusion"]["counts"]):
        assert f" {count:,}\n" in out or f" {count:,} " in out


def test_control_characters_of_labels_never_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(score_labels(["\x1b[2Jham", "sp\ram\x9b", "a\nb"]), capsys)
    assert all(character.isprintable() or character == "\n" for character in out)
    many = shown(score_labels([f"\x1b]0;{i}" for i in range(25)]), capsys)
    assert all(character.isprintable() or character == "\n" for character in many)


def test_terminal_shows_the_worst_of_many_labels(capsys: pytest.CaptureFixture[str]) -> None:
    scores = score_labels([f"label {i}" for i in range(77)])
    lines = shown(scores, capsys).splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("the 5 of 77 labels with the lowest F1"))
    worst = sorted(row["f1"] for row in scores["per_class"])[:5]
    assert [f"{f1:.4f}" for f1 in worst] == [line.split()[4] for line in lines[at + 2 : at + 7]]
    assert "Most frequent confusions" in lines and len(lines) < 35


def test_terminal_columns_are_aligned_for_chinese_and_long_labels(capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(score_labels(["体育", "财经新闻" * 9, "x" * 99]), capsys)
    rows = [line for line in out.splitlines() if line.startswith(("体育", "财经", "xxx"))]

    def columns(text: str) -> int:
        return sum(2 if "\u4e00" <= character <= "\u9fff" else 1 for character in text)

    assert len({columns(row) for row in rows[:3]}) == 1 and len({columns(row) for row in rows[3:]}) == 1
    assert len(rows) == 6


def test_terminal_shows_metrics_of_multi_label_and_regression(capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    multi_label = score_multi_label(rng.random((40, 2)) < 0.5, rng.random((40, 2)), np.array([0.25, 0.5]), ["a", "b"])
    out = shown(multi_label, capsys)
    assert f"{multi_label['f1_micro']:.4f}" in out and "0.250" in out and "constant baseline" in out
    numbers = score_regression(np.arange(9.0), np.arange(9.0) ** 2)
    out = shown(numbers, capsys)
    assert f"{numbers['pearson']:.4f}" in out and "predicting the mean" in out
    constant = shown(score_regression(np.ones(3), np.arange(3.0)), capsys)
    assert "mean squared error" in constant and "Pearson" not in constant


def find_paths(page: Page, title: str) -> int:
    """The number of curves of a chart."""
    start = page.html.index(f'aria-label="{title}')
    return page.html[start : page.html.index("</svg>", start)].count("<path")


@pytest.mark.parametrize("n_labels", [2, 3, 10, 11])
def test_curves_of_up_to_ten_labels_are_drawn_with_their_areas(tmp_path: Path, n_labels: int) -> None:
    scores = make_scores(n_labels, names=["垃圾", *(f"label {i}" for i in range(1, n_labels))])
    page = report(tmp_path / "r", scores)
    n_curves = 0 if n_labels > 10 else 1 if n_labels == 2 else n_labels
    assert ("Curves are drawn for up to 10 labels" in page.text) is (n_curves == 0)
    if n_curves:
        assert find_paths(page, "ROC curve") == find_paths(page, "Precision-recall curve") == n_curves
        assert f"AUC {scores['curves'][0]['roc_auc']:.3f}" in page.text
        assert f"AP {scores['curves'][0]['average_precision']:.3f}" in page.text
    if n_labels == 2:
        assert scores["curves"][0]["roc_auc"] == scores["roc_auc"]


@pytest.mark.parametrize("roc", [None, 3, [[0, 1]], [[0, 1], [0, "1"]], [[0, 2], [0, 1]], [[0], [0]]])
def test_curves_that_were_edited_are_left_out(tmp_path: Path, roc: Any) -> None:
    scores = make_scores(2)
    scores["curves"][0]["roc"] = roc
    page = report(tmp_path / "r", scores)
    assert "Precision-recall curve" in page.html and "ROC curve over" not in page.html
