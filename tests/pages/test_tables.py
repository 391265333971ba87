"""Tables in CSV keep all digits; tables in LaTeX show every text unchanged."""

import csv
import io

import pytest

from llmkit.pages.blocks import Table
from llmkit.pages.tables import escape_latex, to_csv, to_latex


def test_csv_keeps_digits_commas_quotes_and_line_ends() -> None:
    rows = [["垃圾,邮件", 1 / 3, None], ['a "b"\nc', 12_345, ""]]
    text = to_csv(Table(["label", "f1", "n"], rows, total=["all", 1.5, 3]))
    read = list(csv.reader(io.StringIO(text)))
    assert read[0] == ["label", "f1", "n"] and read[3] == ["all", "1.5", "3"]
    assert float(read[1][1]) == 1 / 3 and read[1][2] == "" and read[2][0] == 'a "b"\nc'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("100% & _#$", r"100\% \& \_\#\$"),
        (r"\input{x}", r"\textbackslash{}input\{x\}"),
        ("a~b^c", r"a\textasciitilde{}b\textasciicircum{}c"),
        ("[x]*", "{[}x{]}{*}"),
        ("a\n\nb\tc\x1b[0m\u202e", "a b c{[}0m"),
        ("<垃圾>|", r"\textless{}垃圾\textgreater{}\textbar{}"),
    ],
)
def test_latex_escapes_everything_that_it_would_read(text: str, expected: str) -> None:
    assert escape_latex(text) == expected


def test_latex_has_booktabs_rules_and_columns_by_content() -> None:
    table = Table(["name", "value"], [["x" * 41, -0.5], ["y", 1234]], "Title\n% x", total=["all", 2])
    lines = to_latex(table).splitlines()
    assert lines[0] == "% Title % x" and "ctex" not in lines[1]
    assert lines[2] == r"\begin{tabular}{p{0.33\linewidth}r}"
    assert lines[3:6] == [r"\toprule", r"name & value \\", r"\midrule"]
    assert lines[6].endswith(r"& $-$0.5000 \\") and lines[7] == r"y & 1,234 \\"
    assert lines[8:] == [r"\midrule", r"all & 2 \\", r"\bottomrule", r"\end{tabular}"]
    assert "ctex with XeLaTeX" in to_latex(Table(["标签"], [["a"]]))
