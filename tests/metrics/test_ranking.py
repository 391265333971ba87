"""Ranking by scores is measured as scikit-learn measures it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from llmkit.metrics.ranking import mean_of_defined, measure_ranking


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=1, max_size=40))
def test_area_and_precision_are_scikit_learns_with_all_ties(rows: list[tuple[bool, int]]) -> None:
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


def test_order_of_equal_scores_in_the_file_is_not_rewarded() -> None:
    is_true = np.array([True, True, False, False])
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]):
        assert measure_ranking(is_true[order], np.zeros(4)) == (0.5, 0.5)


def test_mean_leaves_out_what_is_not_defined() -> None:
    assert mean_of_defined([None, 1.0, 0.0, None]) == 0.5
    assert mean_of_defined([None]) is None
    assert mean_of_defined([]) is None
