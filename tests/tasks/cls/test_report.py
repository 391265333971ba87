"""A classifier's report shows what is taken for what, safely, and without a flood of numbers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reporting.test_report import HOSTILE, Page, make_run, read_report

from llmkit.metrics.classification import score_single_label
from llmkit.metrics.multilabel import score_multi_label
from llmkit.metrics.regression import score_regression
from llmkit.pages.page_assets import SCRIPT


def make_scores(n_labels: int, n: int = 400, names: list[str] | None = None) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    labels = rng.integers(n_labels, size=n)
    logits = rng.normal(size=(n, n_labels)) + 2 * np.eye(n_labels)[labels]
    odds = np.exp(logits)
    names = names or [f"label {i:03}" for i in range(n_labels)]
    return score_single_label(labels, odds / odds.sum(1, keepdims=True), names, n_resamples=50)


def report(run: Path, scores: dict[str, Any], label_type: str = "single_label", **splits: Any) -> Page:
    manifest = {"task": "cls", "label_type": label_type}
    return read_report(make_run(run, [], metrics={"test": scores, **splits}, manifest=manifest, recipe="a: 1"))


def test_headlines_stand_beside_their_interval_and_a_constant_guess(tmp_path: Path) -> None:
    scores = make_scores(3)
    page = report(tmp_path / "r", scores)
    low, high = scores["intervals"]["accuracy"]
    assert page.contents["b"][:2] == [f"{100 * scores['accuracy']:.2f} %", f"{scores['f1_macro']:.4f}"]
    expected = f"95 % interval {100 * low:.2f} to {100 * high:.2f} %; {100 * scores['baseline_accuracy']:.2f} % by a"
    assert expected in page.text and "over 400 rows" in page.text


def test_every_count_of_the_confusion_is_on_the_page_and_shaded_by_its_share(tmp_path: Path) -> None:
    scores = make_scores(3)
    scores["confusion"]["counts"] = [[901, 0, 101], [7, 1203, 5], [0, 0, 0]]
    page = report(tmp_path / "r", scores)
    for count in ("901", "101", "1,203", "1,002"):
        assert count in page.contents["td"]
    classes = [attributes.get("class") for name, attributes in page.elements if name == "td"]
    assert classes.count("number right heat-8") == 1 and classes.count("number wrong heat-1") == 1
    assert "number wrong heat-0" in classes and "number wrong" in classes


@pytest.mark.parametrize("n_labels", [30, 31, 77])
def test_confusion_of_many_labels_is_listed_by_frequency_instead(tmp_path: Path, n_labels: int) -> None:
    scores = make_scores(n_labels)
    page = report(tmp_path / "r", scores)
    assert ("Most frequent confusions" in page.text) is (n_labels > 30)
    assert ("True label down" in page.text) is (n_labels <= 30)
    for pair in scores["most_confused"] if n_labels > 30 else []:
        assert pair["label"] in page.contents["td"] and pair["predicted"] in page.contents["td"]


def test_tables_do_not_flood_the_list_of_metrics(tmp_path: Path) -> None:
    scores = make_scores(77)
    page = report(tmp_path / "r", scores, validation=scores)
    metrics = page.html[page.html.index("<h2>Metrics") :]
    assert len(metrics) < 12_000
    assert metrics.count("in the section above") == metrics.count("in metrics.json") == 4
    assert "intervals.mcc" in metrics and "calibration_error" in metrics


def test_markup_in_labels_and_mistakes_never_becomes_markup_or_style(tmp_path: Path) -> None:
    scores = make_scores(2, names=[HOSTILE, "\x1b[31m" + HOSTILE])
    mistake = {"text": HOSTILE + "\x00", "pair": HOSTILE, "label": HOSTILE, "predicted": [HOSTILE], "line": HOSTILE}
    scores["mistakes"] = [mistake, {"text": "x" * 5000, "probability": 0.99, "line": 12}]
    page = report(tmp_path / "r", scores)
    assert "img" not in page.contents and page.contents["script"] == [SCRIPT]
    attributes = [key for _, attributes in page.elements for key in attributes]
    assert not [key for key in attributes if key == "style" or key.startswith("on")]
    assert "\x1b" not in page.html and "\x00" not in page.html
    assert "x" * 300 + "…" in page.html and "x" * 301 not in page.html
    # Two rows of labels, and five cells of the mistake: escaped, not dropped. Heads of the confusion are cut off.
    assert page.text.count("<script>alert(1)</script>") == 7


def test_several_labels_and_numbers_have_their_own_headlines(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    marks = rng.random((50, 3)) < 0.4
    multiple = score_multi_label(marks, rng.random((50, 3)), np.full(3, 0.25), ["a", "b", "c"], n_resamples=20)
    page = report(tmp_path / "multiple", multiple, "multi_label")
    assert page.contents["b"][:2] == [f"{multiple['f1_micro']:.4f}", f"{multiple['f1_macro']:.4f}"]
    assert "0.2500" in page.contents["td"] and "every row with every label" in page.text
    targets = rng.normal(size=50)
    numbers = score_regression(targets, targets + rng.normal(size=50), n_resamples=20)
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
def test_curves_of_a_classifier_say_what_its_loss_is_and_miss_nothing_foreign(
    tmp_path: Path, label_type: str, figures: dict[str, float], unit: str
) -> None:
    log = [{"kind": "train", "step": 1, "loss": 1.0}, {"kind": "eval", "step": 1, "loss": 1.0, **figures}]
    page = read_report(make_run(tmp_path / "r", log, manifest={"task": "cls", "label_type": label_type}))
    absent = next(text for text in page.contents["p"] if text.startswith("Not in the log"))
    assert absent == "Not in the log: learning rate, gradient norm, tokens a second, MFU."
    assert f"<h3>Loss<span>{unit}</span></h3>" in page.html
    assert sum(name == "svg" for name, _ in page.elements) == 2


@pytest.mark.parametrize(
    "spoilt", [None, 3, "x", [], [1], [None], {}, {"labels": 3}, {"labels": ["a"], "counts": [[None]]}]
)
@pytest.mark.parametrize("key", ["per_class", "confusion", "calibration", "most_confused", "intervals", "mistakes"])
def test_odd_value_in_metrics_costs_its_part_only(tmp_path: Path, key: str, spoilt: Any) -> None:
    page = report(tmp_path / "r", make_scores(2) | {key: spoilt})
    assert "95 % interval" in page.text or key == "intervals"
    assert ("Calibration" in page.text) is (key != "calibration")


def test_scores_survive_the_way_through_metrics_json() -> None:
    scores = make_scores(4)
    assert json.loads(json.dumps(scores)) == scores
