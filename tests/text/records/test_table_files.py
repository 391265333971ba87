"""Formats that are no text: .xlsx and .parquet give the same rows as any other."""

import zipfile
from datetime import datetime
from pathlib import Path

import openpyxl
import pyarrow
import pyarrow.parquet
import pytest

from llmkit.config.prepare import Read
from llmkit.core.errors import DataError
from llmkit.text.records.fields import get_value
from llmkit.text.records.rows import RowStream
from llmkit.text.records.table_files import read_entry
from llmkit.text.sources import Source, find_entries


def read(path: Path, **options: object) -> tuple[list[dict[str, object]], RowStream]:
    [entry] = find_entries(str(path), Source(str(path)))
    with RowStream(Source(str(path)), Read(**options)) as rows:  # type: ignore[arg-type]
        rows.start(read_entry(rows, entry))
        return [row.cells for row in rows], rows


def write_book(path: Path, *sheets: list[list[object]]) -> Path:
    book = openpyxl.Workbook()
    book.remove(book.active)  # type: ignore[arg-type]
    for rows in sheets:
        sheet = book.create_sheet()
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def test_cells_of_a_sheet_are_texts(tmp_path: Path) -> None:
    rows = [["text", "n", "when"], ["一盏灯, a lamp", 2.0, datetime(2024, 1, 2)], [], ["NA", 0.5, None], [True, 7, "x"]]
    path = write_book(tmp_path / "a.xlsx", rows)
    cells, stream = read(path)
    assert cells == [
        {"text": "一盏灯, a lamp", "n": "2", "when": "2024-01-02T00:00:00"},
        {"text": "NA", "n": "0.5", "when": ""},
        {"text": "true", "n": "7", "when": "x"},
    ]
    assert (stream.unit, stream.has_header, stream.source.n_bytes) == ("row", True, path.stat().st_size)
    assert not stream.source.notes


def test_a_sheet_without_a_header_and_other_sheets_are_said(tmp_path: Path) -> None:
    cells, stream = read(write_book(tmp_path / "a.xlsx", [], [["Tale 1, a ferry."], ["Tale 2, a ferry."]], [["left"]]))
    assert [row["1"] for row in cells] == ["Tale 1, a ferry.", "Tale 2, a ferry."]
    assert any("left out: 'Sheet2'" in example for example in stream.source.notes.values())
    assert any("no header" in what for what in stream.source.notes)


def test_an_empty_book_has_no_rows_and_a_damaged_one_is_an_error(tmp_path: Path) -> None:
    assert read(write_book(tmp_path / "a.xlsx", []))[0] == []
    (tmp_path / "b.xlsx").write_bytes(b"PK\3\4 and nothing of the kind")
    with zipfile.ZipFile(tmp_path / "c.xlsx", "w") as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")
    for name in ("b.xlsx", "c.xlsx"):
        with pytest.raises(DataError, match=r"not a valid \.xlsx file"):
            read(tmp_path / name)


def test_rows_of_parquet_after_the_sample_have_the_selected_columns_only(tmp_path: Path) -> None:
    n = 5000
    table = pyarrow.table(
        {"text": [f"t{i}" for i in range(n)], "more": ["m"] * n, "meta": [{"x": i} for i in range(n)]}
    )
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    [entry] = find_entries(str(tmp_path / "a.parquet"), Source("a.parquet"))
    with RowStream(Source("a.parquet"), Read()) as rows:
        rows.start(read_entry(rows, entry))
        rows.selected = ["text", "meta"]
        found = list(rows)
    assert [row.line for row in found] == list(range(1, n + 1))
    assert [row.cells["text"] for row in found] == [f"t{i}" for i in range(n)]
    assert [get_value(row.cells, "meta.x") for row in found] == list(range(n))
    assert "more" in found[0].cells
    assert "more" not in found[-1].cells


def test_formulas_without_a_saved_value_are_counted_and_said(tmp_path: Path) -> None:
    path = write_book(tmp_path / "a.xlsx", [["text", "n"], ["=B2", 1], ["a b", "=1+1"], ["c d", None]])
    cells, stream = read(path)
    assert [row["text"] for row in cells] == ["", "a b", "c d"]
    [(what, example)] = stream.source.notes.items()
    assert "formulas without a saved value" in what
    assert example == "2 in sheet 'Sheet', first A2"


def test_formulas_with_a_saved_value_are_read_and_not_spoken_of(tmp_path: Path) -> None:
    path = write_book(tmp_path / "a.xlsx", [["text", "n"], ["a b", "=1+1"]])
    with zipfile.ZipFile(path) as book:
        members = {name: book.read(name) for name in book.namelist()}
    sheet = "xl/worksheets/sheet1.xml"
    members[sheet] = members[sheet].replace(b"<v></v>", b"<v>2</v>").replace(b"<v />", b"<v>2</v>")
    with zipfile.ZipFile(path, "w") as book:
        for name, data in members.items():
            book.writestr(name, data)
    cells, stream = read(path)
    assert (cells, stream.source.notes) == ([{"text": "a b", "n": "2"}], {})
