"""The metrics of taggers are selected by entity F1, and every one has a name."""

from llmkit.tasks.ner.metrics import METRICS


def test_weights_are_selected_by_entity_f1() -> None:
    better, worse = ({"entity_f1": value, "loss": 1.0} for value in (0.9, 0.8))
    assert METRICS.selection_key(better) < METRICS.selection_key(worse)
    assert (
        METRICS.describe_progress({"entity_f1": 0.9, "token_accuracy": 0.5}) == "entity f1 0.9000, token accuracy 50.0%"
    )


def test_compared_columns_end_with_entity_f1() -> None:
    assert METRICS.compared[-1].key == "entity_f1"
    assert len({metric.key for metric in METRICS.metrics}) == len(METRICS.metrics)
