"""Scores of questions come back as they were saved, and two runs are compared question by question."""

from pathlib import Path

import numpy as np
import pytest

from llmkit.core.errors import ModelError
from llmkit.metrics.answers import AnswerScores, score_answers
from llmkit.tables.answers import Answer
from llmkit.tables.questions import Question
from llmkit.tasks.qa.saved_predictions import compare_scores, load_scores, save_scores

QUESTIONS = [Question(f"who {n}?", "the cook won", (Answer("cook", 4, 8),), n) for n in range(60)]
KEYS = np.arange(60, dtype=np.uint64)[::-1].copy()


def make_scores(share: float, seed: int = 0) -> AnswerScores:
    is_right = np.random.default_rng(seed).random(60) < share
    return score_answers(["cook" if right else "won" for right in is_right], [["cook"]] * 60, "squad_1.1")


def save(folder: Path, scores: AnswerScores, rules: str = "squad_1.1", questions: list[Question] = QUESTIONS) -> Path:
    folder.mkdir()
    save_scores(folder, "test", rules, KEYS, questions, scores)
    return folder


def test_saved_scores_come_back_in_the_order_of_their_keys(tmp_path: Path) -> None:
    scores = make_scores(0.5)
    found = load_scores(save(tmp_path / "run", scores), "test")
    assert found is not None and found.keys.tolist() == sorted(KEYS.tolist())
    assert found.exact.tolist() == scores.exact[::-1].tolist() and found.f1.tolist() == scores.f1[::-1].tolist()
    assert load_scores(tmp_path / "run", "validation") is None


def test_damaged_scores_are_an_error_that_names_the_file(tmp_path: Path) -> None:
    path = save(tmp_path / "run", make_scores(0.5)) / "predictions/test.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ModelError, match="damaged"):
        load_scores(tmp_path / "run", "test")


def test_runs_are_compared_only_on_the_same_questions_answers_and_rules(tmp_path: Path) -> None:
    good, bad = make_scores(0.9), make_scores(0.4, 1)
    other = [Question(each.question, each.context, (Answer("won", 9, 12),), each.line) for each in QUESTIONS]
    first = load_scores(save(tmp_path / "a", good), "test")
    second = load_scores(save(tmp_path / "b", bad), "test")
    assert first is not None and second is not None
    for metric, values in (("exact_match", "exact"), ("answer_f1", "f1")):
        found = compare_scores(first, second, metric)
        difference = getattr(good, values).mean() - getattr(bad, values).mean()
        assert found is not None and found.difference == pytest.approx(difference) and found.p_value < 0.01
    assert compare_scores(first, second, "loss") is None
    for name, changed in (
        ("c", save(tmp_path / "c", bad, "squad_2.0")),
        ("d", save(tmp_path / "d", bad, questions=other)),
    ):
        found_scores = load_scores(changed, "test")
        assert found_scores is not None and compare_scores(first, found_scores, "exact_match") is None, name
