"""A metric: its name, its direction, and where and how it is shown. Terminal, progress line, report, `compare` and the
choice of the best weights read it here, so none of them depends on the metrics of a task.

Plain data; the values are computed elsewhere.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure of metrics.json."""

    key: str
    name: str
    """In the terminal."""
    format: str = "{:.4f}"
    higher_is_better: bool = True
    in_terminal: bool = True
    title: str = ""
    """At the top of the report; the name unless given."""
    note: str = ""
    """What the figure is, under the title."""
    heading: str = ""
    """On the page of `compare`; the name unless given."""
    headline: int = 0
    """Its rank at the top of the report; 0: it is not shown there."""
    baseline: str = ""
    """Key of the same metric for a constant prediction; empty: there is none."""
    chart: str = ""
    """The title of its chart in the report; empty: it has none."""
    unit: str = ""
    """Of the chart."""
    logged: bool = False
    """Whether it is also logged for training batches."""
    expected: bool = False
    """Whether the report says when it was never logged."""
    progress: str = ""
    """How the progress line shows it after an evaluation; empty: it does not."""
    column: str = ""
    """Its heading in the table of `compare`, which can rank by it; empty: it is not compared."""
    per_token: bool = False
    """Whether it is per token, so that it compares only runs with the same tokenizer."""

    @property
    def is_share(self) -> bool:
        return self.format.endswith("%}")

    def show_on_page(self, value: float) -> str:
        """The value at the top of the report."""
        if self.is_share:
            return f"{value:.2%}"
        return f"{value:,.2f}" if "," in self.format else f"{value:.4f}"


@dataclass(frozen=True, slots=True)
class MetricSet:
    """The figures of one task, in the order of the terminal."""

    metrics: tuple[Metric, ...]
    best_by: str = "loss"
    """The model-selection metric, unless the recipe names another one."""
    loss_unit: str = "nats per token"
    calibrated: str = "of the predicted label"
    """What the probabilities of a calibration are about."""

    def find(self, key: str) -> Metric | None:
        """The metric of this key."""
        return next((metric for metric in self.metrics if metric.key == key), None)

    def selection_key(self, metrics: Mapping[str, Any], best_by: str | None = None) -> tuple[float, ...]:
        """What the best weights are chosen by: the lower the better; of equal values, the loss decides."""
        key = best_by or self.best_by
        value, loss = metrics[key], float(metrics["loss"])
        if key == "loss":
            return (loss,)
        if value is None:  # undefined on these rows, such as the correlation of constant predictions
            return math.inf, loss
        metric = self.find(key)
        return (-float(value) if metric is None or metric.higher_is_better else float(value)), loss

    @property
    def headlines(self) -> tuple[Metric, ...]:
        """For the top of the report, by rank."""
        return tuple(sorted((metric for metric in self.metrics if metric.headline), key=lambda each: each.headline))

    @property
    def compared(self) -> tuple[Metric, ...]:
        """For the table of `compare`; the first headline comes last, as what the runs are ranked by."""
        return tuple(sorted((metric for metric in self.metrics if metric.column), key=lambda each: each.headline == 1))

    def describe_progress(self, record: Mapping[str, Any]) -> str:
        """An evaluation in a few words, with the model-selection metric that the record names."""
        shown = [metric for metric in self.metrics if metric.progress and record.get(metric.key) is not None]
        words = [metric.progress.format(record[metric.key]) for metric in shown]
        chosen = record.get("metric", "loss")
        if chosen not in ("loss", *(metric.key for metric in shown)) and record.get(chosen) is not None:
            words.append(f"{chosen.replace('_', ' ')} {record[chosen]:.4f}")
        return ", ".join(words)
