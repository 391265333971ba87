"""The metrics of classifiers per label type.

`baseline_` is a constant prediction, `ngram_baseline_` the linear model of baseline.py.
"""

import math
from dataclasses import replace

from llmkit.metrics.spec import Metric, MetricSet

NGRAM_BASELINE = "ngram_baseline"
"""Key of metrics.json that says how the n-gram baseline was fitted; also the prefix of the baseline's metrics."""

_BEST_CONSTANT, _NGRAM = "  constant baseline", "  n-gram baseline"
_SHARE, _CORRELATION, _POSITIVE = (0.0, 1.0), (-1.0, 1.0), (0.0, math.inf)
"""Limits of metrics."""
_SELECTION_METRICS = tuple(
    Metric(key, key, higher_is_better=False, in_terminal=False) for key in ("brier_score", "hamming_loss", "rmse")
)
"""Metrics that are not shown, but that `cls.metric` can select."""
_F1_MACRO = Metric(
    "f1_macro", "F1, mean over labels", title="F1, macro", note="mean over labels", headline=2,
    chart="Held-out F1, macro", unit="mean over labels", progress="f1 macro {:.4f}", limits=_SHARE, column="F1 macro",
)  # fmt: skip
_CALIBRATION = Metric("calibration_error", "calibration error", higher_is_better=False, limits=_SHARE)

