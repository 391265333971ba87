"""A classifier's figures on the terminal are readable, few, and harmless whatever the labels hold."""

from typing import Any

import numpy as np
import pytest

from llmkit.cli.output import show_metrics
from llmkit.metrics.classification import score_single_label
from llmkit.metrics.multilabel import score_multi_label
from llmkit.metrics.regression import score_regression


def make_scores(names: list[str]) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    labels = rng.integers(len(names), size=300)
    odds = np.exp(rng.normal(size=(300, len(names))) + 2 * np.eye(len(names))[labels])
    return score_single_label(labels, odds / odds.sum(1, keepdims=True), names, n_resamples=20)


def shown(metrics: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> str:
    label_type = "regression" if "mse" in metrics else "multi_label" if "hamming_loss" in metrics else "single_label"
    show_metrics({"task": "cls", "label_type": label_type, **metrics})
    return capsys.readouterr().out


def test_accuracy_stands_with_its_interval_and_beside_a_constant_guess(capsys: pytest.CaptureFixture[str]) -> None:
    scores = make_scores(["ham", "spam"])
    out = shown(scores, capsys)
    low, high = scores["intervals"]["accuracy"]
    first, second, *_ = out.splitlines()
    assert first.split()[:2] == ["accuracy", f"{scores['accuracy']:.2%}"]
    assert first.endswith(f"95% of resamples: {low:.2%} to {high:.2%}")
    assert second.split()[-1] == f"{scores['baseline_accuracy']:.2%}"
    for count in np.ravel(scores["confusion"]["counts"]):
        assert f"{count:>9,}" in out


def test_control_characters_of_labels_never_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(make_scores(["\x1b[2Jham", "sp\ram\x9b", "a\nb"]), capsys)
    assert all(character.isprintable() or character == "\n" for character in out)
    many = shown(make_scores([f"\x1b]0;{i}" for i in range(25)]), capsys)
    assert all(character.isprintable() or character == "\n" for character in many)


def test_of_many_labels_the_worst_are_shown_and_the_rest_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    scores = make_scores([f"label {i}" for i in range(77)])
    lines = shown(scores, capsys).splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("the 5 labels with the lowest F1 of 77"))
    worst = sorted(row["f1"] for row in scores["per_class"])[:5]
    assert [f"{f1:.4f}" for f1 in worst] == [line.split()[4] for line in lines[at + 2 : at + 7]]
    assert "guessed as" in lines[-3] and len(lines) < 35


def test_columns_stand_under_each_other_for_chinese_and_for_long_labels(capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(make_scores(["体育", "财经新闻" * 9, "x" * 99]), capsys)
    rows = [line for line in out.splitlines() if line.startswith(("体育", "财经", "xxx"))]

    def columns(text: str) -> int:
        return sum(2 if "\u4e00" <= character <= "\u9fff" else 1 for character in text)

    assert len({columns(row) for row in rows[:3]}) == 1 and len({columns(row) for row in rows[3:]}) == 1
    assert len(rows) == 6


def test_several_labels_and_numbers_show_their_own_figures(capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    multiple = score_multi_label(rng.random((40, 2)) < 0.5, rng.random((40, 2)), np.array([0.25, 0.5]), ["a", "b"])
    out = shown(multiple, capsys)
    assert f"{multiple['f1_micro']:.4f}" in out and "0.250" in out and "constant baseline" in out
    numbers = score_regression(np.arange(9.0), np.arange(9.0) ** 2)
    out = shown(numbers, capsys)
    assert f"{numbers['pearson']:.4f}" in out and "predicting the mean" in out
    constant = shown(score_regression(np.ones(3), np.arange(3.0)), capsys)
    assert "mean squared error" in constant and "Pearson" not in constant
