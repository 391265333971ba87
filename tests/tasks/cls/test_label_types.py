"""Label types: how one is chosen, what it predicts and measures, and its worst errors."""

import numpy as np
import pytest

from llmkit.config.cls import Cls
from llmkit.metrics.bootstrap import Bootstrap
from llmkit.tables.label_columns import Columns
from llmkit.tasks.cls.label_type import LabelType
from llmkit.tasks.cls.label_types import LABEL_TYPES, SingleLabel, choose_label_type, get_label_type
from llmkit.text.records.rows import Row

NAMES = ["a", "b", "c"]
HALF = np.full(3, 0.5)


def is_lower_better(kind: str, name: str) -> bool:
    metric = LABEL_TYPES[kind].metrics.find(name)
    return metric is not None and not metric.higher_is_better


def make_rows(kind: str, skill: float, n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Labels and outputs that know them better the higher `skill` is."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(n, 3))
    if kind == "regression":
        labels = rng.normal(size=n)
        return labels, labels + noise[:, 0] / skill
    if kind == "single_label":
        labels = rng.integers(0, 3, n)
        odds = np.exp(noise + skill * (labels[:, None] == np.arange(3)))
        return labels, odds / odds.sum(-1, keepdims=True)
    labels = rng.integers(0, 2, (n, 3)).astype(np.int8)
    return labels, 1 / (1 + np.exp(-(noise + skill * (2 * labels - 1))))


@pytest.mark.parametrize("kind", ["single_label", "multi_label", "regression"])
def test_selection_metric_prefers_the_better_model(kind: str) -> None:
    name = LABEL_TYPES[kind].metrics.best_by
    poor, good = (LABEL_TYPES[kind].measure_quickly(*make_rows(kind, skill), NAMES)[name] for skill in (0.3, 3.0))
    assert poor is not None
    assert good is not None
    assert (good < poor) == is_lower_better(kind, name)


@pytest.mark.parametrize("kind", ["single_label", "multi_label", "regression"])
def test_quick_metrics_are_the_scalars_of_all_metrics(kind: str) -> None:
    labels, outputs = make_rows(kind, 1.0)
    quick = LABEL_TYPES[kind].measure_quickly(labels, outputs, NAMES)
    everything = LABEL_TYPES[kind].measure(labels, outputs, NAMES, HALF, Bootstrap())
    assert set(quick) <= set(everything)
    assert all(value is None or isinstance(value, float) for value in quick.values())
    if kind != "multi_label":  # whose thresholds are tuned
        assert quick == {name: everything[name] for name in quick}


@pytest.mark.parametrize("kind", ["single_label", "multi_label", "regression"])
def test_direction_of_each_metric_prefers_the_better_model(kind: str) -> None:
    poor, good = (LABEL_TYPES[kind].measure_quickly(*make_rows(kind, skill), NAMES) for skill in (0.3, 3.0))
    lower = {name for name in good if is_lower_better(kind, name)}
    for name in lower - {"calibration_error"}:
        assert good[name] < poor[name], name  # type: ignore[operator]
    for name in set(good) - lower:
        assert good[name] is None or good[name] >= poor[name], name  # type: ignore[operator]


def test_predictions_use_the_highest_probability_or_the_thresholds() -> None:
    outputs = np.array([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]])
    assert LABEL_TYPES["single_label"].predict(outputs, HALF).tolist() == [1, 0]
    marks = LABEL_TYPES["multi_label"].predict(outputs, np.array([0.2, 0.6, 0.3]))
    assert marks.tolist() == [[True, False, True], [True, False, True]]
    assert LABEL_TYPES["regression"].predict(outputs[:, 0], HALF).tolist() == [0.2, 0.6]


def test_severity_of_a_multi_label_error_is_that_of_its_worst_label() -> None:
    labels = np.array([[1, 0, 0], [1, 0, 0], [1, 0, 0]])
    outputs = np.array([[0.1, 0.6, 0.2], [0.9, 0.1, 0.1], [0.4, 0.2, 0.95]])
    # Row 0: the given label got 0.1, so 0.9 went against the truth; in row 2 0.95 went to one that is not there.
    found = LABEL_TYPES["multi_label"].find_errors(labels, outputs, HALF, 9)
    assert [row for _, row in found] == [2, 0]
    assert [how for how, _ in found] == pytest.approx([0.95, 0.9])


def test_auto_label_type_uses_lists_and_the_separator_and_is_never_regression() -> None:
    def choose(*cells: object, **options: object) -> str:
        rows = [Row(number, {"text": "a", "label": cell}) for number, cell in enumerate(cells, 2)]
        return choose_label_type(Cls(**options), rows, Columns("text", None, "label")).name  # type: ignore[arg-type]

    assert choose(0.5, 0.25) == "single_label"
    assert choose(0.5, 0.25, labels="regression") == "regression"
    assert choose("a|b", "a", separator="|") == "multi_label"
    assert choose("x", []) == "multi_label"


def test_label_types_of_earlier_versions_are_read() -> None:
    assert [get_label_type(name).name for name in ("single", "multiple")] == ["single_label", "multi_label"]


@pytest.mark.parametrize("label_type", LABEL_TYPES.values(), ids=LABEL_TYPES)
def test_every_headline_and_baseline_is_measured(label_type: LabelType) -> None:
    labels, outputs = make_rows(label_type.name, 1.0)
    if isinstance(label_type, SingleLabel):
        label_type = SingleLabel(positive=1)
    figures = label_type.measure(labels, outputs, NAMES, HALF, Bootstrap())
    for metric in label_type.metrics.metrics:
        assert not metric.headline or metric.key in figures, metric.key
        assert not metric.baseline or metric.baseline in figures, metric.key
    must_beat = label_type.metrics.find(label_type.must_beat)
    assert must_beat is not None
    assert must_beat.baseline
