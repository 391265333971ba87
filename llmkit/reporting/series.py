"""The report of a series of runs: with `--folds` and `--seeds`, statistics of each metric over the runs, and each run;
with `--learning-curve`, metrics by number of train rows, with the n-gram baseline.

Reads the files of the runs, and skips entries of metrics.json that are missing or of another type. Does not import
torch.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from llmkit.metrics.spec import Metric, MetricSet
from llmkit.pages.blocks import (
    CURVE_STYLES,
    Block,
    Charts,
    Curve,
    Headlines,
    LineChart,
    Paragraph,
    Section,
    Table,
    show_duration,
)
from llmkit.reporting.report_curves import pick_values
from llmkit.tasks.base import Task
from llmkit.training.run_record import Record, RunRecord, get_number, get_section, read_run

SPLITS = ("test", "validation")
BASELINE = "ngram_baseline_"
"""Prefix of the metrics of the n-gram baseline, which is trained on the same rows."""
_MAX_METRICS = 4


def is_series(record: RunRecord) -> bool:
    """Whether the run folder is that of a series."""
    return bool(get_section(record.manifest, "series"))


def make_series_sections(folder: Path, record: RunRecord, task: Task) -> list[Section]:
    """Return the sections on the results of a series; before the series has ended, a note."""
    if curve := make_learning_curve(record.metrics, task):
        return curve
    listed, summary = get_section(record.metrics, "runs"), get_section(record.metrics, "summary")
    runs = {name: run for name, run in listed.items() if isinstance(run, dict)}
    if not runs or not summary:
        return [Section("Held-out result", [Paragraph("The series has not ended; --resume continues it.")])]
    sections = []
    for split in (name for name in SPLITS if get_section(summary, name)):
        metrics = task.metrics(get_section(next(iter(runs.values())), split))
        parts = {name: get_section(run, split) for name, run in runs.items()}
        blocks = _make_result(summary, split, metrics, get_section(record.manifest, "series"), len(runs))
        training = {name: get_section(run, "training") for name, run in runs.items()}
        sections.append(Section(f"Result on {split}", [*blocks, _make_runs(parts, training, metrics, split)]))
    first = get_section(next(iter(runs.values())), "validation")
    return [*sections, Section("Curves", _make_curves(folder, list(runs), task.metrics(first)))]


def _make_result(summary: Record, split: str, metrics: MetricSet, series: Record, n_runs: int) -> list[Block]:
    shown = [(metric, _find(summary, split, metric.key)) for metric in metrics.metrics]
    known = [(metric, found) for metric, found in shown if get_number(found, "mean") is not None]
    headlines = [(metric, dict(known).get(metric)) for metric in metrics.headlines]
    figures = [
        (
            metric.title or metric.name,
            f"{_show(metric, found['mean'])} ± {_show(metric, found.get('std'))}",
            "mean ± std",
        )
        for metric, found in headlines
        if found
    ]
    rows = [[metric.title or metric.name.strip(), *_list_figures(metric, found)] for metric, found in known]
    header = ["metric", "mean", "std", "95% interval", "min", "max"]
    parts = [f"{series[name]} {name}" for name in ("folds", "seeds") if series.get(name) and series[name] != 1]
    basis = f"{n_runs} runs: {' × '.join(parts)}. Intervals are for the mean, from Student's t distribution, "
    basis += "cut at the limits of the metric."
    if series.get("folds"):
        basis += " Folds share train rows, so the intervals are too narrow (Bengio and Grandvalet 2004)."
    return [
        Headlines(figures[:4]),
        Paragraph(basis),
        Table(header, rows, f"Metrics on {split}", numeric=header[1:]),
    ]


def _list_figures(metric: Metric, found: Record) -> list[str]:
    bounds = found.get("interval")
    interval = " to ".join(_show(metric, each) for each in metric.clip(bounds)) if isinstance(bounds, list) else ""
    mean, std, low, high = (_show(metric, found.get(name)) for name in ("mean", "std", "min", "max"))
    return [mean, std, interval, low, high]


def _show(metric: Metric, value: Any) -> str:
    return metric.show_on_page(value) if isinstance(value, int | float) else ""


def _make_runs(parts: dict[str, Record], training: dict[str, Record], metrics: MetricSet, split: str) -> Table:
    known = {key for part in parts.values() for key in part if get_number(part, key) is not None}
    columns = [metric for metric in metrics.headlines if metric.key in known]
    rows = []
    for name, part in parts.items():
        seconds = get_number(training[name], "seconds")
        cells = [_show(metric, get_number(part, metric.key)) for metric in columns]
        rows.append([name, *cells, training[name].get("best_step"), "" if seconds is None else show_duration(seconds)])
    header = ["run", *(metric.title or metric.name for metric in columns), "best step", "time"]
    links = [f"./{quote(name)}/report.html" for name in parts]
    return Table(header, rows, f"Runs on {split}", numeric=header[1:], links=links)


def _make_curves(folder: Path, names: list[str], metrics: MetricSet) -> list[Block]:
    charted = [("loss", "Held-out loss", metrics.loss_unit)]
    charted += [(each.key, each.chart, each.unit) for each in metrics.headlines if each.chart]
    logs = {
        name: read_run(folder / name).log.get("eval", [])
        for name in names
        if Path(name).name == name and (folder / name / "log.jsonl").is_file()  # the names come from metrics.json
    }
    charts = []
    for key, title, unit in charted:
        curves = []
        for name, style in zip(logs, CURVE_STYLES, strict=False):
            steps, values = pick_values(logs[name], key)
            if values:
                curves.append(Curve(name, steps, values, style))
        if curves:
            charts.append(LineChart(title, unit, curves))
    blocks: list[Block] = [Charts(charts)] if charts else []
    if len(logs) > len(CURVE_STYLES):
        blocks.append(Paragraph(f"Only the curves of the first {len(CURVE_STYLES)} of {len(logs)} runs are drawn."))
    return blocks


def make_learning_curve(metrics: Record, task: Task) -> list[Section]:
    """Return one section per split, test first: a chart and a table for each headline metric; and one of all runs."""
    sections = []
    for split, entries, shown in _list_splits(metrics, task):
        charts = [_make_chart(metric, entries, split) for metric in shown]
        tables: list[Block] = [make_table(metric, entries, split) for metric in shown]
        about = "Each point is a run on a stratified sample of the train rows. All sizes have the same held-out rows."
        sections.append(Section(f"Learning curve on {split} rows", [Paragraph(about), Charts(charts), *tables]))
    return [*sections, Section("Runs", [_make_curve_runs(metrics, task)])] if sections else []


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
            mean = get_number(found, "mean")
            bounds: Any = [found.get("min"), found.get("max")] if ranges else found.get("interval")
            if not isinstance(bounds, list) or not all(isinstance(bound, int | float) for bound in bounds):
                bounds = []
            cells.append("" if mean is None else metric.format.format(mean))
            cells.append(" to ".join(metric.format.format(bound) for bound in metric.clip(bounds)))
        rows.append(cells)
    range_name = "min to max" if ranges else "95% interval"
    header = ["train rows", metric.name, range_name, "n-gram baseline", range_name][: 1 + 2 * len(keys)]
    runs = ", mean of runs" if several else ""
    numeric = [name for name in header if name != range_name]
    return Table(header, rows, f"{metric.title or metric.name} on {split} rows{runs}", numeric=numeric)


def _make_curve_runs(metrics: Record, task: Task) -> Table:
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
    for split in SPLITS:
        headlines = task.metrics(get_section(first, split)).headlines if split in first else ()
        shown = [metric for metric in headlines if any(_find(each, split, metric.key) for each in entries)]
        if shown:
            splits.append((split, entries, shown[:_MAX_METRICS]))
    return splits


def _find(entry: Record, split: str, key: str) -> Record:
    """Return the statistics of a metric on a split."""
    return get_section(get_section(entry, split), key)


def _name_size(entry: Record) -> str:
    """Return the number of train rows as text; `800 (all)` if it is the number of all rows."""
    n_rows, wanted = int(entry["n_train_rows"]), entry.get("max_rows")
    is_all = wanted is None or (isinstance(wanted, int) and wanted > n_rows)
    return f"{n_rows:,} (all)" if is_all else f"{n_rows:,}"
