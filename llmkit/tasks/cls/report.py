"""Show a classifier or a regression model on the terminal and in the report: intervals, labels, confusions,
calibration, errors.

Reads the metrics of one split, which metrics/ computes. Entries that are missing or of another type are omitted.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from llmkit.metrics.probabilities import MAX_CURVE_LABELS
from llmkit.metrics.spec import Metric, MetricSet
from llmkit.pages.blocks import (
    CURVE_STYLES,
    Block,
    Charts,
    Confusion,
    Curve,
    Fold,
    Paragraph,
    RateChart,
    ReliabilityDiagram,
    Section,
    Table,
    make_confusion,
    show_value,
)
from llmkit.tasks.base import describe_interval
from llmkit.tasks.cls.metrics import NGRAM_BASELINE
from llmkit.training.run_record import Record, get_number, get_section

IN_TABLES = ("per_class", "confusion", "most_confused", "calibration", "curves", "mistakes")
"""Entries that are shown as tables and charts, because they are too long for the list of metrics."""
COUNTS = (("n_rows", "over rows"), ("n_truncated", "  truncated"), ("n_windows", "  read in windows"))

_MAX_LABELS, _MAX_CONFUSIONS = 30, 20
"""In the report: maximum labels of a full confusion matrix, and number of label pairs listed if there are more."""
_MAX_BRIEF_LABELS, _N_WORST_LABELS, _MAX_BRIEF_CONFUSED, _MAX_BRIEF_CONFUSIONS = 20, 5, 10, 5
"""The same limits on the terminal, which shows only the worst labels if there are many."""
_MAX_TEXT_CHARS, _MAX_KEY_CHARS = 300, 24
_COLUMNS = {
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "support": "support",
    "n_predicted": "predicted",
    "threshold": "threshold",
    "roc_auc": "ROC AUC",
    "average_precision": "average precision",
}
_BRIEF_COLUMNS = tuple(_COLUMNS)[:6]
_BINS = ("lower", "upper", "n", "confidence", "accuracy")


def describe_counts(figures: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return the counts of rows for the terminal, in the form of `Task.describe_figures`."""
    has_windows = figures.get("n_windows") != figures.get("n_rows")
    counts = [(key, name) for key, name in COUNTS if figures.get(key) and (key != "n_windows" or has_windows)]
    return [(name, f"{figures[key]:,}", "") for key, name in counts]


def shorten_metrics(part: Record, metrics: MetricSet, *, is_above: bool) -> Record:
    """Return metrics of a split without those shown in tables, and with intervals as text."""
    where = "in a table above" if is_above else "in metrics.json"
    shown = {key: where if key in IN_TABLES else value for key, value in part.items()}
    intervals = get_section(part, "intervals")
    if intervals:
        known = {key: metrics.find(key) or Metric(key, key) for key in intervals}
        shown["intervals"] = {key: describe_interval(part, known[key]) or bounds for key, bounds in intervals.items()}
    return shown


def make_tables(figures: Mapping[str, Any], metrics: MetricSet, *, brief: bool) -> list[Block]:
    """Return baselines, scores per label and confusion matrix.

    `brief` is for the terminal, which shows the baselines in its list of metrics.
    """
    baselines = None if brief else _make_baselines(figures, metrics)
    confusion = _make_confusion(figures, brief)
    labels = _make_labels(_get_records(figures, "per_class"), brief)
    return [each for each in (baselines, labels, confusion) if each]


def make_sections(figures: Record, metrics: MetricSet, split: str, others: Record) -> list[Section]:
    """Return sections on curves, calibration and errors; `others` has the metrics of all splits."""
    errors = _make_errors(figures, f"Worst errors on {split}")
    for other in others:
        if other != split and (found := _make_errors(get_section(others, other), "")):
            errors.append(Fold(f"Worst errors on {other}", found))
    return [
        Section("Rows", _make_lengths(figures)),
        Section("ROC and precision-recall", _make_curves(figures)),
        Section("Calibration", _make_calibration(figures, metrics)),
        Section("Errors", errors),
    ]


def _make_lengths(figures: Record) -> list[Block]:
    n_rows = get_number(figures, "n_rows")
    n_truncated, n_windows = get_number(figures, "n_truncated"), get_number(figures, "n_windows")
    of = f" of {n_rows:,.0f}" if n_rows else ""
    facts = [f"{n_truncated:,.0f}{of} rows were too long and were truncated."] if n_truncated else []
    if n_windows and n_windows != n_rows:
        facts.append(f"The{of.removeprefix(' of')} rows were read in {n_windows:,.0f} windows.")
    return [Paragraph(" ".join(facts))] if facts else []


def _make_baselines(figures: Mapping[str, Any], metrics: MetricSet) -> Table | None:
    """Return a table that compares the main metrics with the n-gram baseline and with a constant prediction."""
    method = get_section(figures, NGRAM_BASELINE)
    if not method:
        return None
    shown = [metric for metric in metrics.headlines if get_number(figures, metric.key) is not None]
    models = {
        "this model": [metric.key for metric in shown],
        "n-gram baseline": [f"{NGRAM_BASELINE}_{metric.key}" for metric in shown],
        "constant baseline": [metric.baseline for metric in shown],
    }
    rows: list[list[object]] = []
    for name, keys in models.items():
        cells = []
        for metric, key in zip(shown, keys, strict=True):
            value = get_number(figures, key)
            interval = describe_interval(figures, replace(metric, key=key)).partition("interval ")[2]
            cells.append("" if value is None else metric.show_on_page(value) + (f" ({interval})" if interval else ""))
        rows.append([name, *cells])
    title = f"n-gram baseline: {method.get('model')}, fitted on {show_value(method.get('n_train_rows'))} rows"
    return Table(["", *(metric.title or metric.name for metric in shown)], rows, title)


