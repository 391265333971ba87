"""Lines of a comparison, narrow enough for a terminal; the page and the JSON have all digits."""

from collections.abc import Callable
from typing import Any
from unicodedata import east_asian_width

from llmkit.core.console import clean_line
from llmkit.pages.page import show_duration
from llmkit.reporting.comparison_notes import mark_name
from llmkit.tasks.table import TASKS


def describe_comparison(comparison: dict[str, Any]) -> list[str]:
    """What was compared, the table, the notes."""
    rows = [row | {"run": mark_name(row)} for row in comparison["runs"]]
    metrics = TASKS[comparison["task"]].metrics({}).compared
    figures = [
        (metric.key, metric.column, _show_perplexity if "," in metric.format else metric.format.format)
        for metric in metrics
    ]
    known = [*_COLUMNS, *figures, ("tokens_per_second", "tokens/s", "{:,.0f}".format)]
    columns = [column for column in known if any(row[column[0]] is not None for row in rows)]
    cells = [[name for _, name, _ in columns]]
    cells += [["–" if row[key] is None else show(row[key]) for key, _, show in columns] for row in rows]
    widths = [max(map(_width, column)) for column in zip(*cells, strict=True)]
    by = next(name for key, name, _ in known if key == comparison["by"])
    return [
        f"{comparison['split']} split, {comparison['n_bytes']:,} bytes; the {comparison['best']} {by} first",
        "",
        *(_join(line, widths) for line in cells),
        *[""][: len(comparison["notes"])],
        *(f"note: {clean_line(note)}" for note in comparison["notes"]),
    ]


def _join(cells: list[str], widths: list[int]) -> str:
    """Words to the left, numbers to the right."""
    spaces = [" " * (width - _width(cell)) for cell, width in zip(cells, widths, strict=True)]
    aligned = [
        cell + space if n < _N_WORDS else space + cell
        for n, (cell, space) in enumerate(zip(cells, spaces, strict=True))
    ]
    return "  ".join(aligned).rstrip()


def _width(text: str) -> int:
    """In columns of a terminal, where a Chinese character takes two."""
    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text)


def _show_count(number: float) -> str:
    """Three digits: `512`, `24.0k`, `1.23M`."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= 0.9995 * size:
            scaled = number / size
            return f"{scaled:.{2 if scaled < 9.995 else 1 if scaled < 99.95 else 0}f}{letter}"
    return f"{number:.0f}"


def _show_perplexity(value: float) -> str:
    return f"{value:,.2f}" if value < 1e6 else f"{value:.2e}"


_COLUMNS: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("run", "run", clean_line),
    ("family", "family", clean_line),
    ("n_parameters", "params", _show_count),
    ("n_training_tokens", "tokens", _show_count),
    ("seconds", "time", show_duration),
)
"""Before the figures: key of a row, its heading, how it is shown; a column that no run has anything for is left
out."""
_N_WORDS = 2
"""So many columns at the left are words."""
