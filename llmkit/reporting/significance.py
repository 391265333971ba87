"""Test the difference between the best run of a comparison and each other run, on the same held-out rows.

The test itself is the task's (`Task.test_difference`). Does not import torch.
"""

import shlex
from collections.abc import Sequence
from pathlib import Path

from llmkit.metrics.paired import correct_p_values
from llmkit.metrics.spec import Metric
from llmkit.pages.blocks import Block, Paragraph, Table
from llmkit.tasks.base import Task
from llmkit.training.run_record import Record

LEVEL = 0.05
"""A difference with a smaller p-value is called significant."""


def compare_with_best(rows: Sequence[Record], task: Task, split: str, metric: Metric) -> tuple[list[Record], list[str]]:
    """Return (tests, notes): tests of each run against the first one, which is the best; notes on runs without a test.

    With several tests, `p_value` is corrected for their number.
    """
    if not task.reads_rows or metric.key == "tokens_per_second":
        return [], []
    best, *others = rows
    tests: list[Record] = []
    without = []
    for row in others:
        found = task.test_difference(Path(best["path"]), Path(row["path"]), split, metric.key)
        if found is None:
            without.append(row)
        else:
            tests.append({"run": row["run"], "best": best["run"], **found._asdict()})
    for test, p_value in zip(tests, correct_p_values([test["p_value"] for test in tests]), strict=True):
        test["p_value"] = p_value
    return tests, _explain_missing(best, without, split, metric) if without else []


def describe_test(test: Record, metric: Metric) -> str:
    """Describe a test in one line."""
    verdict = "significant" if test["p_value"] < LEVEL else "not significant"
    interval = f", 95% interval {_show_interval(test, metric)}" if test["interval"] else ""
    difference = f"{metric.name} {_show_difference(test['difference'], metric)}{interval}"
    return f"{test['best']} minus {test['run']}: {difference}, p = {show_p_value(test['p_value'])}, {verdict}"


def describe_method(tests: Sequence[Record]) -> str:
    """Describe how the differences were tested; there must be at least one test."""
    basis = f"Paired tests on {tests[0]['n_rows']:,} rows ({tests[0]['method']}; interval: paired bootstrap)"
    corrected = f"; p-values, but not intervals, are Holm-corrected for {len(tests)} tests" if len(tests) > 1 else ""
    return f"{basis}{corrected}. Differences below p = {LEVEL} are called significant."


def make_tests(tests: Sequence[Record], metric: Metric) -> list[Block]:
    """Return the tests as a table for the page of `compare`; empty without tests."""
    if not tests:
        return []
    header = ["run", f"{metric.name}: {tests[0]['best']} minus this run", "95% interval", "p", ""]
    body: list[list[object]] = [
        [
            test["run"], _show_difference(test["difference"], metric), _show_interval(test, metric),
            show_p_value(test["p_value"]), "significant" if test["p_value"] < LEVEL else "not significant",
        ]
        for test in tests
    ]  # fmt: skip
    return [Table(header, body, numeric=["p"]), Paragraph(describe_method(tests))]


def show_p_value(value: float) -> str:
    """Format a p-value: `0.031`, or `below 0.001`."""
    return "below 0.001" if value < 0.001 else f"{value:.3f}"


def _show_difference(value: float, metric: Metric) -> str:
    return f"{100 * value:+.2f} points" if metric.is_fraction else f"{value:+.4g}"


def _show_interval(test: Record, metric: Metric) -> str:
    if not test["interval"]:
        return ""
    low, high = (f"{100 * bound:+.2f}" if metric.is_fraction else f"{bound:+.4g}" for bound in test["interval"])
    return f"{low} to {high}"


def _explain_missing(best: Record, without: Sequence[Record], split: str, metric: Metric) -> list[str]:
    paths = [row["path"] for row in (best, *without)]
    unsaved = [path for path in paths if not (Path(path) / "predictions" / f"{split}.safetensors").is_file()]
    names = ", ".join(str(row["run"]) for row in without)
    if not unsaved:
        reason = f"their saved rows or labels differ, or {metric.name} cannot be computed from saved predictions"
        return [f"no test of the difference for {names}: {reason}"]
    commands = "; ".join(f"llmkit eval {shlex.quote(path)} --split {split}" for path in unsaved)
    return [f"no test of the difference for {names}: predictions are not saved in older runs; to save them: {commands}"]
