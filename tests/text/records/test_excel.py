"""A sheet of an .xlsx gives the same rows as any other table; guesses and omissions are noted."""

import sys
import zipfile
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from text.records.test_table_files import read

from llmkit.core.errors import DataError, EnvironmentFault


def write_book(path: Path, *sheets: list[list[Any]], titles: tuple[str, ...] = (), hidden: str = "") -> Path:
    book = openpyxl.Workbook()
    book.remove(book.active)  # type: ignore[arg-type]
    for number, rows in enumerate(sheets):
        sheet = book.create_sheet(titles[number] if titles else None)
        sheet.sheet_state = "hidden" if hidden and sheet.title == hidden else "visible"
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


ROWS: list[list[Any]] = [["text", "label"], ["a lamp", "pos"], ["a ferry", "neg"], ["a road", "pos"]]
CELLS = [dict(zip(ROWS[0], row, strict=True)) for row in ROWS[1:]]


def test_cells_of_a_sheet_are_texts(tmp_path: Path) -> None:
    rows = [["text", "n", "when"], ["一盏灯, a lamp", 2.0, datetime(2024, 1, 2)], [], ["NA", 0.5, None], [True, 7, "x"]]
    path = write_book(tmp_path / "a.xlsx", rows)
    cells, stream = read(path)
    assert cells == [
        {"text": "一盏灯, a lamp", "n": "2", "when": "2024-01-02"},
        {"text": "NA", "n": "0.5", "when": ""},
        {"text": "true", "n": "7", "when": "x"},
    ]
    assert (stream.unit, stream.has_header, stream.source.n_bytes) == ("row", True, path.stat().st_size)
    assert not stream.source.notes


def test_a_sheet_without_a_header_and_other_sheets_are_reported(tmp_path: Path) -> None:
    cells, stream = read(write_book(tmp_path / "a.xlsx", [], [["Tale 1, a ferry."], ["Tale 2, a ferry."]], [["left"]]))
    assert [row["1"] for row in cells] == ["Tale 1, a ferry.", "Tale 2, a ferry."]
    assert any("other sheets: 'Sheet2'" in example for example in stream.source.notes.values())
    assert any("no header" in what for what in stream.source.notes)


def test_an_empty_book_has_no_rows_and_a_damaged_one_is_an_error(tmp_path: Path) -> None:
    assert read(write_book(tmp_path / "a.xlsx", []))[0] == []
    (tmp_path / "b.xlsx").write_bytes(b"PK\3\4 and nothing of the kind")
    with zipfile.ZipFile(tmp_path / "c.xlsx", "w") as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")
    for name in ("b.xlsx", "c.xlsx"):
        with pytest.raises(DataError, match=r"not a valid \.xlsx file"):
            read(tmp_path / name)


def test_formulas_without_a_saved_value_are_counted_and_reported(tmp_path: Path) -> None:
    path = write_book(tmp_path / "a.xlsx", [["text", "n"], ["=B2", 1], ["a b", "=1+1"], ["c d", None]])
    cells, stream = read(path)
    assert [row["text"] for row in cells] == ["", "a b", "c d"]
    [(what, example)] = stream.source.notes.items()
    assert "formulas without a saved value" in what
    assert example == "2 in sheet 'Sheet', first A2"


def test_formulas_with_a_saved_value_are_read_without_a_note(tmp_path: Path) -> None:
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


def test_a_named_sheet_is_read_and_a_wrong_name_lists_the_sheets(tmp_path: Path) -> None:
    path = write_book(tmp_path / "a.xlsx", [["text"], ["other"]], ROWS, titles=("Train", "Test 2"))
    cells, stream = read(path, sheet=" test 2")
    assert (cells, stream.source.notes) == (CELLS, {})
    with pytest.raises(DataError, match="no sheet 'Tset 2'; found: 'Train', 'Test 2'") as caught:
        read(path, sheet="Tset 2")
    assert caught.value.problems[0].hint == "did you mean 'Test 2'?"


def test_a_hidden_sheet_is_read_only_if_it_is_named_or_the_only_one(tmp_path: Path) -> None:
    settings = [["key", "value"], ["a", "1"]]
    path = write_book(tmp_path / "a.xlsx", settings, ROWS, titles=("Settings", "Data"), hidden="Settings")
    cells, stream = read(path)
    assert cells == CELLS
    [(what, example)] = stream.source.notes.items()
    assert "only the sheet 'Data' is read; to read another, set --sheet" in what
    assert example == "other sheets: 'Settings' (hidden)"
    assert read(path, sheet="Settings")[0] == [{"key": "a", "value": "1"}]
    book = openpyxl.load_workbook(path)
    book["Data"].delete_rows(1, 9)
    book.save(path)
    assert read(path)[0] == [{"key": "a", "value": "1"}]


