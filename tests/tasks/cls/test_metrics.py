"""The figures of a task are described without contradiction."""

import pytest

from llmkit.metrics.spec import MetricSet
from llmkit.tasks.cls.metrics import METRICS


@pytest.mark.parametrize("metrics", list(METRICS.values()))
def test_keys_are_single_headlines_are_in_order_and_baselines_are_there(metrics: MetricSet) -> None:
    keys = [metric.key for metric in metrics.metrics]
    assert len(set(keys)) == len(keys)
    assert [metric.headline for metric in metrics.headlines] == list(range(1, len(metrics.headlines) + 1))
    assert {metric.baseline for metric in metrics.metrics if metric.baseline} <= set(keys)
    assert metrics.best_by == "loss" or metrics.find(metrics.best_by) is not None
    for metric in metrics.metrics:
        assert metric.format.format(1) and metric.progress.format(1.0) is not None


def test_progress_line_has_the_metric_that_the_weights_are_chosen_by_even_if_it_has_no_place_there() -> None:
    found = {"accuracy": 0.75, "f1_macro": 0.5, "mcc": 0.25, "metric": "mcc"}
    assert METRICS["single_label"].describe_progress(found) == "accuracy 75.0%, f1 macro 0.5000, mcc 0.2500"
