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
    metrics = TASKS[comparison["task"]].metrics({})
    figures = [(metric.key, metric.heading or metric.name) for metric in metrics.compared]
    columns = [*COLUMNS, *figures, ("tokens_per_second", "tokens/s")]
    basis = (
        f"Held-out text: the {comparison['split']} split, {comparison['n_bytes']:,} bytes, the same for all runs. "
        f"Ranked by {dict(columns)[comparison['by']]}, {comparison['best']} first. Loss is in nats per token."
    )
    notes = comparison["notes"]
    notice = [Notice("Before you compare", notes)] if notes else []
    sections = [
        Section("Metrics", [_make_metrics(rows, columns)]),
        Section("Held-out text during training", _make_curves(rows, metrics.headlines[0])),
        Section("How each run was measured", [_make_methods(rows)]),
    ]
    path = folder / PAGE
    write_text(path, render_page(f"{len(rows)} runs compared", basis, notice, sections))
    return path


def _make_metrics(rows: list[dict[str, Any]], columns: Sequence[tuple[str, str]]) -> Table:
    columns = [(key, name) for key, name in columns if any(row[key] is not None for row in rows)]
    shown = [row | {"run": mark_name(row), "seconds": row["seconds"] and show_duration(row["seconds"])} for row in rows]
    return Table([name for _, name in columns], [[row[key] for key, _ in columns] for row in shown], numeric=["time"])


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
    header = ["run", "tokenizer", "vocabulary", "fingerprint", "held-out tokens", "unknown", "context"]
    body = []
    for row in rows:
        tokenizer = row["tokenizer"]
        fingerprint = str(tokenizer["fingerprint"] or "")[:12]
        facts = (tokenizer["kind"], tokenizer["vocab_size"], fingerprint, row["n_tokens"], row["n_unknown_tokens"])
        body.append([row["run"], *facts, describe_context(row)])
    return Table(header, body)
