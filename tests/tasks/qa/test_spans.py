"""The best spans are those of all windows, never outside of the context, with probabilities that sum to 1."""

import itertools

import numpy as np
import pytest

from llmkit.tasks.qa.spans import Span, WindowScores, find_spans


def make_windows(rng: np.random.Generator, n_tokens: int, size: int, step: int) -> list[WindowScores]:
    begins = [0]
    while begins[-1] + size < n_tokens:
        begins.append(begins[-1] + step)
    sizes = [min(size, n_tokens - begin) for begin in begins]
    logits = [rng.normal(0, 2, (2, n)).astype(np.float32) for n in sizes]
    return [
        WindowScores(begin, *each, float(rng.normal())) for begin, each in zip(begins, logits, strict=True)
    ]  # fmt: skip


def all_spans(windows: list[WindowScores], visible: np.ndarray, longest: int) -> list[Span]:
    """Every allowed span with its highest score, found one by one."""
    found: dict[tuple[int, int], float] = {}
    for window in windows:
        for first, last in itertools.combinations_with_replacement(range(len(window.starts)), 2):
            place = (window.begin + first, window.begin + last)
            if last - first < longest and visible[place[0]] and visible[place[1]]:
                score = float(window.starts[first]) + float(window.ends[last])
                found[place] = max(found.get(place, -np.inf), score)
    return sorted((Span(*place, score) for place, score in found.items()), key=lambda span: -span.score)


@pytest.mark.parametrize(
    ("n_tokens", "size", "step", "longest"),
    [(12, 20, 10, 5), (40, 12, 5, 4), (40, 12, 11, 30), (7, 3, 1, 2), (1, 4, 2, 3)],
)
def test_best_spans_are_those_of_a_search_over_all_spans(n_tokens: int, size: int, step: int, longest: int) -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        windows = make_windows(rng, n_tokens, size, step)
        visible = rng.random(n_tokens) < 0.8
        expected = all_spans(windows, visible, longest)
        found = find_spans(windows, visible, longest, n_best=6)
        assert [span[:2] for span in found.best] == [span[:2] for span in expected[:6]]
        assert [span.score for span in found.best] == pytest.approx([span.score for span in expected[:6]])
        assert found.null == min(window.null for window in windows)
        if expected:
            total = np.logaddexp.reduce([span.score for span in expected])
            assert found.log_total == pytest.approx(total)


def test_probabilities_of_all_spans_and_of_no_answer_sum_to_1() -> None:
    rng = np.random.default_rng(3)
    windows, visible = make_windows(rng, 15, 8, 4), np.ones(15, bool)
    found = find_spans(windows, visible, 3, n_best=10_000)
    for may_decline in (False, True):
        total = sum(found.probability(span.score, may_decline=may_decline) for span in found.best)
        total += found.probability(found.null, may_decline=True) if may_decline else 0.0
        assert total == pytest.approx(1.0)


def test_context_without_a_visible_token_has_no_answer() -> None:
    window = WindowScores(0, np.zeros(3, np.float32), np.zeros(3, np.float32), 0.5)
    for found in (
        find_spans([window], np.zeros(3, bool), 5, 3),
        find_spans([window._replace(starts=window.starts[:0], ends=window.ends[:0])], np.zeros(0, bool), 5, 3),
    ):
        assert found.best == [] and found.no_answer_score == np.inf
        assert found.probability(found.null, may_decline=True) == pytest.approx(1.0)
