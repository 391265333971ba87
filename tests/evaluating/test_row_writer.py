"""Cells are written unchanged, unless the user asks for cells that a spreadsheet does not change."""

import csv
import io
import json
import math
from typing import Any

import pytest

from llmkit.evaluating.row_writer import RowWriter, to_text


def write(*rows: dict[str, Any], **options: Any) -> tuple[str, RowWriter]:
    lines: list[str] = []
    writer = RowWriter(lines.append, **options)
    add = writer.begin(list(rows[0]))
    for row in rows:
        add(row)
    return "".join(lines), writer


def read(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


@pytest.mark.parametrize("begin", ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\tx", "\rx", "\nx", "＝1+1"])
def test_cells_that_begin_like_a_formula_get_an_apostrophe_and_are_counted(begin: str) -> None:
    rows = {"text": begin, "=label": "a=b", "n": -2.5}
    text, writer = write(rows, is_safe=True)
    assert read(text) == [["text", "'=label", "n"], [f"'{begin}", "a=b", "-2.5"]]
    assert writer.describe() == ["2 cells that begin like a formula got an apostrophe (--safe-csv)"]
    assert read(write(rows)[0]) == [["text", "=label", "n"], [begin, "a=b", "-2.5"]]


def test_a_csv_for_excel_has_a_byte_order_mark_and_keeps_ids() -> None:
    row = {
        "文本": "好",
        "id": "12345678901234567890",
        "code": "007",
        "n": 10**17,
        "zero": "0",
        "x": 0.5,
    }
    text, writer = write(row, for_excel=True)
    assert text.startswith("\ufeff文本,id")
    ids = ['="12345678901234567890"', '="007"', '="100000000000000000"']
    assert read(text)[1] == ["好", *ids, "0", "0.5"]
    assert writer.describe() == ['3 numbers that Excel would change are written as ="..." (--excel)']
    assert not write(row)[0].startswith("\ufeff")


def test_json_has_null_for_numbers_that_are_not_finite_and_base64_for_bytes() -> None:
    row = {"f": math.nan, "list": [1.5, math.inf, {"deep": -math.inf}], "image": b"\xff\xd8", "text": "却"}
    text, _ = write(row, format="jsonl")
    assert json.loads(text) == {"f": None, "list": [1.5, None, {"deep": None}], "image": "/9g=", "text": "却"}
    assert read(write(row)[0])[1] == ["", '[1.5, null, {"deep": null}]', "/9g=", "却"]


def test_cells_of_every_type_are_plain_text() -> None:
    values = [None, math.inf, True, 3, ["a", "b"], [1], {"x": None}, "x\r\ny"]
    assert [to_text(value) for value in values] == ["", "inf", "true", "3", "a|b", "[1]", '{"x": null}', "x\r\ny"]
    assert read(write({"text": "x\r\ny\n"})[0])[1] == ["x\r\ny\n"]
