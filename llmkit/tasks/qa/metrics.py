"""The metrics of question answering; `baseline_` is the word overlap of baseline.py."""

from llmkit.metrics.spec import Metric, MetricSet

BASELINE = "baseline"
"""Prefix of the baseline's metrics in metrics.json."""

METRICS = MetricSet(
    (
        Metric(
            "exact_match", "exact match", "{:.2%}", note="answers equal to a reference", headline=2,
            baseline="baseline_exact_match", chart="Held-out exact match", progress="exact match {:.1%}",
            column="exact match",
        ),
        Metric("baseline_exact_match", "  word overlap", "{:.2%}"),
        Metric(
            "answer_f1", "F1 of answers", "{:.2%}", note="overlap with the closest reference", headline=1,
            baseline="baseline_answer_f1", chart="Held-out F1 of answers", progress="F1 {:.1%}", column="F1",
        ),
        Metric("baseline_answer_f1", "  word overlap", "{:.2%}"),
        Metric("exact_match_answerable", "exact match, answerable", "{:.2%}"),
        Metric(
            "answer_f1_answerable", "F1, answerable", "{:.2%}", note="questions with an answer", headline=3,
            column="F1 answerable",
        ),
        Metric(
            "no_answer_accuracy", "accuracy, unanswerable", "{:.2%}", title="accuracy, unanswerable",
            note="questions correctly left without an answer", headline=4, column="no answer",
        ),
    ),
    best_by="answer_f1",
    loss_unit="nats per position",
)  # fmt: skip
