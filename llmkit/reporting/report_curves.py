"""The report's charts of logged values over steps, and the list of values that are not finite."""

import math
from collections.abc import Sequence

from llmkit.core.console import count
from llmkit.metrics.spec import MetricSet
from llmkit.pages.blocks import Charts, Curve, LineChart, Paragraph, Section
from llmkit.pages.charts import smooth
from llmkit.training.run_record import Record, RunRecord, get_number

STEP_CHARTS = (
    # title, unit, key in train records
    ("Learning rate", "", "learning_rate"),
    ("Gradient norm", "before clipping", "grad_norm"),
    ("Tokens per second", "", "tokens_per_second"),
    ("MFU", "fraction of the machine's peak", "mfu"),
)
"""Charts of values that every run logs during training."""
MIN_SMOOTHED = 40
"""Minimum number of train records for a smoothed loss curve."""
_HELD_OUT_STYLES = ("orange", "green", "violet")


def make_curves(record: RunRecord, metrics: MetricSet) -> Section:
    """Return the charts of logged values, and the names of values that were not logged."""
    charts: list[tuple[str, str, str | None, str | None, bool]] = [("Loss", metrics.loss_unit, "loss", "loss", True)]
    charts += [
        (metric.chart, metric.unit, metric.key if metric.logged else None, metric.key, metric.expected)
        for metric in metrics.metrics
        if metric.chart and metric.key != "loss"
    ]
    charts += [(title, unit, key, None, True) for title, unit, key in STEP_CHARTS]
    drawn, absent = [], []
    for title, unit, train_key, eval_key, is_expected in charts:
        curves = [*_make_train_curves(record, train_key), *_make_eval_curves(record, eval_key)]
        if curves:
            drawn.append(LineChart(title, unit, curves, from_zero=eval_key is None))
        elif is_expected:
            absent.append(title if title.isupper() else title.lower())
    note = [Paragraph(f"Not in the log: {', '.join(absent)}.")] if absent else []
    return Section("Curves", [*([Charts(drawn)] if drawn else []), *note])


def _make_train_curves(record: RunRecord, key: str | None) -> list[Curve]:
    steps, values = pick_values(record.log.get("train", []), key)
    if not values:
        return []
    if not (key or "").endswith("loss") or len(values) < MIN_SMOOTHED:
        return [Curve("training", steps, values)]
    window = max(5, len(values) // 25) | 1
    mean = Curve(f"mean of {window}", steps, smooth(values, window))
    return [Curve("training", steps, values, "faint"), mean]


def _make_eval_curves(record: RunRecord, key: str | None) -> list[Curve]:
    by_split: dict[str, list[Record]] = {}
    for evaluation in record.log.get("eval", []):
        by_split.setdefault(str(evaluation.get("split", "held-out")), []).append(evaluation)
    curves = []
    for (split, records), style in zip(by_split.items(), _HELD_OUT_STYLES, strict=False):
        steps, values = pick_values(records, key)
        if values:
            curves.append(Curve(split, steps, values, style))
    return curves


def pick_values(records: Sequence[Record], key: str | None) -> tuple[list[float], list[float]]:
    """Return steps and values of the records with a finite number under the key."""
    if key is None:
        return [], []
    found = [(float(record["step"]), get_number(record, key)) for record in records]
    return [step for step, value in found if value is not None], [value for _, value in found if value is not None]


def find_non_finite(record: RunRecord) -> list[str]:
    """Return one line per logged value that was infinite or NaN at some step.

    The log has null for such a value. A value that is null at every step was not measured.
    """
    lines = []
    for kind in ("train", "eval"):
        records = record.log.get(kind, [])
        for key in dict.fromkeys(key for logged in records for key in logged):
            having = [logged for logged in records if key in logged]
            at = [
                int(logged["step"])
                for logged in having
                if logged[key] is None or (isinstance(logged[key], float) and not math.isfinite(logged[key]))
            ]
            if at and (key == "loss" or any(get_number(logged, key) is not None for logged in having)):
                times = f" and {count(len(at) - 1, 'more time')}" if len(at) > 1 else ""
                lines.append(f"{kind} {key} is not finite at step {at[0]:,}{times}; the curve omits such values")
    return lines
