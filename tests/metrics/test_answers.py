"""Exact match and F1 of answers are those of the official scripts of SQuAD 1.1, SQuAD 2.0 and CMRC 2018."""

from itertools import pairwise

import numpy as np
import pytest

from llmkit.metrics.answers import (
    Rules,
    choose_language,
    choose_rules,
    choose_threshold,
    measure_answers,
    score_answer,
    score_answers,
)
from llmkit.metrics.bootstrap import Bootstrap

# (prediction, references, exact match, F1), as the official scripts return them.
SQUAD_1 = [
    ("the Denver Broncos!", ["Denver Broncos", "Broncos"], True, 1.0),
    ("Denver", ["Denver Broncos", "the AFC"], False, 2 / 3),
    ("Broncos of Denver in Colorado", ["Denver Broncos"], False, 4 / 7),
    ("1,000", ["1000"], True, 1.0),
    ("a", ["the"], True, 0.0),
    ("Denver", ["The", "Denver"], True, 1.0),
    ("Paris Paris", ["Paris"], False, 2 / 3),
    ("Zürich", ["Zurich"], False, 0.0),
]
SQUAD_2 = [
    ("", [], True, 1.0),
    ("Denver", [], False, 0.0),
    ("", ["Denver"], False, 0.0),
    ("a", ["the"], True, 1.0),
    ("Denver", ["the", "Denver"], True, 1.0),
    ("an", [], True, 1.0),
    ("Denver", ["Denver Broncos"], False, 2 / 3),
]
CMRC = [
    ("光荣和ω-force", ["光荣和ω-force"], True, 1.0),
    ("《战国无双3》", ["战国无双3"], True, 1.0),
    ("光荣", ["光荣和ω-force"], False, 2 * (2 / 2 * 2 / 4) / (1 + 2 / 4)),
    ("由光荣开发", ["光荣公司开发"], False, 2 * (2 / 5) * (2 / 6) / (2 / 5 + 2 / 6)),
    ("1998年", ["1998年5月", "1999年"], False, 2 * 1.0 * (2 / 4) / (1 + 2 / 4)),
    ("Windows XP", ["windows xp"], True, 1.0),
    ("Windows Vista", ["windows xp"], False, 0.5),
    ("……", ["……"], True, 1.0),
    ("", [], True, 1.0),
    ("北京", [], False, 0.0),
]


@pytest.mark.parametrize(
    ("rules", "case"),
    [
        *(("squad_1.1", case) for case in SQUAD_1),
        *(("squad_2.0", case) for case in SQUAD_2),
        *(("cmrc_2018", case) for case in CMRC),
    ],
)
def test_score_is_that_of_the_official_script(rules: Rules, case: tuple[str, list[str], bool, float]) -> None:
    prediction, references, exact, f1 = case
    assert score_answer(prediction, references, rules) == (exact, pytest.approx(f1, abs=1e-12))


def test_sums_over_many_questions_are_those_of_the_official_rules_in_plain_words() -> None:
    rng = np.random.default_rng(0)
    letters = np.array(list("abcd 的是x,。"))
    texts = ["".join(rng.choice(letters, rng.integers(1, 9))) + "z" for _ in range(300)]

    def longest_run(one: list[str], other: list[str]) -> int:
        runs = {tuple(other[i:j]) for i in range(len(other)) for j in range(i + 1, len(other) + 1)}
        found = [j - i for i in range(len(one)) for j in range(i + 1, len(one) + 1) if tuple(one[i:j]) in runs]
        return max(found, default=0)

    def tokens(text: str) -> list[str]:
        spaced = "".join(f" {char} " if char in "的是," else "" if char == "。" else char for char in text)
        return spaced.split()

    for prediction, reference in pairwise(texts):
        one, other = tokens(prediction), tokens(reference)
        expected = 2 * longest_run(one, other) / (len(one) + len(other))
        assert score_answer(prediction, [reference], "cmrc_2018")[1] == pytest.approx(expected)


def test_language_is_chosen_by_the_letters() -> None:
    assert choose_language(["Who won?"]) == "en" and choose_language(["谁赢了？"]) == "zh"
    assert choose_language(["Windows XP 是哪一年发布的？"]) == "zh"
    assert choose_language(["Who is 王?", "What is it?"]) == "en" and choose_language([]) == "en"
    assert choose_rules("zh", has_unanswerable=True) == "cmrc_2018"
    assert [choose_rules("en", has_unanswerable=has) for has in (False, True)] == ["squad_1.1", "squad_2.0"]


def test_metrics_are_means_over_questions_and_their_parts() -> None:
    scores = score_answers(["Denver", "", "x", "Paris city"], [["Denver"], [], [], ["Paris"]], "squad_2.0")
    found = measure_answers(scores, Bootstrap(n_resamples=300))
    assert found["exact_match"] == 0.5 and found["answer_f1"] == pytest.approx((1 + 1 + 0 + 2 / 3) / 4)
    assert found["exact_match_answerable"] == 0.5 and found["answer_f1_answerable"] == pytest.approx(5 / 6)
    assert found["no_answer_accuracy"] == 0.5
    assert (found["n_questions"], found["n_answerable"], found["n_answered"]) == (4, 2, 3)
    for name, (low, high) in found["intervals"].items():
        assert low <= found[name] <= high
    plain = measure_answers(score_answers(["Denver"] * 3, [["Denver"]] * 3, "squad_1.1"))
    assert "no_answer_accuracy" not in plain and plain["intervals"]["exact_match"][1] == 1.0


def test_interval_covers_the_rate_in_19_of_20_samples() -> None:
    rng, n_inside = np.random.default_rng(1), 0
    for _ in range(100):
        is_right = rng.random(80) < 0.6
        scores = score_answers(["a1" if right else "b1" for right in is_right], [["a1"]] * 80, "squad_1.1")
        low, high = measure_answers(scores, Bootstrap(n_resamples=300))["intervals"]["exact_match"]
        n_inside += low <= 0.6 <= high
    assert n_inside >= 88


def test_threshold_has_the_highest_f1_of_all_thresholds() -> None:
    rng = np.random.default_rng(2)
    for _ in range(50):
        n = int(rng.integers(1, 30))
        values, f1 = rng.integers(-4, 5, n) / 2, rng.random(n).round(1)
        answerable = rng.random(n) < 0.6

        def mean_f1(threshold: float, values=values, f1=f1, answerable=answerable) -> float:  # type: ignore[no-untyped-def]
            declines = values > threshold
            return float(np.where(declines, ~answerable, f1 * answerable).mean())

        chosen = choose_threshold(values, f1, answerable)
        best = max(map(mean_f1, [*(np.unique(values) + 0.25), *(np.unique(values) - 0.25)]))
        assert mean_f1(chosen) == pytest.approx(best)


def test_threshold_is_0_if_nothing_is_gained_by_another() -> None:
    assert choose_threshold(np.array([-3.0, -1.0, 2.0]), np.ones(3), np.array([True, True, False])) == 0.0
    assert choose_threshold(np.array([-3.0, -1.0]), np.ones(2), np.array([True, True])) == 0.0
    assert choose_threshold(np.array([1.0, 2.0]), np.ones(2), np.array([True, False])) == 1.5
