"""The figures by kind of label: which decides, what is guessed, and which rows are the worst."""

import numpy as np
import pytest

from llmkit.metrics.label_metrics import BEST_BY, LOWER_IS_BETTER, find_mistakes, guess, measure, measure_quickly
from llmkit.tables.labelled import Kind

NAMES = ["a", "b", "c"]
HALF = np.full(3, 0.5)


def make_rows(kind: Kind, skill: float, n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Labels and outputs that know them better the higher `skill` is."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(n, 3))
    if kind == "regression":
        labels = rng.normal(size=n)
        return labels, labels + noise[:, 0] / skill
    if kind == "single":
        labels = rng.integers(0, 3, n)
        odds = np.exp(noise + skill * (labels[:, None] == np.arange(3)))
        return labels, odds / odds.sum(-1, keepdims=True)
    labels = rng.integers(0, 2, (n, 3)).astype(np.int8)
    return labels, 1 / (1 + np.exp(-(noise + skill * (2 * labels - 1))))


@pytest.mark.parametrize("kind", ["single", "multiple", "regression"])
def test_best_weights_are_those_that_know_the_labels_better(kind: Kind) -> None:
    name = BEST_BY[kind]
    poor, good = (measure_quickly(kind, *make_rows(kind, skill), NAMES)[name] for skill in (0.3, 3.0))
    assert poor is not None
    assert good is not None
    assert (good < poor) == (name in LOWER_IS_BETTER)


@pytest.mark.parametrize("kind", ["single", "multiple", "regression"])
def test_quick_figures_are_the_single_ones_of_all(kind: Kind) -> None:
    labels, outputs = make_rows(kind, 1.0)
    quick = measure_quickly(kind, labels, outputs, NAMES)
    everything = measure(kind, labels, outputs, NAMES, HALF)
    assert set(quick) <= set(everything)
    assert all(value is None or isinstance(value, float) for value in quick.values())
    if kind != "multiple":  # whose thresholds are tuned
        assert quick == {name: everything[name] for name in quick}


@pytest.mark.parametrize("kind", ["single", "multiple", "regression"])
def test_a_figure_that_is_better_when_lower_is_lower_for_the_better_model(kind: Kind) -> None:
    poor, good = (measure_quickly(kind, *make_rows(kind, skill), NAMES) for skill in (0.3, 3.0))
    for name in set(good) & (set(LOWER_IS_BETTER) - {"calibration_error"}):
        assert good[name] < poor[name], name  # type: ignore[operator]
    for name in set(good) - set(LOWER_IS_BETTER):
        assert good[name] is None or good[name] >= poor[name], name  # type: ignore[operator]


def test_guesses_go_by_the_highest_probability_or_the_thresholds() -> None:
    outputs = np.array([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]])
    assert guess("single", outputs, HALF).tolist() == [1, 0]
    marks = guess("multiple", outputs, np.array([0.2, 0.6, 0.3]))
    assert marks.tolist() == [[True, False, True], [True, False, True]]
    assert guess("regression", outputs[:, 0], HALF).tolist() == [0.2, 0.6]


def test_the_surest_wrong_guess_is_the_worst_mistake() -> None:
    outputs = np.array([[0.9, 0.1, 0], [0.4, 0.6, 0], [0.05, 0.95, 0], [0.3, 0.7, 0]])
    assert find_mistakes("single", np.array([0, 0, 0, 0]), outputs, HALF, 9) == [(0.95, 2), (0.7, 3), (0.6, 1)]
    assert find_mistakes("single", np.array([0, 0, 0, 0]), outputs, HALF, 1) == [(0.95, 2)]
    assert find_mistakes("regression", np.array([1.0, 1.0]), np.array([1.5, -2.0]), HALF, 9) == [(3.0, 1), (0.5, 0)]


def test_mistake_among_several_labels_is_as_bad_as_its_worst_one() -> None:
    labels = np.array([[1, 0, 0], [1, 0, 0], [1, 0, 0]])
    outputs = np.array([[0.1, 0.6, 0.2], [0.9, 0.1, 0.1], [0.4, 0.2, 0.95]])
    # Row 0: the given label got 0.1, so 0.9 went against the truth; in row 2 0.95 went to one that is not there.
    found = find_mistakes("multiple", labels, outputs, HALF, 9)
    assert [row for _, row in found] == [2, 0]
    assert [how for how, _ in found] == pytest.approx([0.95, 0.9])
