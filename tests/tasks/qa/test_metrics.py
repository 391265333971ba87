"""The metrics of answers; tests/metrics/test_spec.py checks the metrics of every task."""

from llmkit.metrics.answers import measure_answers, score_answers
from llmkit.tasks.qa.metrics import METRICS


def test_every_metric_of_answers_is_described() -> None:
    found = measure_answers(score_answers(["a1", "", "x"], [["a1"], [], []], "squad_2.0"))
    named = {metric.key for metric in METRICS.metrics}
    assert {key for key, value in found.items() if isinstance(value, float)} <= named


def test_progress_line_shows_exact_match_and_f1() -> None:
    found = {"exact_match": 0.5, "answer_f1": 0.75, "loss": 1.0, "metric": "answer_f1"}
    assert METRICS.describe_progress(found) == "exact match 50.0%, F1 75.0%"
