"""The figures of a task are described without contradiction."""

import pytest

from llmkit.metrics.spec import MetricSet
from llmkit.tasks.clm.metrics import METRICS


@pytest.mark.parametrize("metrics", [METRICS])
def test_keys_are_single_headlines_are_in_order_and_baselines_are_there(metrics: MetricSet) -> None:
    keys = [metric.key for metric in metrics.metrics]
    assert len(set(keys)) == len(keys)
    assert [metric.headline for metric in metrics.headlines] == list(range(1, len(metrics.headlines) + 1))
    assert {metric.baseline for metric in metrics.metrics if metric.baseline} <= set(keys)
    assert metrics.best_by == "loss" or metrics.find(metrics.best_by) is not None
    for metric in metrics.metrics:
        assert metric.format.format(1) and metric.progress.format(1.0) is not None


def test_runs_are_compared_by_figures_of_the_text_and_of_tokens_and_bits_per_byte_comes_last() -> None:
    assert [metric.key for metric in METRICS.compared] == ["loss", "perplexity", "word_perplexity", "bits_per_byte"]
    assert [metric.key for metric in METRICS.compared if metric.per_token] == ["loss", "perplexity"]
    assert not any(metric.higher_is_better for metric in METRICS.compared)
