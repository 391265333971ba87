"""How rows become inputs: decided once, saved with the model, used for every other file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tiny import write_table
from transformers import BertConfig, BertTokenizer, GPT2Config, PreTrainedConfig

from llmkit.config.cls import Cls
from llmkit.config.prepare import Read
from llmkit.core.errors import DataError
from llmkit.models.inputs import reads_token_types
from llmkit.tables.labelled import LabelledRow
from llmkit.tables.rows import describe_left_out, open_rows
from llmkit.tasks.cls import row_format
from llmkit.tasks.cls.label_types import get_label_type
from llmkit.tasks.cls.row_format import (
    RowFormat,
    open_labelled,
    read_chunks,
    read_format,
    save_format,
)

PLAIN = RowFormat("text", None, "label", get_label_type("single_label"), None, 64, "truncate", 8, 4)


def find(path: str, row_format: RowFormat, **given: str) -> tuple[str, str | None, str | None]:
    with open_rows(path, Read(), header="auto", wanted=()) as rows:
        columns = row_format.find_columns(rows, need_label=True, **given)
    return columns.text, columns.pair, columns.label


def test_columns_of_another_file_are_the_given_ones_else_those_of_training_else_guessed(tmp_path: Path) -> None:
    ours = write_table(tmp_path / "a.csv", [["some words", "ham", "x"]] * 3, ("text", "label", "other"))
    assert find(ours, PLAIN) == ("text", None, "label")
    assert find(ours, PLAIN, label="other") == ("text", None, "other")
    foreign = write_table(tmp_path / "b.csv", [["some words here", "ham"]] * 3, ("sentence", "class"))
    assert find(foreign, PLAIN) == ("sentence", None, "class")


def test_model_of_pairs_wants_pairs_and_model_of_texts_wants_none(tmp_path: Path) -> None:
    names = ("premise", "hypothesis", "label")
    path = write_table(tmp_path / "a.csv", [["some words", "other words", "yes"]] * 3, names)
    pairs = RowFormat("premise", "hypothesis", "label", get_label_type("single_label"), None, 64, "truncate", 8, 4)
    assert find(path, pairs) == names
    with pytest.raises(DataError, match="trained on single texts") as caught:
        find(path, PLAIN, text="premise", pair="hypothesis")
    assert caught.value.problems[0].hint == "leave --pair out"
    single = write_table(tmp_path / "b.csv", [["some words", "ham"]] * 3)
    with pytest.raises(DataError, match=r"text|pair"):
        find(single, pairs)


@pytest.mark.parametrize("label_type", ["single_label", "multi_label", "regression"])
def test_format_survives_the_configuration_of_a_model_with_what_goes_with_it(tmp_path: Path, label_type: str) -> None:
    kept = RowFormat("a", "b", None, get_label_type(label_type), "|", 99, "windows", 8, 4)
    config = PreTrainedConfig()
    save_format(config, kept, thresholds=[0.5, 0.25])
    config.save_pretrained(tmp_path)
    assert read_format(PreTrainedConfig.from_pretrained(tmp_path), 7) == (kept, {"thresholds": [0.5, 0.25]})


def test_model_of_somebody_else_reads_one_text_and_an_earlier_version_is_understood() -> None:
    found, more = read_format(BertConfig(num_labels=3), 32)
    assert (found.text, found.pair, found.block_size, found.windows, more) == ("", None, 32, None, {})
    config = BertConfig(num_labels=3)
    config.llmkit = {"label_type": "multiple", "text": "a", "block_size": 16}
    assert read_format(config, 32)[0].label_type is get_label_type("multi_label")


def test_chunks_hold_bounded_rows_and_characters_and_lose_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_format, "ROWS_AT_ONCE", 5)
    monkeypatch.setattr(row_format, "CHARACTERS_AT_ONCE", 100)
    rows = [LabelledRow("x" * (90 if n % 7 == 0 else 1), "y" * 9, None, n) for n in range(40)]
    chunks = list(read_chunks(iter(rows)))
    assert [row for chunk in chunks for row in chunk] == rows
    assert max(map(len, chunks)) == 5
    for chunk in chunks:
        assert sum(len(row.text) + 9 for row in chunk[:-1]) < 100
    assert list(read_chunks(iter([]))) == []


def test_what_was_cut_or_left_out_is_reported_only_where_something_was() -> None:
    assert PLAIN.describe_cut(0, 5, "a.csv") == []
    assert PLAIN.describe_cut(2, 1000, "a.csv") == [
        "2 of 1,000 rows of a.csv are too long for 64 tokens and are truncated"
    ]
    assert "cls.long_texts=windows" in PLAIN.describe_cut(2, 1000, "a.csv", suggest_windows=True)[0]
    windows = RowFormat("text", None, "label", get_label_type("single_label"), None, 64, "windows", 8, 4)
    assert "4 windows of 64 tokens" in windows.describe_cut(2, 1000, "a.csv", suggest_windows=True)[0]
    assert windows.windows is not None and (windows.windows.stride, windows.windows.max_windows) == (8, 4)
    assert describe_left_out(0, "a.csv", "without a text") == []
    assert describe_left_out(1, "a.csv", "without a text") == ["left out of a.csv: 1 row without a text"]
    assert describe_left_out(2, "a.csv", "without a text") == ["left out of a.csv: 2 rows without a text"]


def test_gpt2_gets_no_token_types_whatever_its_tokenizer() -> None:
    tokens = {token: number for number, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"])}
    assert not reads_token_types(GPT2Config(), BertTokenizer(tokens))


TEXTS = ["some words", "more words", "other words", "last words"]


def read(
    path: str, label_type: str = "single_label", label2id: Mapping[str, int] | None = None, **section: Any
) -> tuple[list[object], list[str]]:
    row_format = RowFormat("text", None, "label", get_label_type(label_type), "|", 64, "truncate", 8, 4)
    with open_labelled(path, Cls(**section), Read(), row_format, label2id or {"ham": 0, "spam": 1}) as file:
        return [row.label for row in file], file.describe_left_out()


def test_label_that_training_never_saw_is_an_error_or_left_out_and_counted(tmp_path: Path) -> None:
    path = write_table(tmp_path / "a.csv", zip(TEXTS, ["ham", "spam", "egg", "ham"], strict=True))
    with pytest.raises(DataError, match="egg"):
        read(path)
    labels, notes = read(path, unseen_labels="ignore")
    assert labels == ["ham", "spam", "ham"]
    assert notes == [f"left out of {path}: 1 row with labels that the train rows do not have"]


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
