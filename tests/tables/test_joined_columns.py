"""Columns that the user names with commas between them are read as one."""

from pathlib import Path

import pytest

from llmkit.config.prepare import Read
from llmkit.core.errors import DataError
from llmkit.tables.joined_columns import join_texts, list_labels
from llmkit.tables.rows import open_rows


def rows_of(path: Path, name: str, join: object, **read: object) -> list[object]:
    with open_rows(str(path), Read(**read), wanted=[name]) as rows:
        join(rows, name, required=True)  # type: ignore[operator]
        return [row.cells[name] for row in rows]


def test_texts_of_several_columns_are_joined_by_a_line_end_without_the_empty_ones(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("title,n,body\nNews,1,It rains\n,2,All day\nEnd,3,\n", encoding="utf-8")
    assert rows_of(path, "title,body", join_texts) == ["News\nIt rains", "All day", "End"]
    assert rows_of(path, "n, title", join_texts) == ["1\nNews", "2", "3\nEnd"]


def test_column_whose_own_name_has_a_comma_is_not_split(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('Text; frei,"a,b",a,b\nx,whole,1,2\n', encoding="utf-8")
    assert rows_of(path, "a,b", join_texts) == ["whole"]


def test_missing_part_is_named_if_the_user_asked_for_it_and_else_nothing_is_added(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("title,body,label\nNews,It rains,a\n", encoding="utf-8")
    with pytest.raises(DataError, match="no column 'titel'") as caught:
        rows_of(path, "titel,body", join_texts)
    assert "did you mean 'title'" in str(caught.value.problems[0].hint)
    with open_rows(str(path), Read(), wanted=["title,text"]) as rows:
        join_texts(rows, "title,text", required=False)
        assert rows.columns == ["title", "body", "label"]


@pytest.mark.parametrize(
    ("on", "off"),
    [
        ("1", "0"),
        ("true", "False"),
        ("yes", ""),
        ("1.0", "0.0"),
        ("TRUE", "FALSE"),
        ("ja", "Nein"),
        ("oui", "non"),
        ("是", "否"),
        ("x", ""),
        ("Да", "нет"),
        ("sí", "no"),
        ("はい", "いいえ"),
        ("✓", "✗"),
    ],
)
def test_columns_of_0_and_1_become_a_list_of_labels(tmp_path: Path, on: str, off: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"text,toxic,insult\na b,{on},{off}\nc d,{on},{on}\ne f,{off},{off}\n", encoding="utf-8")
    assert rows_of(path, "toxic,insult", list_labels) == [["toxic"], ["toxic", "insult"], []]


def test_label_column_with_another_number_is_refused_with_its_line_or_skipped(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,toxic,insult\na b,1,0\nc d,3,1\n" + "e f,0,1\n" * 1200 + "g h,0,2\n", encoding="utf-8")
    with pytest.raises(DataError, match="label column 'toxic' holds '3', not 0 or 1") as caught:
        rows_of(path, "toxic,insult", list_labels)
    assert caught.value.problems[0].where == f"{path}:3"
    assert len(rows_of(path, "toxic,insult", list_labels, skip_bad=True)) == 1201
