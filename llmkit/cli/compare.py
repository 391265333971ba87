"""`llmkit compare`."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmkit.cli import options
from llmkit.core.console import clean_line

if TYPE_CHECKING:
    from llmkit.metrics.spec import Metric
    from llmkit.pages.blocks import Table


def compare_command(
    runs: Annotated[
        list[Path], typer.Argument(help="Two or more runs of one kind: causal language models, or classifiers.")
    ],
    by: Annotated[
        str | None,
        typer.Option(
            help="Metric that ranks the runs, such as word_perplexity, f1_macro or tokens_per_second; default: "
            "bits_per_byte, or for classifiers accuracy (one label per row), f1_micro (several) or pearson (a number)."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for compare.html and compare.json.")] = Path("compare"),
    json: options.Json = False,
) -> None:
    """Compare finished runs on the same held-out data, in a table and a page.

    Classifiers also get significance tests. They need the same held-out rows: train them with the same --test FILE, or
    with the same --data, cls.split_seed, cls.validation and cls.test.
    """
    from llmkit.cli.output import echo, show_json, show_table
    from llmkit.reporting.compare import compare

    result = compare(runs, by=by, out=out)
    if json:
        show_json(result)
        return
    echo(f"{result['split']} split, {result['held_out']}; ranked by {result['by']}, {result['best']} first\n")
    show_table(make_table(result))
    if result["tests"]:
        show_tests(result)
    if result["notes"]:
        echo("")
    for note in result["notes"]:
        echo(f"note: {clean_line(note)}")


def show_tests(comparison: dict[str, Any]) -> None:
    """Show the test of each run against the best one, one line each."""
    from llmkit.cli.output import echo
    from llmkit.reporting.significance import describe_method, describe_test
    from llmkit.tasks.table import TASKS

    metric = TASKS[comparison["task"]].metrics(comparison).find(comparison["by"])
    assert metric is not None
    echo(f"\n{describe_method(comparison['tests'])}")
    for test in comparison["tests"]:
        echo(f"  {clean_line(describe_test(test, metric))}")


def make_table(comparison: dict[str, Any]) -> "Table":
    """Return the runs as rows with few digits; compare.json has all digits. A column without values is left out."""
    from llmkit.pages.blocks import Table, show_duration
    from llmkit.reporting.comparison_notes import mark_name
    from llmkit.tasks.table import TASKS

    rows = [row | {"run": mark_name(row)} for row in comparison["runs"]]
    metrics = TASKS[comparison["task"]].metrics(comparison).compared
    by = next((metric for metric in metrics if metric.key == comparison.get("by")), None)
    rows = [row | {"interval": by and _show_interval(row, by)} for row in rows]
    known: list[tuple[str, str, Callable[[Any], str]]] = [
        ("run", "run", str),
        ("family", "family", str),
        ("n_parameters", "params", show_count),
        ("n_training_tokens", "tokens", show_count),
        ("seconds", "time", show_duration),
        *((each.key, each.column, show_large if "," in each.format else each.format.format) for each in metrics),
        ("interval", "95% interval", str),
        ("tokens_per_second", "tokens/s", "{:,.0f}".format),
    ]
    columns = [column for column in known if any(row[column[0]] is not None for row in rows)]
    cells = [["–" if row[key] is None else show(row[key]) for key, _, show in columns] for row in rows]
    header = [name for _, name, _ in columns]
    return Table(header, cells, numeric=[name for name in header if name not in ("run", "family")])


def _show_interval(row: dict[str, Any], metric: "Metric") -> str | None:
    bounds = row.get("intervals", {}).get(metric.key)
    return bounds and " to ".join(metric.format.format(bound) for bound in bounds)


def show_count(number: float) -> str:
    """Format with three digits: `512`, `24.0k`, `1.23M`."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= 0.9995 * size:
            scaled = number / size
            return f"{scaled:.{2 if scaled < 9.995 else 1 if scaled < 99.95 else 0}f}{letter}"
    return f"{number:.0f}"


def show_large(value: float) -> str:
    """Format a perplexity; values of a million or more in scientific notation."""
    return f"{value:,.2f}" if value < 1e6 else f"{value:.2e}"
