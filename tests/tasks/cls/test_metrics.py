"""The metrics of classifiers; tests/metrics/test_spec.py checks the metrics of every task."""

from llmkit.tasks.cls.metrics import METRICS


def test_progress_line_adds_the_model_selection_metric_if_it_is_not_shown_by_default() -> None:
    found = {"accuracy": 0.75, "f1_macro": 0.5, "mcc": 0.25, "metric": "mcc"}
    assert METRICS["single_label"].describe_progress(found) == "accuracy 75.0%, f1 macro 0.5000, mcc 0.2500"
