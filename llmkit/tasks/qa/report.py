"""Show answers on the terminal and in the report: baseline, counts, mistakes in their contexts.

Reads the metrics of one split. Entries that are missing or of another type are omitted.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from llmkit.metrics.answers import RULES
from llmkit.metrics.spec import Metric, MetricSet
from llmkit.pages.blocks import Block, Fold, Paragraph, Section, Table
from llmkit.tasks.base import describe_interval
from llmkit.training.run_record import Record, get_number, get_section

IN_TABLES = ("mistakes",)
"""Entries that are shown as tables, because they are too long for the list of metrics."""
_MAX_TEXT_CHARS = 300


def describe_counts(figures: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return the counts of questions for the terminal, in the form of `Task.describe_figures`."""
    n_questions = get_number(figures, "n_questions")
    if n_questions is None:
        return []
    counts = [("over questions", f"{n_questions:,.0f}", "")]
    n_answerable, n_windows = get_number(figures, "n_answerable"), get_number(figures, "n_windows")
    if n_answerable is not None and n_answerable < n_questions:
        counts.append(("  with an answer", f"{n_answerable:,.0f}", ""))
        if (n_answered := get_number(figures, "n_answered")) is not None:
            counts.append(("  answered", f"{n_answered:,.0f}", ""))
    if n_windows is not None and n_windows != n_questions:
        counts.append(("  read in windows", f"{n_windows:,.0f}", ""))
    return counts


def make_tables(figures: Mapping[str, Any], metrics: MetricSet, *, brief: bool) -> list[Block]:
    """Return the table that compares with the baseline; none if `brief`: the terminal lists the baseline's metrics."""
    shown = [metric for metric in metrics.headlines if metric.baseline and get_number(figures, metric.key) is not None]
    if brief or not shown or get_number(figures, shown[0].baseline) is None:
        return []
    rows: list[list[object]] = []
    for name, keys in (
        ("this model", [metric.key for metric in shown]), ("word overlap", [metric.baseline for metric in shown])
    ):  # fmt: skip
        cells = [_show(figures, metric, key) for metric, key in zip(shown, keys, strict=True)]
        rows.append([name, *cells])
    title = "Baseline: answers chosen by word overlap with the question (Richardson et al. 2013)"
    return [Table(["", *(metric.title or metric.name for metric in shown)], rows, title)]


def _show(figures: Mapping[str, Any], metric: Metric, key: str) -> str:
    value = get_number(figures, key)
    interval = describe_interval(figures, replace(metric, key=key)).partition("interval ")[2]
    return "" if value is None else metric.show_on_page(value) + (f" ({interval})" if interval else "")


def make_sections(figures: Record, split: str, others: Record) -> list[Section]:
    """Return sections on the questions and on mistakes; `others` has the metrics of all splits."""
    mistakes = _make_mistakes(figures, f"Most confident mistakes on {split}")
    for other in others:
        if other != split and (found := _make_mistakes(get_section(others, other), "")):
            mistakes.append(Fold(f"Most confident mistakes on {other}", found))
    return [Section("Questions", _make_summary(figures)), Section("Mistakes", mistakes)]


def _make_summary(figures: Record) -> list[Block]:
    n_questions, n_windows = get_number(figures, "n_questions"), get_number(figures, "n_windows")
    if n_questions is None:
        return []
    facts = [f"{n_questions:,.0f} questions."]
    n_answerable, n_answered = get_number(figures, "n_answerable"), get_number(figures, "n_answered")
    if n_answerable is not None and n_answered is not None and n_answerable < n_questions:
        facts.append(f"{n_answerable:,.0f} have an answer; the model answered {n_answered:,.0f}.")
    if n_windows is not None and n_windows != n_questions:
        facts.append(f"They were read in {n_windows:,.0f} windows.")
    method = get_section(figures, "method")
    if (rules := RULES.get(str(method.get("rules")))) is not None:
        facts.append(f"Answers are compared by {rules} does.")
    if (threshold := get_number(method, "no_answer_threshold")) is not None:
        facts.append(
            f"A question gets no answer if the score of no answer exceeds that of the best answer by {threshold:.4g}."
        )
    return [Paragraph(" ".join(facts))]


def _make_mistakes(figures: Record, title: str) -> list[Block]:
    found = figures.get("mistakes")
    rows: list[list[object]] = []
    for each in found if isinstance(found, list) else []:
        if isinstance(each, dict):
            before, predicted, after = (str(each.get(key) or "") for key in ("before", "predicted", "after"))
            context = f"…{before}【{predicted}】{after}…" if predicted else f"…{before}{after}…"
            cells = (str(each.get(key) or "") for key in ("question", "answer"))
            shown = [text[:_MAX_TEXT_CHARS] for text in cells]
            rows.append([*shown, predicted[:_MAX_TEXT_CHARS], each.get("probability"), context[: 3 * _MAX_TEXT_CHARS]])
    header = ["question", "reference", "answer", "probability", "context, with the answer marked"]
    return [Table(header, rows, title)] if rows else []


def shorten_metrics(part: Record, metrics: MetricSet, *, is_above: bool) -> Record:
    """Return metrics of a split without those shown in tables, and with intervals as text."""
    where = "in a table above" if is_above else "in metrics.json"
    shown = {key: where if key in IN_TABLES else value for key, value in part.items()}
    if intervals := get_section(part, "intervals"):
        known = {key: metrics.find(key) or Metric(key, key, "{:.2%}") for key in intervals}
        shown["intervals"] = {key: describe_interval(part, known[key]) or bounds for key, bounds in intervals.items()}
    return shown
