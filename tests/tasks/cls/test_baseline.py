"""The n-gram baseline learns what a linear model can, is always the same, and stays small whatever the rows are."""

import sys
from typing import Any

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from llmkit.metrics.bootstrap import Bootstrap
from llmkit.tasks.cls import baseline
from llmkit.tasks.cls.baseline import BaselineOutputs, cut_text, fit_baseline, measure_baseline
from llmkit.tasks.cls.label_types import LABEL_TYPES

WORDS = ("river", "boat", "lamp", "night", "stone", "road", "letter", "window", "garden", "clock")


def make_rows(n: int, seed: int = 0) -> tuple[list[tuple[str, str]], np.ndarray]:
    """Texts of random words; label 1 where one of the first two words occurs more often than the third."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(WORDS), size=(n, 8))
    labels = ((drawn < 2).sum(1) > (drawn == 2).sum(1)).astype(np.int64)
    return [(" ".join(WORDS[word] for word in row), "") for row in drawn], labels


def accuracy(outputs: np.ndarray, labels: np.ndarray) -> float:
    return float((outputs.argmax(1) == labels).mean())


def test_baseline_is_as_good_as_scikit_learn_by_hand() -> None:
    texts, labels = make_rows(600)
    others, true = make_rows(400, 1)
    ours = fit_baseline(texts, labels, 2).predict(others)
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    matrix = vectorizer.fit_transform([text for text, _ in texts])
    model = LogisticRegression(C=10).fit(matrix, labels)
    theirs = model.score(vectorizer.transform([text for text, _ in others]), true)
    assert accuracy(ours, true) > max(0.9, theirs - 0.02)
    assert ours.sum(1) == pytest.approx(1)


def test_two_fits_of_the_same_rows_are_equal_to_the_last_bit() -> None:
    texts, labels = make_rows(200)
    first, second = (fit_baseline(texts, labels, 2).predict(texts) for _ in range(2))
    assert np.array_equal(first, second)


def test_chinese_without_spaces_is_learned_from_its_characters() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=300)
    filler = "山水风云天地人心日月草木金石东西南北"
    texts = [
        (
            "".join(rng.choice(list(filler), 12))
            + ("大将" if label else "先生")
            + "".join(rng.choice(list(filler), 5)),
            "",
        )
        for label in labels
    ]
    outputs = fit_baseline(texts[:200], labels[:200], 2).predict(texts[200:])
    assert accuracy(outputs, labels[200:]) > 0.9


def test_second_text_of_a_pair_and_its_likeness_to_the_first_are_features() -> None:
    texts, labels = make_rows(300)
    second_decides = [("always the same", text) for text, _ in texts]
    outputs = fit_baseline(second_decides[:200], labels[:200], 2).predict(second_decides[200:])
    assert accuracy(outputs, labels[200:]) > 0.9
    rng = np.random.default_rng(1)
    likes = rng.integers(2, size=400)
    names = [" ".join(rng.choice(WORDS, 6)) for _ in likes]
    pairs = [(name, name if like else " ".join(rng.choice(WORDS, 6))) for name, like in zip(names, likes, strict=True)]
    outputs = fit_baseline(pairs[:300], likes[:300], 2).predict(pairs[300:])
    assert accuracy(outputs, likes[300:]) > 0.9


def test_each_of_several_labels_has_a_model_and_a_constant_one_its_constant() -> None:
    texts, labels = make_rows(300)
    marks = np.stack([labels, 1 - labels, np.zeros_like(labels), np.ones_like(labels)], axis=1).astype(np.int8)
    outputs = fit_baseline(texts[:200], marks[:200], 4).predict(texts[200:])
    assert outputs.shape == (100, 4)
    assert ((outputs[:, 0] >= 0.5) == labels[200:]).mean() > 0.9
    assert set(outputs[:, 2]) == {0.0} and set(outputs[:, 3]) == {1.0}


def test_numbers_are_predicted_in_their_own_unit() -> None:
    texts, labels = make_rows(300)
    numbers = 1e6 + 1000.0 * labels
    outputs = fit_baseline(texts[:200], numbers[:200], 1).predict(texts[200:])
    assert np.square(outputs - numbers[200:]).mean() < 0.5 * numbers[200:].var()


@pytest.mark.parametrize(
    "texts",
    [
        ["a", "b", "c", "d"],
        ["same", "same", "same", "same"],
        ["😀", "!!!", "𠮷", "\u200d"],
        [" ", "\n", "", "\t"],
        ["NA", "null", "0", "nan"],
    ],
)
@pytest.mark.parametrize("kind", ["single", "several", "number"])
def test_four_rows_of_anything_have_a_baseline(texts: list[str], kind: str) -> None:
    labels: Any = np.array([0, 1, 0, 1])
    if kind == "several":
        labels = np.stack([labels, 1 - labels], axis=1).astype(np.int8)
    rows = [(text, "") for text in texts]
    model = fit_baseline(rows, labels.astype(float) if kind == "number" else labels, 1 if kind == "number" else 2)
    outputs = model.predict([*rows, ("never seen before", "")])
    assert len(outputs) == 5 and np.isfinite(outputs).all()


def test_label_without_a_sampled_row_has_probability_0(monkeypatch: pytest.MonkeyPatch) -> None:
    texts, labels = make_rows(100)
    labels[7] = 2
    monkeypatch.setattr(baseline, "MAX_TRAIN_ROWS", 30)
    model = fit_baseline(texts, labels, 4)
    assert model.method["n_train_rows"] == 30
    outputs = model.predict(texts)
    assert outputs.shape == (100, 4) and not outputs[:, 3].any()
    monkeypatch.setattr(baseline, "MAX_TRAIN_ROWS", 1)
    assert set(fit_baseline(texts, labels, 4).predict(texts).max(1)) == {1.0}


def test_class_weights_of_the_recipe_move_the_baseline_too() -> None:
    texts, labels = make_rows(400)
    kept = np.flatnonzero((labels == 0) | (np.arange(400) % 10 == 0))
    texts, labels = [texts[row] for row in kept], labels[kept]
    plain, balanced, given = (
        fit_baseline(texts, labels, 2, weights).predict(texts)[:, 1].mean()
        for weights in ("none", "balanced", {1: 50.0})
    )
    assert balanced > plain and given > plain


def test_texts_of_a_megabyte_are_cut_and_many_labels_keep_few_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baseline, "MAX_WEIGHTS", 100_000)
    assert [len(text) for text in cut_text("x" * 1_000_000, "y" * 1_000_000)] == [5_000, 5_000]
    rng = np.random.default_rng(0)
    texts = [(" ".join(map(str, rng.integers(100_000, size=40))), "") for _ in range(1_000)]
    model = fit_baseline(texts, np.arange(1_000) % 100, 100)
    assert model.method["n_features"] == 1_000


def test_large_data_is_sampled_and_long_texts_have_shorter_ngrams(monkeypatch: pytest.MonkeyPatch) -> None:
    texts, labels = make_rows(200)
    n_characters = sum(len(text) for text, _ in texts)
    monkeypatch.setattr(baseline, "MAX_TRAIN_CHARACTERS", n_characters // 2)
    monkeypatch.setattr(baseline, "MAX_CHARACTERS_FOR_LONG_NGRAMS", 100)
    model = fit_baseline(texts, labels, 2)
    assert 90 <= model.method["n_train_rows"] <= 110
    assert "characters (1-2)" in model.method["model"]


@pytest.mark.parametrize("name", list(LABEL_TYPES))
def test_every_main_metric_is_measured_with_its_interval_on_the_rows_given(name: str) -> None:
    texts, ids = make_rows(120)
    labels: Any = {"single_label": ids, "multi_label": np.stack([ids, 1 - ids], 1).astype(np.int8)}.get(name)
    labels = ids + np.linspace(0, 1, 120) if labels is None else labels
    model = fit_baseline(texts[:80], labels[:80], 2)
    held_out = BaselineOutputs(model.predict(texts[80:]), np.full(2, 0.5), model.method)
    rows = np.arange(0, 40, 2)
    metrics, intervals = measure_baseline(
        held_out.take(rows), LABEL_TYPES[name], labels[80:][rows], ["a", "b"], Bootstrap(n_resamples=50)
    )
    keys = {f"ngram_baseline_{metric.key}" for metric in LABEL_TYPES[name].metrics.headlines}
    keys -= {"ngram_baseline_f1_positive"}  # no label is called positive
    assert set(metrics) == keys | {"ngram_baseline"}
    assert intervals and set(intervals) <= keys


def test_scikit_learn_is_not_loaded_before_a_baseline_is_fitted() -> None:
    import subprocess

    code = "import sys; import llmkit.tasks.cls.training; sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
