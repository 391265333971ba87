"""Labels: words, complete, mapped once; FAULTS 8 and 10 to 14."""

import random
from pathlib import Path

import pytest

from llmkit.config.prepare import Read
from llmkit.errors import DataError
from llmkit.text.labelled import LabelledRow, number_labels, read_labelled, to_ids
from llmkit.text.sources import Source


def read(tmp_path: Path, text: str, label: str = "label") -> list[LabelledRow]:
    path = tmp_path / "rows.csv"
    path.write_text(text, encoding="utf-8")
    return read_labelled(str(path), Read(), label=label, source=Source(str(path)))


def test_missing_label_column_lists_the_columns_and_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no column 'label'; found: 'text', 'labell'") as caught:
        read(tmp_path, "text,labell\na,b\n")
    assert "did you mean 'labell'?" in str(caught.value)


def test_na_and_null_are_texts_and_labels_like_others(tmp_path: Path) -> None:
    rows = read(tmp_path, "text,label\nNA,null\nnull,NA\nNone,1\n")
    assert [(row.text, row.label) for row in rows] == [("NA", "null"), ("null", "NA"), ("None", "1")]


def test_missing_labels_are_an_error_with_their_lines_and_never_a_float(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="2 of 5 rows have no 'label'") as caught:
        read(tmp_path, 'text,label\na,0\nb,1\n"two\nlines",\nd,1\ne, \n')
    assert "lines 4, 7" in str(caught.value)
    assert caught.value.exit_code == 3


def test_integer_labels_stay_the_words_they_are(tmp_path: Path) -> None:
    rows = read(tmp_path, "text,label\na,10\nb,9\nc,2\n")
    assert number_labels(rows, "rows.csv") == {"2": 0, "9": 1, "10": 2}


def test_one_label_alone_is_refused_before_any_model(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="all 2 rows have the label 'spam'"):
        number_labels(read(tmp_path, "text,label\na,spam\nb,spam\n"), "rows.csv")


def test_label_map_does_not_depend_on_the_order_of_rows(tmp_path: Path) -> None:
    rows = [LabelledRow("text", label, line) for line, label in enumerate(["ham", "spam", "eggs", "正面"] * 5)]
    shuffled = random.Random(1).sample(rows, len(rows))
    assert number_labels(rows, "") == number_labels(shuffled, "")
    assert list(number_labels(shuffled, "")) == ["eggs", "ham", "spam", "正面"]


def test_label_only_in_evaluation_is_named_with_its_lines(tmp_path: Path) -> None:
    label2id = {"ham": 0, "spam": 1}
    rows = read(tmp_path, "text,label\na,ham\nb,eggs\nc,eggs\nd,spam\n")
    with pytest.raises(DataError, match="never saw: 'eggs'") as caught:
        to_ids(rows, label2id, "test.csv", unseen="refuse")
    assert "test.csv, lines 3, 4" in str(caught.value)
    assert [number for _, number in to_ids(rows, label2id, "test.csv", unseen="ignore")] == [0, 1]