def _make_labels(per_class: list[Record], brief: bool) -> Block | None:
    if not per_class:
        return None
    rows, title = per_class, "" if brief else "Scores per label"
    if brief and len(rows) > _MAX_BRIEF_LABELS:
        rows = sorted(rows, key=lambda row: (row["f1"], -row["support"]))[:_N_WORST_LABELS]
        title = f"the {_N_WORST_LABELS} of {len(per_class):,} labels with the lowest F1; all are in the JSON output"
    known = _BRIEF_COLUMNS if brief else _COLUMNS
    columns = [column for column in known if any(column in row for row in rows)]
    cells = [[row.get("label"), *(row.get(column) for column in columns)] for row in rows]
    table = Table(["label", *(_COLUMNS[column] for column in columns)], cells, title)
    if brief or len(rows) <= _MAX_LABELS:
        return table
    return Fold(f"Scores per label: {len(rows):,} labels", [Table(table.header, cells)])


def _make_confusion(figures: Mapping[str, Any], brief: bool) -> Confusion | Table | None:
    """Return the full matrix if there are few labels, else the most frequent confusions."""
    found = get_section(figures, "confusion")
    matrix = make_confusion(found.get("labels"), found.get("counts"))
    if matrix and len(matrix.labels) <= (_MAX_BRIEF_CONFUSED if brief else _MAX_LABELS):
        return matrix
    pairs = _get_records(figures, "most_confused")[: _MAX_BRIEF_CONFUSIONS if brief else _MAX_CONFUSIONS]
    rows = [[pair.get("label"), pair.get("predicted"), pair.get("n")] for pair in pairs]
    return Table(["true", "predicted", "rows"], rows, "Most frequent confusions") if rows else None


def _make_curves(figures: Record) -> list[Block]:
    """Return the ROC and the precision-recall curves of each label against the rest, or a note."""
    labels = _get_records(figures, "curves")
    if not labels:
        n_labels = len(_get_records(figures, "per_class"))
        many = f"Curves are drawn for up to {MAX_CURVE_LABELS} labels; there are {n_labels:,}."
        return [Paragraph(many)] if n_labels > MAX_CURVE_LABELS else []
    charts = []
    for title, along, key, area, short in (
        ("ROC curve", "false positive rate", "roc", "roc_auc", "AUC"),
        ("Precision-recall curve", "recall", "pr", "average_precision", "AP"),
    ):
        curves, readings = [], []
        for number, each in enumerate(labels):
            points, value = _get_points(each.get(key)), get_number(each, area)
            if points and value is not None:
                steps, values = points if key == "roc" else _to_steps(*points)
                name = str(each.get("label"))
                name = name if len(name) <= _MAX_KEY_CHARS else f"{name[:_MAX_KEY_CHARS]}…"
                curves.append(Curve(name, steps, values, CURVE_STYLES[number % len(CURVE_STYLES)]))
                readings.append(f"{short} {value:.3f}")
        unit = "true positive rate" if key == "roc" else "precision"
        if curves:
            charts.append(RateChart(title, unit, along, curves, readings, diagonal=key == "roc"))
    shares = ", ".join(f"{each.get('label')} {share:.1%}" for each in labels if (share := get_number(each, "share")))
    text = f"AUC is the area under the ROC curve, AP the average precision. Precision of a random prediction: {shares}."
    return [Charts(charts), Paragraph(text)] if charts else []


def _get_points(value: object) -> tuple[list[float], list[float]] | None:
    """Return x and y of a curve; None if the value, for example in an edited metrics.json, is not a curve."""
    if not isinstance(value, list) or len(value) != 2 or not all(isinstance(each, list) for each in value):
        return None
    x, y = value
    is_curve = len(x) == len(y) > 1 and all(isinstance(each, int | float) and 0 <= each <= 1 for each in [*x, *y])
    return (x, y) if is_curve else None


def _to_steps(recall: list[float], precision: list[float]) -> tuple[list[float], list[float]]:
    """Return the curve as steps: each precision applies back to the previous recall, so the area is the AP."""
    x = [value for value in recall for _ in range(2)][:-1]
    return x, [value for value in precision for _ in range(2)][1:]


def _make_calibration(figures: Record, metrics: MetricSet) -> list[Block]:
    bins = _get_records(figures, "calibration")
    if not bins:
        return []
    error = get_number(figures, "calibration_error")
    summary = f"Expected calibration error {error:.4f}: the mean distance from the dashed line."
    whole = [each for each in bins if all(get_number(each, key) is not None for key in _BINS)]
    rows = [[f"{each['lower']:.3f} to {each['upper']:.3f}", each["n"], *map(each.get, _BINS[3:])] for each in whole]
    return [
        Charts([ReliabilityDiagram(metrics.calibrated, whole)]),
        *([Paragraph(summary)] if error is not None else []),
        Fold("Calibration bins", [Table(["probability", "n", "mean probability", "accuracy"], rows)]),
    ]


def _make_errors(figures: Record, title: str) -> list[Block]:
    rows = []
    for each in _get_records(figures, "mistakes"):
        text = " / ".join(_cut(str(each[key])) for key in ("text", "pair") if each.get(key))
        labels = (_join_labels(each.get(key)) for key in ("label", "predicted"))
        rows.append([each.get("line"), *labels, each.get("probability"), text])
    return [Table(["line", "true", "predicted", "probability", "text"], rows, title)] if rows else []


def _join_labels(value: object) -> object:
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_TEXT_CHARS else f"{text[:_MAX_TEXT_CHARS]}…"


def _get_records(figures: Mapping[str, Any], key: str) -> list[Record]:
    value = figures.get(key)
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
