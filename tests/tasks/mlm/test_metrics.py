"""The figures of a task are described without contradiction."""

import pytest

from llmkit.metrics.spec import MetricSet
from llmkit.tasks.mlm.metrics import METRICS


@pytest.mark.parametrize("metrics", [METRICS])
def test_keys_are_single_headlines_are_in_order_and_baselines_are_there(metrics: MetricSet) -> None:
    keys = [metric.key for metric in metrics.metrics]
    assert len(set(keys)) == len(keys)
    assert [metric.headline for metric in metrics.headlines] == list(range(1, len(metrics.headlines) + 1))
    assert {metric.baseline for metric in metrics.metrics if metric.baseline} <= set(keys)
    assert metrics.best_by == "loss" or metrics.find(metrics.best_by) is not None
    for metric in metrics.metrics:
        assert metric.format.format(1) and metric.progress.format(1.0) is not None


def test_pairs_have_the_same_figures_whatever_they_are_asked() -> None:
    for key in ("loss", "accuracy", "baseline_accuracy"):
        assert METRICS.find(f"nsp_{key}") is not None
        assert METRICS.find(f"sop_{key}") is not None
    found = {"mlm_accuracy": 0.25, "sop_accuracy": 0.5, "loss": 1.0}
    assert METRICS.describe_progress(found) == "mlm accuracy 25.0%, sop accuracy 50.0%"
