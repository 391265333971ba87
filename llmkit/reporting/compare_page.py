"""Write compare.html: several runs in one table and one chart, in one file that needs no network."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmkit.core.files import write_text
from llmkit.metrics.spec import Metric
from llmkit.pages.blocks import (
    CURVE_STYLES,
    Block,
    Charts,
    Curve,
    LineChart,
    Notice,
    Paragraph,
    Section,
    Table,
    show_duration,
)
from llmkit.pages.page import render_page
from llmkit.reporting.comparison_notes import describe_context, mark_name
from llmkit.reporting.significance import make_tests
from llmkit.tasks.table import TASKS

PAGE = "compare.html"
COLUMNS = (
    ("run", "run"),
    ("family", "family"),
    ("n_parameters", "parameters"),
    ("n_training_tokens", "trained on"),
    ("seconds", "time"),
)
"""Keys of a row and their headings, before the metrics. A column without any value is left out."""


def write_comparison(comparison: dict[str, Any], folder: Path) -> Path:
    """Write the result of compare.py to `folder` as a page, and return its path."""
    rows = comparison["runs"]
    metrics = TASKS[comparison["task"]].metrics(comparison)
    figures = [(metric.key, metric.heading or metric.name) for metric in metrics.compared]
    columns = [*COLUMNS, *figures, ("tokens_per_second", "tokens/s")]
    basis = (
        f"Held-out data: the {comparison['split']} split, {comparison['held_out']}, the same for all runs. "
        f"Ranked by {dict(columns)[comparison['by']]}, {comparison['best']} first. Loss is in {metrics.loss_unit}."
    )
    ranked_by = metrics.find(comparison["by"])
    notes = comparison["notes"]
    notice = [Notice("Before you compare", notes)] if notes else []
    sections = [
        Section("Metrics", [_make_metrics(rows, columns)]),
        Section("Difference from the best run", make_tests(comparison["tests"], ranked_by) if ranked_by else []),
        Section("Held-out data during training", _make_curves(rows, metrics.headlines[0])),
        Section("How each run was measured", [_make_methods(rows)]),
    ]
    path = folder / PAGE
    write_text(path, render_page(f"{len(rows)} runs compared", basis, notice, sections))
    return path


def _make_metrics(rows: list[dict[str, Any]], columns: Sequence[tuple[str, str]]) -> Table:
    columns = [(key, name) for key, name in columns if any(row[key] is not None for row in rows)]
    shown = [row | {"run": mark_name(row), "seconds": row["seconds"] and show_duration(row["seconds"])} for row in rows]
    header: list[str] = []
    body: list[list[object]] = [[] for _ in rows]
    for key, name in columns:
        has_interval = any(key in row["intervals"] for row in rows)
        header += [name, "95% interval"] if has_interval else [name]
        for row, cells in zip(shown, body, strict=True):
            cells += [row[key], _show_bounds(row["intervals"].get(key))] if has_interval else [row[key]]
    return Table(header, body, numeric=["time"])


def _show_bounds(bounds: list[float] | None) -> str:
    return "" if bounds is None else " to ".join(f"{bound:.4f}" for bound in bounds)


def _make_curves(rows: list[dict[str, Any]], metric: Metric) -> list[Block]:
    curves = [
        Curve(row["run"], row["curve"]["n_tokens"], row["curve"][metric.key], CURVE_STYLES[number % len(CURVE_STYLES)])
        for number, row in enumerate(rows)
        if row["curve"]["n_tokens"]
    ]
    if not curves:
        return [Paragraph("No run logged an evaluation during training.")]
    basis = "Measured on the validation split, or on part of it if it is long (train.max_eval_samples)."
    without = [row["run"] for row in rows if not row["curve"]["n_tokens"]]
    basis += f" Without a logged evaluation: {', '.join(without)}." if without else ""
    return [Charts([LineChart(metric.chart, "over training tokens", curves, along="token")]), Paragraph(basis)]


def _make_methods(rows: list[dict[str, Any]]) -> Table:
    if settings := [name for name in rows[0]["settings"] if any(row["settings"].get(name) is not None for row in rows)]:
        return Table(["run", *settings], [[row["run"], *map(row["settings"].get, settings)] for row in rows])
    header = ["run", "tokenizer", "vocabulary", "fingerprint", "held-out tokens", "unknown", "context"]
    body = []
    for row in rows:
        tokenizer = row["tokenizer"]
        fingerprint = str(tokenizer["fingerprint"] or "")[:12]
        facts = (tokenizer["kind"], tokenizer["vocab_size"], fingerprint, row["n_tokens"], row["n_unknown_tokens"])
        body.append([row["run"], *facts, describe_context(row)])
    return Table(header, body)
