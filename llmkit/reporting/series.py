"""The report of a series of runs (`--folds`, `--seeds`): statistics of each metric over the runs, and each run.

Reads the files of the runs; does not import torch.
"""

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
from llmkit.tasks.base import Task
from llmkit.training.run_record import Record, RunRecord, get_number, get_section, read_run

SPLITS = ("test", "validation")
_MAX_CURVES = len(CURVE_STYLES)


def is_series(record: RunRecord) -> bool:
    """Whether the run folder is that of a series."""
    return bool(get_section(record.manifest, "series"))


def make_series_sections(folder: Path, record: RunRecord, task: Task) -> list[Section]:
    """Return the sections on the results of a series; before the series has ended, a note."""
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
    shown = [(metric, get_section(get_section(summary, split), metric.key)) for metric in metrics.metrics]
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
    logs = {name: read_run(folder / name).log.get("eval", []) for name in names if _is_run_of(folder, name)}
    charts = []
    for key, title, unit in charted:
        curves = []
        for name, style in zip(logs, CURVE_STYLES, strict=False):
            found = [(float(each["step"]), get_number(each, key)) for each in logs[name]]
            steps, values = [s for s, v in found if v is not None], [v for _, v in found if v is not None]
            if values:
                curves.append(Curve(name, steps, values, style))
        if curves:
            charts.append(LineChart(title, unit, curves))
    more = f"Only the curves of the first {_MAX_CURVES} of {len(logs)} runs are drawn."
    return [*([Charts(charts)] if charts else []), *([Paragraph(more)] if len(logs) > _MAX_CURVES else [])]


def _is_run_of(folder: Path, name: str) -> bool:
    return Path(name).name == name and (folder / name / "log.jsonl").is_file()