@pytest.mark.parametrize("above", [[["Survey 2024"], []], [["Survey 2024"], ["by me"]], [[], []], [["调查"]]])
def test_titles_above_the_header_are_left_out_and_reported(tmp_path: Path, above: list[list[str]]) -> None:
    cells, stream = read(write_book(tmp_path / "a.xlsx", [*above, *ROWS]))
    assert cells == CELLS
    notes = [f"{what}; {example}" for what, example in stream.source.notes.items()]
    n_titles = sum(map(bool, above))
    assert len(notes) == bool(n_titles)
    assert not n_titles or f"number of rows: {n_titles}, first {above[0][0]!r}" in notes[0]
    assert not n_titles or "header=false" in notes[0]


def test_blank_columns_are_left_out_and_columns_without_a_name_are_numbered(tmp_path: Path) -> None:
    rows = [[None, "text", None, "label", None], [None, "a lamp", "x", "pos", None], [None, "a road", None, "neg", "?"]]
    cells, _ = read(write_book(tmp_path / "a.xlsx", rows))
    assert cells == [
        {"text": "a lamp", "2": "x", "label": "pos", "4": ""}, {"text": "a road", "2": "", "label": "neg", "4": "?"}
    ]  # fmt: skip


def test_a_cell_in_a_column_that_was_blank_so_far_is_an_error_with_its_row(tmp_path: Path) -> None:
    rows = [*ROWS, *[["a lamp", "pos"]] * 1000, ["a road", "neg", "late"]]
    with pytest.raises(DataError, match="a cell in column C, which is blank in the first 1,000 rows") as caught:
        read(write_book(tmp_path / "a.xlsx", rows))
    assert caught.value.problems[0].where.endswith("a.xlsx, row 1005")


def test_merged_cells_have_their_value_in_each_of_their_rows(tmp_path: Path) -> None:
    path = write_book(tmp_path / "a.xlsx", [["text", "label"], *[[f"text {n}", "pos"] for n in range(5)], ["end", "x"]])
    book = openpyxl.load_workbook(path)
    book.worksheets[0].merge_cells("B2:B6")
    book.save(path)
    cells, stream = read(path)
    assert [row["label"] for row in cells] == ["pos"] * 5 + ["x"]
    assert stream.source.notes == {
        "merged cells have their value in each of their rows": "1 in sheet 'Sheet', first B2:B6"
    }


def test_error_values_are_empty_cells_and_a_row_of_them_is_a_row(tmp_path: Path) -> None:
    path = write_book(tmp_path / "a.xlsx", [["text", "label"], ["a lamp", "#N/A"], ["#REF!", "#DIV/0!"], ["#1", "neg"]])
    cells, stream = read(path)
    assert [(row["text"], row["label"]) for row in cells] == [("a lamp", ""), ("", ""), ("#1", "neg")]
    assert stream.source.notes == {"error values are empty cells": "3 in sheet 'Sheet', first #N/A in B2"}


def test_dates_and_numbers_are_text_and_rounded_ids_are_reported(tmp_path: Path) -> None:
    values = [date(2024, 5, 17), datetime(2024, 5, 17, 9, 30), time(9, 30), 1.5, "0012", 12345678901234567890, True]
    names = ["day", "moment", "time", "n", "code", "id", "flag"]
    cells, stream = read(write_book(tmp_path / "a.xlsx", [names, values]))
    texts = ["2024-05-17", "2024-05-17 09:30:00", "09:30:00", "1.5", "0012", "12345678901234570000", "true"]
    assert list(cells[0].values()) == texts
    [(what, example)] = stream.source.notes.items()
    assert "more than 15 digits" in what
    assert example == "1 in sheet 'Sheet', first F2"


def test_a_workbook_without_openpyxl_names_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_book(tmp_path / "a.xlsx", ROWS)
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(EnvironmentFault, match="needs openpyxl") as caught:
        read(path)
    assert 'pip install "llmkit[excel]"' in caught.value.problems[0].hint
