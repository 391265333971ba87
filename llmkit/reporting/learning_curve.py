"""The learning curve of a series of runs: metrics by number of train rows, with the n-gram baseline.

Reads `learning_curve` from the series' metrics.json, and skips entries that are missing or of another type. Does not
import torch.
"""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from llmkit.metrics.spec import Metric
from llmkit.pages.blocks import Block, Charts, Curve, LineChart, Paragraph, Section, Table
from llmkit.tasks.base import Task
from llmkit.training.run_record import Record, get_number, get_section

BASELINE = "ngram_baseline_"
"""Prefix of the metrics of the n-gram baseline, which is trained on the same rows."""
_MAX_METRICS = 4


def make_learning_curve(metrics: Record, task: Task) -> list[Section]:
    """Return one section per split, test first: a chart and a table for each headline metric; and all runs."""
    sections = []
    for split, entries, shown in _list_splits(metrics, task):
        charts = [_make_chart(metric, entries, split) for metric in shown]
        tables: list[Block] = [make_table(metric, entries, split) for metric in shown]
        about = "Each point is a run on a stratified sample of the train rows. All sizes have the same held-out rows."
        sections.append(Section(f"Learning curve on {split} rows", [Paragraph(about), Charts(charts), *tables]))
    return [*sections, Section("Runs", [_make_runs(metrics, task)])] if sections else []


def make_tables(metrics: Record, task: Task) -> list[Table]:
    """Return the tables for the terminal: one per split, of the first headline metric."""
    return [make_table(shown[0], entries, split) for split, entries, shown in _list_splits(metrics, task)]


def make_table(metric: Metric, entries: Sequence[Record], split: str) -> Table:
    """Return a table of one metric by number of train rows.

    Each value has a 95 % interval, or minimum and maximum if several runs have no interval.
    """
    several = any((get_number(entry, "n_runs") or 1) > 1 for entry in entries)
    ranges = several and not any("interval" in _find(entry, split, metric.key) for entry in entries)
    keys = [key for key in (metric.key, BASELINE + metric.key) if any(_find(each, split, key) for each in entries)]
    rows: list[list[object]] = []
    for entry in entries:
        cells: list[object] = [_name_size(entry)]
        for key in keys:
            found = _find(entry, split, key)
            mean, bounds = get_number(found, "mean"), _bounds(found, ranges=ranges)
            cells.append("" if mean is None else metric.format.format(mean))
            cells.append(" to ".join(metric.format.format(bound) for bound in metric.clip(bounds)))
        rows.append(cells)
    range_name = "min to max" if ranges else "95% interval"
    header = ["train rows", metric.name, range_name, "n-gram baseline", range_name][: 1 + 2 * len(keys)]
    runs = ", mean of runs" if several else ""
    numeric = [name for name in header if name != range_name]
    return Table(header, rows, f"{metric.title or metric.name} on {split} rows{runs}", numeric=numeric)


def _make_runs(metrics: Record, task: Task) -> Table:
    """Return a table of all runs with links to their reports, and their main metric on each split."""
    runs = {name: run for name, run in get_section(metrics, "runs").items() if isinstance(run, dict)}
    shown = [(split, entries[0]) for split, _, entries in _list_splits(metrics, task)]
    rows: list[list[object]] = []
    for name, run in runs.items():
        values = [(metric, get_number(get_section(run, split), metric.key)) for split, metric in shown]
        rows.append([name, *("" if value is None else metric.format.format(value) for metric, value in values)])
    header = ["run", *(f"{metric.title or metric.name}, {split}" for split, metric in shown)]
    links = [f"./{quote(name)}/report.html" for name in runs]
    return Table(header, rows, "Runs", numeric=header[1:], links=links)


def _make_chart(metric: Metric, entries: Sequence[Record], split: str) -> LineChart:
    curves = []
    styles = {metric.key: ("this model", "blue"), BASELINE + metric.key: ("n-gram baseline", "orange")}
    for key, (name, style) in styles.items():
        points = {
            entry["n_train_rows"]: mean
            for entry in entries
            if (mean := get_number(_find(entry, split, key), "mean")) is not None
        }
        if points:
            curves.append(Curve(name, sorted(points), [points[n_rows] for n_rows in sorted(points)], style))
    return LineChart(metric.title or metric.name, metric.unit, curves, along="train rows", is_log=True)


def _list_splits(metrics: Record, task: Task) -> list[tuple[str, list[Record], list[Metric]]]:
    """Return (split, entries by number of rows, headline metrics with a value) for each split, test first."""
    listed = metrics.get("learning_curve")
    entries = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    entries = [each for each in entries if (get_number(each, "n_train_rows") or 0) >= 1]
    first: Record = next(iter(get_section(metrics, "runs").values()), {})
    splits = []
    for split in ("test", "validation"):
        headlines = task.metrics(get_section(first, split)).headlines if split in first else ()
        shown = [metric for metric in headlines if any(_find(each, split, metric.key) for each in entries)]
        if shown:
            splits.append((split, entries, shown[:_MAX_METRICS]))
    return splits


def _find(entry: Record, split: str, key: str) -> Record:
    return get_section(get_section(entry, split), key)


def _bounds(found: Record, *, ranges: bool) -> list[float]:
    bounds: Any = [found.get("min"), found.get("max")] if ranges else found.get("interval")
    is_whole = isinstance(bounds, list) and all(isinstance(bound, int | float) for bound in bounds)
    return bounds if is_whole else []


def _name_size(entry: Record) -> str:
    """Return the number of train rows as text; `800 (all)` if it is the number of all rows."""
    n_rows, wanted = int(entry["n_train_rows"]), entry.get("max_rows")
    is_all = wanted is None or (isinstance(wanted, int) and wanted > n_rows)
    return f"{n_rows:,} (all)" if is_all else f"{n_rows:,}"
