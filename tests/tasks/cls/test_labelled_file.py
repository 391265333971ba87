"""A labelled file is read as the model's training file was."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tiny import write_table

from llmkit.config.cls import Cls
from llmkit.config.prepare import Read
from llmkit.core.errors import DataError
from llmkit.tasks.cls.labelled_file import open_labelled
from llmkit.tasks.cls.row_reading import RowFormat

TEXTS = ["some words", "more words", "other words", "last words"]


def read(
    path: str, label_type: str = "single_label", label2id: Mapping[str, int] | None = None, **section: Any
) -> tuple[list[object], list[str]]:
    row_format = RowFormat("text", None, "label", label_type, "|", 64, "truncate", 8, 4)
    with open_labelled(path, Cls(**section), Read(), row_format, label2id or {"ham": 0, "spam": 1}) as file:
        return [row.label for row in file], file.describe_left_out()


def test_label_that_training_never_saw_is_an_error_or_left_out_and_counted(tmp_path: Path) -> None:
    path = write_table(tmp_path / "a.csv", zip(TEXTS, ["ham", "spam", "egg", "ham"], strict=True))
    with pytest.raises(DataError, match="egg"):
        read(path)
    labels, notes = read(path, unseen_labels="ignore")
    assert labels == ["ham", "spam", "ham"]
    assert notes == [f"left out of {path}: 1 row with labels that training never saw"]


def test_numbers_have_no_label_that_could_be_unknown(tmp_path: Path) -> None:
    path = write_table(tmp_path / "a.csv", zip(TEXTS, ["1.5", "-2", "3e2", "0"], strict=True))
    assert read(path, "regression", {"label": 0}) == ([1.5, -2.0, 300.0, 0.0], [])


def test_separator_is_the_models_unless_the_recipe_names_another(tmp_path: Path) -> None:
    path = write_table(tmp_path / "a.csv", zip(TEXTS, ["ham|spam", "ham", "spam", ""], strict=True))
    labels, _ = read(path, "multi_label")
    assert list(map(set, labels)) == [{"ham", "spam"}, {"ham"}, {"spam"}, set()]  # type: ignore[arg-type]
    path = write_table(tmp_path / "b.csv", zip(TEXTS, ["ham;spam", "ham", "spam", ""], strict=True))
    labels, _ = read(path, "multi_label", separator=";")
    assert set(labels[0]) == {"ham", "spam"}  # type: ignore[call-overload]


def test_column_that_the_recipe_names_beats_that_of_training(tmp_path: Path) -> None:
    rows = [(text, "ham", "spam") for text in TEXTS]
    path = write_table(tmp_path / "a.csv", rows, ("text", "label", "truth"))
    assert read(path)[0] == ["ham"] * 4
    assert read(path, label="truth")[0] == ["spam"] * 4
