"""The report's part on classifiers and regressions: what is taken for what, label by label, and how sure it is.

Reads one split's metrics, as classification.py, multilabel.py and regression.py make them. Of what they lack, nothing.
"""

from collections.abc import Sequence
from typing import TypeGuard

from llmkit.metrics.spec import Metric, MetricSet
from llmkit.pages.page import Html, join, section, show_value, table, tag
from llmkit.tasks.cls.calibration_chart import draw_calibration
from llmkit.training.run_record import Record, get_number, get_section

IN_TABLES = ("per_class", "confusion", "most_confused", "calibration", "mistakes")
"""What is shown as tables and charts here, and would flood a list of figures."""

_MAX_LABELS = 30
"""Up to so many labels the whole confusion matrix is shown."""
_MAX_CONFUSED = 20
_MAX_TEXT_CHARS = 300
_MAX_HEAD_CHARS = 20
_COLUMNS = {
    "threshold": "threshold",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "support": "true rows",
    "n_predicted": "guessed rows",
    "roc_auc": "ROC AUC",
    "average_precision": "average precision",
}


def describe_interval(result: Record, metric: Metric) -> str | None:
    """`95 %: 0.8121 to 0.8534`, where the figure has an interval."""
    bounds = get_section(result, "intervals").get(metric.key)
    if not isinstance(bounds, list) or len(bounds) != 2 or not all(isinstance(bound, int | float) for bound in bounds):
        return None
    confidence = get_number(get_section(result, "method"), "confidence") or 0.95
    factor, unit, decimals = (100, " %", 2) if metric.is_share else (1, "", 4)
    low, high = (f"{factor * bound:.{decimals}f}" for bound in bounds)
    return f"{100 * confidence:g} % interval {low} to {high}{unit}"


def shorten_metrics(part: Record, metrics: MetricSet, *, is_above: bool) -> Record:
    """A split's metrics without what is shown in tables, and with intervals in words."""
    where = "in the section above" if is_above else "in metrics.json"
    shown = {key: where if key in IN_TABLES else value for key, value in part.items()}
    intervals = get_section(part, "intervals")
    if intervals:
        known = {key: metrics.find(key) or Metric(key, key) for key in intervals}
        shown["intervals"] = {key: describe_interval(part, known[key]) or bounds for key, bounds in intervals.items()}
    return shown


def render_classes(result: Record, metrics: MetricSet) -> Html | None:
    """The section for these metrics; None if there is nothing of the kind."""
    parts = [
        _render_lengths(result),
        _render_confusion(result),
        _render_labels(_get_records(result, "per_class")),
        _render_calibration(result, metrics),
        _render_mistakes(_get_records(result, "mistakes")),
    ]
    shown = [part for part in parts if part is not None]
    return section("Labels" if "per_class" in result else "Guesses", *shown) if shown else None


def render_other_mistakes(metrics: Record, chosen: str) -> Html | None:
    """ErrorExamples on files other than the one that the page is about; None if none were asked for."""
    parts = [
        _render_mistakes(_get_records(get_section(metrics, split), "mistakes"), f"Most confident mistakes on {split}")
        for split in metrics
        if split != chosen and get_section(metrics, split).get("mistakes")
    ]
    return section("More mistakes", *parts) if parts else None


def _render_lengths(result: Record) -> Html | None:
    n_truncated, n_windows = get_number(result, "n_truncated"), get_number(result, "n_windows")
    rows = get_number(result, "n_rows")
    of = f" of {rows:,.0f}" if rows else ""
    facts = []
    if n_truncated:
        facts.append(f"{n_truncated:,.0f}{of} rows were too long and have been cut off.")
    if n_windows and n_windows != rows:
        facts.append(f"The{of.removeprefix(' of')} rows were read in {n_windows:,.0f} windows.")
    return tag("p", " ".join(facts), class_="quiet") if facts else None


