"""Descriptions of metrics: name, direction, and where and how each is shown.

The terminal, the progress line, the report, `compare` and model selection read these descriptions instead of naming
metrics. The descriptions are plain data; other modules compute the values.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Metric:
    """Description of one metric of metrics.json."""

    key: str
    name: str
    """Name in the terminal."""
    format: str = "{:.4f}"
    higher_is_better: bool = True
    in_terminal: bool = True
    title: str = ""
    """Title at the top of the report; default: the name."""
    note: str = ""
    """Explains the value, under the title."""
    heading: str = ""
    """Heading on the page of `compare`; default: the name."""
    headline: int = 0
    """Rank at the top of the report, which shows the first four that have a value; 0: never shown there."""
    baseline: str = ""
    """Key of the same metric for a constant prediction; empty: none."""
    chart: str = ""
    """Title of the metric's chart in the report; empty: no chart."""
    unit: str = ""
    """Unit of the chart's values."""
    logged: bool = False
    """Whether the metric is also logged for training batches."""
    expected: bool = False
    """Whether the report shows a notice if the metric was never logged."""
    progress: str = ""
    """Format in the progress line after an evaluation; empty: not shown."""
    column: str = ""
    """Heading in the table of `compare`, which can rank by it; empty: not compared."""
    per_token: bool = False
    """Whether the metric is per token, so that it compares only runs with the same tokenizer."""

    limits: tuple[float, float] = (-math.inf, math.inf)
    """Lowest and highest possible value; not used for fractions, whose limits are 0 and 1."""

    @property
    def is_fraction(self) -> bool:
        return self.format.endswith("%}")

    def clip(self, bounds: Sequence[float]) -> list[float]:
        """Clip an interval to the metric's limits; the interval of a mean over few runs may exceed them."""
        low, high = (0.0, 1.0) if self.is_fraction else self.limits
        return [min(max(bound, low), high) for bound in bounds]

    def show_on_page(self, value: float) -> str:
        """Format the value for the top of the report."""
        if self.is_fraction:
            return f"{value:.2%}"
        return f"{value:,.2f}" if "," in self.format else f"{value:.4f}"


@dataclass(frozen=True, slots=True)
class MetricSet:
    """The metrics of one task, in the order in which the terminal shows them."""

    metrics: tuple[Metric, ...]
    best_by: str = "loss"
    """The default model-selection metric."""
    loss_unit: str = "nats per token"
    calibrated: str = "of the predicted label"
    """Which probabilities the calibration chart shows; printed as the unit of the chart."""

    def find(self, key: str) -> Metric | None:
        """Return the metric with this key; None if there is none."""
        return next((metric for metric in self.metrics if metric.key == key), None)

    def selection_key(self, metrics: Mapping[str, Any], best_by: str | None = None) -> tuple[float, ...]:
        """Return the sort key of model selection: lower is better; the loss breaks ties."""
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
        """Return the metrics shown at the top of the report, in the order of their `headline`."""
        return tuple(sorted((metric for metric in self.metrics if metric.headline), key=lambda each: each.headline))

    @property
    def compared(self) -> tuple[Metric, ...]:
        """Return the metrics that are columns of `compare`; the one with headline 1 comes last."""
        return tuple(sorted((metric for metric in self.metrics if metric.column), key=lambda each: each.headline == 1))

    def describe_progress(self, record: Mapping[str, Any]) -> str:
        """Format an evaluation as one line, including the model-selection metric that the record names."""
        shown = [metric for metric in self.metrics if metric.progress and record.get(metric.key) is not None]
        words = [metric.progress.format(record[metric.key]) for metric in shown]
        chosen = record.get("metric", "loss")
        if chosen not in ("loss", *(metric.key for metric in shown)) and record.get(chosen) is not None:
            words.append(f"{chosen.replace('_', ' ')} {record[chosen]:.4f}")
        return ", ".join(words)
