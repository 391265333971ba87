"""Descriptions of metrics: direction, place and format."""

import math

import pytest

from llmkit.metrics.spec import Metric, MetricSet
from llmkit.tasks.clm import METRICS as CLM
from llmkit.tasks.cls.metrics import METRICS as CLS
from llmkit.tasks.mlm import METRICS as MLM

SETS = [CLM, MLM, *CLS.values()]
TINY = MetricSet(
    (
        Metric("accuracy", "share right", "{:.1%}", headline=2, progress="accuracy {:.1%}", column="acc"),
        Metric("mse", "error", "{:.4g}", higher_is_better=False, headline=1, column="mse"),
        Metric("rows", "rows", "{:,}", in_terminal=False),
        Metric("loss", "loss", higher_is_better=False, column="loss"),
    ),
    best_by="accuracy",
)


def test_selection_key_is_lower_for_the_better_model_in_both_directions() -> None:
    worse, better = {"accuracy": 0.5, "mse": 2.0, "loss": 1.0}, {"accuracy": 0.6, "mse": 1.0, "loss": 3.0}
    assert TINY.selection_key(better) < TINY.selection_key(worse)
    assert TINY.selection_key(better, "mse") < TINY.selection_key(worse, "mse")
    assert TINY.selection_key(worse, "loss") < TINY.selection_key(better, "loss")
    equal = worse | {"loss": 0.9}
    assert TINY.selection_key(equal) < TINY.selection_key(worse), "of equal values, the loss decides"


def test_undefined_metric_is_worse_than_any_value_and_ordered_by_the_loss() -> None:
    undefined = TINY.selection_key({"accuracy": None, "loss": 1.0})
    assert undefined > TINY.selection_key({"accuracy": -1e300, "loss": math.inf})
    assert TINY.selection_key({"accuracy": None, "loss": 0.5}) < undefined


def test_headlines_order_the_report_and_the_columns_of_compare() -> None:
    assert [metric.key for metric in TINY.headlines] == ["mse", "accuracy"]
    assert [metric.key for metric in TINY.compared] == ["accuracy", "loss", "mse"], "what is ranked by comes last"


def test_progress_line_adds_the_model_selection_metric_if_it_is_missing() -> None:
    record = {"accuracy": 0.25, "loss": 1.0, "f1_macro": 0.125}
    assert TINY.describe_progress(record) == "accuracy 25.0%"
    assert TINY.describe_progress(record | {"metric": "accuracy"}) == "accuracy 25.0%"
    assert TINY.describe_progress(record | {"metric": "f1_macro"}) == "accuracy 25.0%, f1 macro 0.1250"
    assert TINY.describe_progress(record | {"metric": "mcc"}) == "accuracy 25.0%"


@pytest.mark.parametrize(
    ("spec", "value", "shown"),
    [("{:.2%}", 0.12345, "12.35%"), ("{:,.3f}", 1234.5, "1,234.50"), ("{:.4f}", 2, "2.0000")],
)
def test_headline_value_is_formatted_by_its_kind(spec: str, value: float, shown: str) -> None:
    assert Metric("a", "a", spec).show_on_page(value) == shown


@pytest.mark.parametrize("metrics", SETS)
def test_metrics_of_each_task_have_unique_keys_and_existing_baselines(metrics: MetricSet) -> None:
    keys = [metric.key for metric in metrics.metrics]
    assert len(keys) == len(set(keys))
    assert {metric.baseline for metric in metrics.metrics if metric.baseline} <= set(keys)
    assert metrics.best_by == "loss" or metrics.find(metrics.best_by)
    places = [metric.headline for metric in metrics.metrics if metric.headline]
    assert sorted(places) == list(range(1, len(places) + 1))
    for metric in metrics.metrics:
        assert metric.format.format(1) and metric.progress.format(1) is not None


def test_compare_shows_the_clm_metrics_that_need_no_common_tokenizer_and_bits_per_byte_last() -> None:
    assert [metric.key for metric in CLM.compared] == ["loss", "perplexity", "word_perplexity", "bits_per_byte"]
    assert [metric.key for metric in CLM.compared if metric.per_token] == ["loss", "perplexity"]
    assert not any(metric.higher_is_better for metric in CLM.compared)


def test_nsp_and_sop_have_the_same_metrics() -> None:
    for key in ("loss", "accuracy", "baseline_accuracy"):
        assert MLM.find(f"nsp_{key}") is not None
        assert MLM.find(f"sop_{key}") is not None
    found = {"mlm_accuracy": 0.25, "sop_accuracy": 0.5, "loss": 1.0}
    assert MLM.describe_progress(found) == "mlm accuracy 25.0%, sop accuracy 50.0%"
