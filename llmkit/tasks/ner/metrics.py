"""The metrics of taggers; `word_baseline_` is the most frequent tag of each word in the train rows."""

from llmkit.metrics.spec import Metric, MetricSet

WORD_BASELINE = "word_baseline"
_SHARE = (0.0, 1.0)
_WORDS = "  most frequent tag of each word"

METRICS = MetricSet(
    (
        Metric(
            "entity_f1", "entity F1", title="entity F1", note="same words and type", headline=1,
            chart="Held-out entity F1", unit="micro average", progress="entity f1 {:.4f}", limits=_SHARE,
            column="entity F1",
        ),
        Metric("word_baseline_entity_f1", _WORDS, limits=_SHARE),
        Metric(
            "entity_precision", "entity precision", note="of the predicted entities", headline=2, limits=_SHARE,
            column="precision",
        ),
        Metric(
            "entity_recall", "entity recall", note="of the true entities", headline=3, limits=_SHARE, column="recall",
        ),
        Metric(
            "entity_f1_macro", "entity F1, mean over types", title="entity F1, macro", limits=_SHARE, column="F1 macro",
        ),
        Metric("entity_f1_strict_bio", "entity F1, entities that begin with I- not counted", limits=_SHARE),
        Metric("entity_f1_exact", "entity F1, types ignored", limits=_SHARE),
        Metric("entity_f1_partial", "entity F1, overlaps count half, types ignored", limits=_SHARE),
        Metric("entity_f1_type", "entity F1, overlaps of the same type", limits=_SHARE),
        Metric(
            "token_accuracy", "token accuracy", "{:.2%}", note="words with the correct tag, O included", headline=4,
            progress="token accuracy {:.1%}", column="token accuracy",
        ),
        Metric("word_baseline_token_accuracy", _WORDS, "{:.2%}"),
    ),
    best_by="entity_f1",
    loss_unit="nats per word",
)  # fmt: skip