SINGLE_LABEL = MetricSet(
    (
        Metric(
            "accuracy", "accuracy", "{:.2%}", note="fraction of correct predictions", headline=1,
            baseline="baseline_accuracy", chart="Held-out accuracy", progress="accuracy {:.1%}", column="accuracy",
        ),
        Metric("baseline_accuracy", "  most frequent label", "{:.2%}"),
        Metric("ngram_baseline_accuracy", _NGRAM, "{:.2%}"),
        Metric("balanced_accuracy", "balanced accuracy", "{:.2%}"),
        replace(_F1_MACRO, headline=3),
        Metric("ngram_baseline_f1_macro", _NGRAM, limits=_SHARE),
        Metric(
            "f1_micro", "F1, micro average", in_terminal=False, chart="Held-out F1, micro",
            unit="all labels together", limits=_SHARE,
        ),
        Metric(
            "f1_positive", "F1, positive label", note="of cls.positive_label", headline=2,
            chart="Held-out F1, positive label", progress="f1 positive {:.4f}", limits=_SHARE, column="F1 positive",
        ),
        Metric("ngram_baseline_f1_positive", _NGRAM, limits=_SHARE),
        Metric("precision_positive", "  precision", limits=_SHARE),
        Metric("recall_positive", "  recall", limits=_SHARE),
        Metric(
            "mcc", "Matthews correlation", note="0 is chance, 1 is perfect", headline=4, limits=_CORRELATION,
            column="MCC",
        ),
        Metric("cohen_kappa", "Cohen's kappa", limits=_CORRELATION),
        Metric("roc_auc", "ROC AUC", note="0.5 is chance", headline=6, limits=_SHARE),
        Metric(
            "log_loss", "log loss, nats per row", higher_is_better=False, title="log loss", note="nats per row",
            headline=5, limits=_POSITIVE, column="log loss",
        ),
        _CALIBRATION,
        *_SELECTION_METRICS,
    ),
    best_by="f1_macro",
    loss_unit="nats per row",
)  # fmt: skip
MULTI_LABEL = MetricSet(
    (
        Metric(
            "f1_micro", "F1, micro average", title="F1, micro", note="all labels together", headline=1,
            baseline="baseline_f1_micro", chart="Held-out F1, micro", unit="all labels together", limits=_SHARE,
            column="F1 micro",
        ),
        Metric("baseline_f1_micro", _BEST_CONSTANT, limits=_SHARE),
        Metric("ngram_baseline_f1_micro", _NGRAM, limits=_SHARE),
        _F1_MACRO,
        Metric("baseline_f1_macro", _BEST_CONSTANT, limits=_SHARE),
        Metric("ngram_baseline_f1_macro", _NGRAM, limits=_SHARE),
        Metric(
            "accuracy", "exact-match accuracy", "{:.2%}", title="accuracy of whole rows",
            note="all labels of a row correct", headline=4, baseline="baseline_accuracy", chart="Held-out accuracy",
            progress="accuracy {:.1%}", column="accuracy",
        ),
        Metric("baseline_accuracy", _BEST_CONSTANT, "{:.2%}"),
        Metric(
            "average_precision_micro", "average precision", title="average precision, micro",
            note="independent of thresholds", headline=3, chart="Held-out average precision, micro",
            unit="all labels together", progress="average precision micro {:.4f}", limits=_SHARE, column="AP micro",
        ),
        Metric("roc_auc_macro", "ROC AUC, over labels", limits=_SHARE),
        Metric("log_loss", "log loss, nats", higher_is_better=False, limits=_POSITIVE),
        _CALIBRATION,
        *_SELECTION_METRICS,
    ),
    best_by="average_precision_micro",
    loss_unit="nats per row and label",
    calibrated="every row with every label",
)  # fmt: skip
REGRESSION = MetricSet(
    (
        Metric(
            "pearson", "Pearson correlation", note="of predictions and labels", headline=1,
            chart="Held-out correlation", unit="Pearson", progress="pearson {:.4f}", limits=_CORRELATION,
            column="Pearson",
        ),
        Metric("ngram_baseline_pearson", _NGRAM, limits=_CORRELATION),
        Metric(
            "spearman", "Spearman correlation", note="of their ranks", headline=2, limits=_CORRELATION,
            column="Spearman",
        ),
        Metric(
            "mae", "mean absolute error", "{:.4g}", higher_is_better=False, note="in the label's unit", headline=3,
            limits=_POSITIVE, column="MAE",
        ),
        Metric(
            "mse", "mean squared error", "{:.4g}", higher_is_better=False, note="in the label's unit, squared",
            headline=5, baseline="baseline_mse", chart="Held-out squared error", progress="mse {:.4f}",
            limits=_POSITIVE, column="MSE",
        ),
        Metric("baseline_mse", "  predicting the mean", "{:.4g}", limits=_POSITIVE),
        Metric("ngram_baseline_mse", _NGRAM, "{:.4g}", higher_is_better=False, limits=_POSITIVE),
        Metric("r2", "R², variance explained", title="R²", note="fraction of variance explained", headline=4),
        *_SELECTION_METRICS,
    ),
    best_by="mse",
    loss_unit="squared error",
)  # fmt: skip


def with_custom_metrics(metrics: MetricSet, described: object) -> MetricSet:
    """Return the metrics with custom metrics added, from `custom_metrics` of a manifest or of metrics.json.

    These files may come from others, so entries that custom_metrics.py would not write are ignored.
    """
    entries = described.items() if isinstance(described, dict) else ()
    added = []
    for key, entry in entries:
        if not str(key).isidentifier() or not isinstance(entry, dict) or metrics.find(key):
            continue
        higher_is_better = entry.get("higher_is_better") is not False
        metric = Metric(
            key, key, higher_is_better=higher_is_better, note=f"{'higher' if higher_is_better else 'lower'} is better",
            headline=3, chart=f"Held-out {key}", progress=f"{key.replace('_', ' ')} {{:.4f}}",
        )  # fmt: skip
        added += [metric, Metric(f"{NGRAM_BASELINE}_{key}", _NGRAM, higher_is_better=higher_is_better)]
    return replace(metrics, metrics=(*metrics.metrics, *added)) if added else metrics


METRICS = {"single_label": SINGLE_LABEL, "multi_label": MULTI_LABEL, "regression": REGRESSION}
"""Metrics per label type."""
