"""Write a table as CSV or as LaTeX."""

import csv
import io
import re
import unicodedata
from collections.abc import Sequence

from llmkit.pages.blocks import Table, show_value

_LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", "[": "{[}", "]": "{]}", "*": "{*}", "–": "--",
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
}  # fmt: skip
# After `\\`, which ends a row, LaTeX reads `[` and `*` as arguments.
_LONG_CHARACTERS = 40
_EAST_ASIAN = re.compile(r"[\u1100-\u11ff\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef]")


def to_csv(table: Table) -> str:
    """Return the table as CSV with all digits; None becomes an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.header)
    writer.writerows(["" if cell is None else cell for cell in row] for row in _list_rows(table))
    return text.getvalue()


def to_latex(table: Table) -> str:
    """Return the table as a `tabular` of the package booktabs, with numbers as in the report.

    A column of long texts is a paragraph column, a third of the line wide.
    """
    rows = [[show_value(cell) for cell in row] for row in _list_rows(table)]
    columns = list(zip(table.header, *rows, strict=True))
    aligned = [
        r"p{0.33\linewidth}" if max(map(len, column)) > _LONG_CHARACTERS else "r" if is_numeric else "l"
        for column, is_numeric in zip(columns, table.is_numeric, strict=True)
    ]
    lines = [_to_line(row, aligned) for row in rows]
    if table.total is not None:
        lines.insert(len(lines) - 1, r"\midrule")
    packages = "booktabs" + (", and for its characters ctex with XeLaTeX" if _EAST_ASIAN.search(str(columns)) else "")
    title = f"% {_clean(table.title)}\n" if table.title else ""
    return "\n".join([
        f"{title}% needs the package {packages}", rf"\begin{{tabular}}{{{''.join(aligned)}}}", r"\toprule",
        _to_line(table.header, ["l"] * len(aligned)), r"\midrule", *lines, r"\bottomrule", r"\end{tabular}", "",
    ])  # fmt: skip


def escape_latex(text: str) -> str:
    """Escape text for LaTeX, and put it on one line."""
    return "".join(_LATEX.get(character, character) for character in _clean(text))


def _clean(text: str) -> str:
    """Return one line without control and format characters."""
    shown = "".join(" " if c.isspace() else c for c in text if c.isspace() or unicodedata.category(c)[0] != "C")
    return " ".join(shown.split())


def _to_line(cells: Sequence[str], aligned: Sequence[str]) -> str:
    shown = []
    for cell, align in zip(cells, aligned, strict=True):
        text = escape_latex(str(cell))
        shown.append(f"$-${text[1:]}" if align == "r" and text.startswith("-") and text != "--" else text)
    return f"{' & '.join(shown)} \\\\"


def _list_rows(table: Table) -> list[list[object]]:
    return [list(row) for row in (*table.rows, *([table.total] if table.total is not None else []))]
