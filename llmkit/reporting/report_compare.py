"""Write compare.html: several runs in one table and one plot, in a file that opens anywhere, without network.

Takes what reporting/compare.py found; markup is in page.py, the plot in charts.py.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmkit.core.files import write_text
from llmkit.metrics.spec import Metric
from llmkit.pages.charts import Curve, draw_chart
from llmkit.pages.page import Html, render_page, section, show_duration, table, tag
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
"""Key of a row and its name, before the figures. A column that no run has anything for is left out."""

_COLOURS = ("blue", "orange", "green", "violet", "red", "teal", "brown", "pink")
_LOOKS = (*_COLOURS, *(f"{colour} dashed" for colour in _COLOURS))


def write_comparison(comparison: dict[str, Any], folder: Path) -> Path:
    """Write the page into `folder`, and return its path."""
    rows = comparison["runs"]
    title = f"{len(rows)} runs compared"
    metrics = TASKS[comparison["task"]].metrics({})
    columns = (
        *COLUMNS,
        *((each.key, each.heading or each.name) for each in metrics.compared),
        ("tokens_per_second", "tokens/s"),
    )
    names = dict(columns)
    basis = (
        f"Held-out text: the {comparison['split']} split, {comparison['n_bytes']:,} bytes, the same for all. "
        f"Ranked by {names[comparison['by']]}, the {comparison['best']} first. Loss is in nats a token."
    )
    path = folder / PAGE
    page = render_page(
        title,
        tag("header", tag("h1", title), tag("p", basis, class_="quiet"), _render_notes(comparison["notes"])),
        section("Figures", _render_figures(rows, columns)),
        section("Held-out text while training", *_render_curves(rows, metrics.headlines[0])),
        section("How each was measured", _render_methods(rows)),
    )
    write_text(path, page)
    return path


def _render_notes(notes: list[str]) -> Html | None:
    if not notes:
        return None
    heading = tag("p", "What the figures do not say")
    return tag("div", heading, tag("ul", *(tag("li", note) for note in notes)), class_="missing")


def _render_figures(rows: list[dict[str, Any]], columns: Sequence[tuple[str, str]]) -> Html:
    columns = [(key, name) for key, name in columns if any(row[key] is not None for row in rows)]
    shown = [row | {"run": mark_name(row), "seconds": row["seconds"] and show_duration(row["seconds"])} for row in rows]
    return table([name for _, name in columns], [[row[key] for key, _ in columns] for row in shown])


def _render_curves(rows: list[dict[str, Any]], metric: Metric) -> list[Html]:
    curves = [
        Curve(row["run"], row["curve"]["n_tokens"], row["curve"][metric.key], _LOOKS[number % len(_LOOKS)])
        for number, row in enumerate(rows)
        if row["curve"]["n_tokens"]
    ]
    if not curves:
        return [tag("p", "No evaluation was logged while training.", class_="quiet")]
    basis = "Measured on the validation split, or on a part of it where it is long (train.max_eval_samples)."
    absent = [row["run"] for row in rows if not row["curve"]["n_tokens"]]
    basis += f" Nothing was logged of {', '.join(absent)}." if absent else ""
    chart = draw_chart(metric.chart, "over training tokens", curves, along="token")
    return [tag("div", chart, class_="charts single"), tag("p", basis, class_="quiet")]


def _render_methods(rows: list[dict[str, Any]]) -> Html:
    header = ["run", "tokenizer", "vocabulary", "fingerprint", "held-out tokens", "unknown", "context"]
    body = []
    for row in rows:
        tokenizer = row["tokenizer"]
        fingerprint = str(tokenizer["fingerprint"] or "")[:12]
        facts = (tokenizer["kind"], tokenizer["vocab_size"], fingerprint, row["n_tokens"], row["n_unknown_tokens"])
        body.append([row["run"], *facts, describe_context(row)])
    return table(header, body)
