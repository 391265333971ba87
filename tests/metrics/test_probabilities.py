"""Calibration equals Guo et al. 2017, rankings equal scikit-learn, and bad outputs are refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss

from llmkit.core.errors import ModelError
from llmkit.metrics.probabilities import (
    MAX_CURVE_LABELS,
    MAX_CURVE_POINTS,
    N_BINS,
    average_rankings,
    check_outputs,
    clip_probabilities,
    curves_by_label,
    measure_calibration,
    measure_ranking,
    trace_curves,
)


@pytest.mark.parametrize("seed", range(5))
def test_calibration_bins_equal_scikit_learn_and_give_the_error(seed: int) -> None:
    rng = np.random.default_rng(seed)
    p = rng.random(300)
    is_right = rng.random(300) < p**1.5
    measured = measure_calibration(p, is_right)
    bins = [each for each in measured["calibration"] if each["n"]]
    accuracy, confidence = calibration_curve(is_right, p, n_bins=N_BINS)
    assert [each["accuracy"] for each in bins] == pytest.approx(accuracy)
    assert [each["confidence"] for each in bins] == pytest.approx(confidence)
    assert sum(each["n"] for each in bins) == 300
    distances = [each["n"] * abs(each["accuracy"] - each["confidence"]) for each in bins]
    assert measured["calibration_error"] == pytest.approx(sum(distances) / 300)


def test_calibration_error_equals_a_value_computed_by_hand() -> None:
    # Bins of 1/15: 0.61 and 0.65 share the tenth, (0.6, 0.667]; 0.95 and 1 share the last one.
    measured = measure_calibration(np.array([0.61, 0.65, 0.95, 1.0]), np.array([True, False, True, True]))
    assert measured["calibration_error"] == pytest.approx(0.5 * (0.63 - 0.5) + 0.5 * (1 - 0.975))
    assert [one["n"] for one in measured["calibration"]] == [0] * 9 + [2] + [0] * 4 + [2]
    assert measured["calibration"][0] == {"lower": 0, "upper": 1 / 15, "n": 0, "confidence": None, "accuracy": None}
    assert measured["calibration"][9]["accuracy"] == 0.5


def test_probability_on_a_bound_is_in_the_bin_below() -> None:
    edges = np.arange(N_BINS + 1) / N_BINS
    measured = measure_calibration(edges, np.ones(N_BINS + 1, bool))
    assert [each["n"] for each in measured["calibration"]] == [2] + [1] * (N_BINS - 1)
    assert (measured["calibration"][0]["lower"], measured["calibration"][-1]["upper"]) == (0, 1)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_clipped_log_loss_equals_scikit_learn(kind: type) -> None:
    p = np.array([0, 1, 0.25], kind)
    clipped = clip_probabilities(p)
    assert clipped.dtype == np.float64
    assert -np.log(clipped).mean() == pytest.approx(log_loss([1, 1, 1], p, labels=[0, 1]), rel=1e-6)
    assert clipped[2] == 0.25


def test_bad_outputs_are_refused_with_their_number_of_rows() -> None:
    check_outputs(np.zeros((3, 2)), 3)
    bad = np.array([[0, 1], [np.nan, np.nan], [np.inf, 0]])
    with pytest.raises(ModelError, match="not finite for 2 of 3 rows"):
        check_outputs(bad, 3)
    with pytest.raises(ValueError, match="3 labels and 2 outputs"):
        check_outputs(np.zeros(2), 3)
    with pytest.raises(ValueError, match="0 labels"):
        check_outputs(np.zeros(0), 0)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=1, max_size=40))
def test_roc_auc_and_average_precision_equal_scikit_learn_with_ties(rows: list[tuple[bool, int]]) -> None:
    is_true = np.array([true for true, _ in rows])
    scores = np.array([score for _, score in rows], np.float32)
    area, precision = measure_ranking(is_true, scores)
    if is_true.any():
        assert precision == pytest.approx(metrics.average_precision_score(is_true, scores))
    else:
        assert (area, precision) == (None, None)
    if 0 < is_true.sum() < len(is_true):
        assert area == pytest.approx(metrics.roc_auc_score(is_true, scores))
    else:
        assert area is None


def test_order_of_equal_scores_has_no_effect() -> None:
    is_true = np.array([True, True, False, False])
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]):
        assert measure_ranking(is_true[order], np.zeros(4)) == (0.5, 0.5)


def test_average_ranking_skips_labels_for_which_it_is_undefined() -> None:
    assert average_rankings([(None, 1.0), (1.0, 0.0), (0.0, None)]) == (0.5, 0.5)
    assert average_rankings([(None, None)]) == (None, None)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), min_size=2, max_size=60))
def test_points_of_curves_are_those_of_scikit_learn_and_enclose_its_areas(rows: list[tuple[bool, int]]) -> None:
    is_true, scores = np.array([row[0] for row in rows]), np.array([row[1] for row in rows]) / 9
    curves = trace_curves(is_true, scores)
    assert ("roc" in curves) is bool(is_true.any() and not is_true.all())
    assert ("pr" in curves) is bool(is_true.any())
    if "roc" in curves:
        x, y = curves["roc"]
        expected = metrics.roc_curve(is_true, scores, drop_intermediate=False)
        known = {(round(float(a), 6), round(float(b), 6)) for a, b in zip(*expected[:2], strict=True)}
        assert set(zip(x, y, strict=True)) <= known
        assert metrics.auc(x, y) == pytest.approx(metrics.roc_auc_score(is_true, scores), abs=1e-5)
    if "pr" in curves:
        x, y = curves["pr"]
        precision, recall, _ = metrics.precision_recall_curve(is_true, scores)
        known = {(round(float(a), 6), round(float(b), 6)) for a, b in zip(recall, precision, strict=True)}
        assert set(zip(x, y, strict=True)) <= known and x[-1] == 1


def test_long_curves_keep_their_areas_with_few_points() -> None:
    rng = np.random.default_rng(0)
    is_true = rng.random(20_000) < 0.1
    scores = rng.normal(size=20_000) + 1.5 * is_true
    curves = trace_curves(is_true, scores)
    assert all(len(x) <= MAX_CURVE_POINTS for x, _ in curves.values())
    assert metrics.auc(*curves["roc"]) == pytest.approx(metrics.roc_auc_score(is_true, scores), abs=2e-3)
    recall, precision = map(np.array, curves["pr"])
    area = (np.diff(recall) * precision[1:]).sum()
    assert area == pytest.approx(metrics.average_precision_score(is_true, scores), abs=1e-2)


def test_each_label_has_its_curves_and_many_labels_have_none() -> None:
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(3, size=90), rng.random((90, 3))
    found = curves_by_label(["a", "b", "c"], [(labels == c, scores[:, c]) for c in range(3)])["curves"]
    for c, each in enumerate(found):
        assert each["roc_auc"] == pytest.approx(metrics.roc_auc_score(labels == c, scores[:, c]))
        assert each["average_precision"] == pytest.approx(metrics.average_precision_score(labels == c, scores[:, c]))
        assert each["share"] == pytest.approx((labels == c).mean())
    n = MAX_CURVE_LABELS + 1
    assert curves_by_label(["x"] * n, [(labels == 0, scores[:, 0])] * n) == {}
