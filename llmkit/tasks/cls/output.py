"""A classifier's or a regression's held-out figures as lines for the terminal.

Labels come from data, so they pass through `clean_line`; Chinese ones are two columns wide a character, which the
tables allow for.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from unicodedata import east_asian_width

from llmkit.core.console import clean_line
from llmkit.metrics.spec import Metric, MetricSet

Figures = Mapping[str, Any]

COUNTS = (("n_rows", "over rows"), ("n_truncated", "  too long, cut off"), ("n_windows", "  read in windows"))

_WIDTH = 24
_MAX_LABELS, _WORST_LABELS, _MAX_CONFUSED_LABELS, _MAX_CONFUSIONS = 20, 5, 10, 5


def describe_classes(metrics: Figures, spec: MetricSet) -> Iterator[str]:
    """Figures with their intervals, then label by label, then what is taken for what."""
    for metric in spec.metrics:
        if metric.in_terminal and metrics.get(metric.key) is not None:
            shown = metric.format.format(metrics[metric.key])
            yield f"{metric.name:<{_WIDTH}}{shown:>9}{_describe_interval(metrics, metric)}"
    for key, name in COUNTS[: 2 if metrics.get("n_windows") == metrics.get("n_rows") else 3]:
        if metrics.get(key):
            yield f"{name:<{_WIDTH}}{metrics[key]:>9,}"
    if metrics.get("per_class"):
        yield ""
        yield from _describe_labels(metrics["per_class"])
    yield from _describe_confusion(metrics)
    method = metrics.get("method") or {}
    if method:
        yield ""
        yield f"{'method':<{_WIDTH}}" + clean_line(", ".join(f"{key} {value}" for key, value in method.items()))


def _describe_interval(metrics: Figures, metric: Metric) -> str:
    bounds = metrics.get("intervals", {}).get(metric.key)
    if not bounds:
        return ""
    low, high = map(metric.format.format, bounds)
    return f"   {metrics.get('method', {}).get('confidence', 0.95):.0%} of resamples: {low} to {high}"


def _describe_labels(per_class: list[Figures]) -> Iterator[str]:
    rows = per_class
    if len(rows) > _MAX_LABELS:
        rows = sorted(rows, key=lambda row: (row["f1"], -row["support"]))[:_WORST_LABELS]
        yield f"the {_WORST_LABELS} labels with the lowest F1 of {len(per_class):,}; all are in the JSON output"
    has_threshold = "threshold" in rows[0]
    heads = ("precision", "recall", "F1", "true", "guessed", *(("from",) if has_threshold else ()))
    yield _pad("label", _WIDTH) + "".join(f"{head:>10}" for head in heads)
    for row in rows:
        rates = "".join(f"{row[key]:>10.4f}" for key in ("precision", "recall", "f1"))
        counts = "".join(f"{row[key]:>10,}" for key in ("support", "n_predicted"))
        threshold = f"{row['threshold']:>10.3f}" if has_threshold else ""
        yield _pad(row["label"], _WIDTH) + rates + counts + threshold


def _describe_confusion(metrics: Figures) -> Iterator[str]:
    """The whole table of few labels, the commonest confusions of many."""
    confusion = metrics.get("confusion") or {"labels": [], "counts": []}
    labels, counts = confusion["labels"], confusion["counts"]
    if 0 < len(labels) <= _MAX_CONFUSED_LABELS:
        yield ""
        yield _pad("true, then guessed as", _WIDTH) + "".join(_pad(label, 9, right=True) for label in labels)
        for label, row in zip(labels, counts, strict=True):
            yield _pad(label, _WIDTH) + "".join(f"{count:>9,}" for count in row)
    elif metrics.get("most_confused"):
        yield ""
        yield "most often taken for another"
        for pair in metrics["most_confused"][:_MAX_CONFUSIONS]:
            yield f"{pair['n']:>8,}  {_cut(pair['label'], _WIDTH)} guessed as {_cut(pair['predicted'], _WIDTH)}"


def _pad(text: str, width: int, *, right: bool = False) -> str:
    """The text in so many columns, with at least one space; what does not fit is cut off."""
    shown = _cut(text, width - 1)
    spaces = " " * (width - sum(map(_columns, shown)))
    return spaces + shown if right else shown + spaces


def _cut(text: str, width: int) -> str:
    shown = clean_line(text)
    if _fits(shown, width):
        return shown
    shown = shown[:width]
    while not _fits(shown, width - 1):
        shown = shown[:-1]
    return shown + "…"


def _fits(text: Sequence[str], width: int) -> bool:
    return sum(map(_columns, text[: width + 1])) <= width


def _columns(character: str) -> int:
    return 2 if east_asian_width(character) in "WF" else 1