def _render_confusion(result: Record) -> Html | None:
    confusion = get_section(result, "confusion")
    labels, counts = confusion.get("labels"), confusion.get("counts")
    if isinstance(labels, list) and len(labels) <= _MAX_LABELS and _is_square(counts, len(labels)):
        return join((tag("h3", "True label down, guessed label across"), _draw_confusion(labels, counts)))
    pairs = _get_records(result, "most_confused")[:_MAX_CONFUSED]
    if not pairs:
        return None
    rows = [[pair.get("label"), pair.get("predicted"), pair.get("n")] for pair in pairs]
    return join((tag("h3", "Most frequent confusions"), table(["true", "guessed", "rows"], rows)))


def _is_square(counts: object, size: int) -> TypeGuard[list[list[int]]]:
    if not isinstance(counts, list) or len(counts) != size:
        return False
    rows = [row for row in counts if isinstance(row, list) and len(row) == size]
    return len(rows) == size and all(isinstance(n, int) and n >= 0 for row in rows for n in row)


def _draw_confusion(labels: Sequence[object], counts: list[list[int]]) -> Html:
    """A cell is the darker, the larger its share of its row; right ones in another colour than wrong ones."""
    heads = [_cut(str(label), _MAX_HEAD_CHARS) for label in labels]
    rows = []
    for i, row in enumerate(counts):
        total = sum(row)
        cells = (
            tag("td", show_value(n), class_=f"number {'right' if i == j else 'wrong'}{_heat(n, total)}")
            for j, n in enumerate(row)
        )
        rows.append(
            tag("tr", tag("th", heads[i], title=labels[i]), *cells, tag("td", show_value(total), class_="number"))
        )
    names = (tag("th", head, title=label, class_="number") for head, label in zip(heads, labels, strict=True))
    head = tag("thead", tag("tr", tag("th", "true, then guessed as"), *names, tag("th", "all", class_="number")))
    return tag("div", tag("table", head, tag("tbody", *rows), class_="confusion"), class_="wide", tabindex=0)


def _heat(n: int, total: int) -> str:
    return f" heat-{min(9, 10 * n // total)}" if n else ""


def _render_labels(per_class: list[Record]) -> Html | None:
    if not per_class:
        return None
    columns = [column for column in _COLUMNS if any(column in row for row in per_class)]
    rows = [[row.get("label"), *(row.get(column) for column in columns)] for row in per_class]
    shown = table(["label", *(_COLUMNS[column] for column in columns)], rows)
    if len(rows) <= _MAX_LABELS:
        return join((tag("h3", "Label by label"), shown))
    return tag("details", tag("summary", f"Label by label: {len(rows):,} labels"), shown)


def _render_calibration(result: Record, metrics: MetricSet) -> Html | None:
    bins = _get_records(result, "calibration")
    if not bins:
        return None
    unit = metrics.calibrated
    error = get_number(result, "calibration_error")
    said = (
        f"Expected calibration error {error:.4f}: the mean distance from the dashed line." if error is not None else ""
    )
    rows = [[_show_range(each), each.get("n"), each.get("confidence"), each.get("accuracy")] for each in bins]
    counts = table(["probability", "number", "mean probability", "share right"], rows)
    return join(
        (
            tag("div", draw_calibration(bins, unit), class_="charts"),
            tag("p", said, class_="quiet") if said else None,
            tag("details", tag("summary", "The bins as numbers"), counts),
        )
    )


def _show_range(each: Record) -> str:
    low, high = get_number(each, "lower"), get_number(each, "upper")
    return f"{low:.3f} to {high:.3f}" if low is not None and high is not None else ""


def _render_mistakes(mistakes: list[Record], title: str = "Most confident mistakes") -> Html | None:
    if not mistakes:
        return None
    rows = []
    for each in mistakes:
        text = tag("span", " / ".join(_cut(str(each[key])) for key in ("text", "pair") if each.get(key)), dir="auto")
        labels = (_show_labels(each.get(key)) for key in ("label", "predicted"))
        rows.append([each.get("line"), *labels, each.get("probability"), text])
    header = ["line", "true", "guessed", "probability", "text"]
    return join((tag("h3", title), table(header, rows)))


def _show_labels(value: object) -> object:
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def _cut(text: str, longest: int = _MAX_TEXT_CHARS) -> str:
    return text if len(text) <= longest else f"{text[:longest]}…"


def _get_records(result: Record, key: str) -> list[Record]:
    value = result.get(key)
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
