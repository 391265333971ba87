"""Labelled files become splits: no row twice, none lost unsaid, one label map for all."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import make_messages, save_bert, write_table
from transformers import PreTrainedTokenizerBase

from llmkit.config.cls import Cls
from llmkit.config.prepare import Read
from llmkit.core.errors import DataError
from llmkit.tasks.cls.data import LabelledData, load_labelled
from llmkit.tokens.loading import load_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    return load_tokenizer(save_bert(tmp_path_factory.mktemp("bert") / "bert"))


def load(
    tokenizer: PreTrainedTokenizerBase, files: dict[str, str], known: Any = None, fold: Any = None, **section: Any
) -> LabelledData:
    return load_labelled(Cls(**section), Read(), files, tokenizer, 32, known=known, fold=fold)


def lines_of(data: LabelledData) -> dict[str, set[int]]:
    return {name: set(split.lines.tolist()) for name, split in data.splits.items()}


def test_every_row_is_in_one_split_and_copies_of_a_text_are_in_the_same(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    messages = make_messages(60)
    path = write_table(tmp_path / "a.csv", [*messages, *messages[:20]])
    data = load(tokenizer, {"train": path}, validation=0.25, test=0.25)
    sides = lines_of(data)
    assert sorted(line for lines in sides.values() for line in lines) == list(range(2, 82))
    for line in range(2, 22):
        assert [name for name in sides if line in sides[name]] == [name for name in sides if line + 60 in sides[name]]
    other = load(tokenizer, {"train": path}, validation=0.25, test=0.25, split_seed=1)
    assert lines_of(other) != sides
    assert load(tokenizer, {"train": path}, validation=0.25, test=0.25).fingerprint() == data.fingerprint()
    assert other.fingerprint() != data.fingerprint()


def test_labels_are_aligned_with_their_rows(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    messages = make_messages(40)
    data = load(tokenizer, {"train": write_table(tmp_path / "a.csv", messages)}, validation=0.25)
    assert data.label2id == {"ham": 0, "spam": 1}
    for split in data.splits.values():
        for row, line in enumerate(split.lines):
            text, label = messages[line - 2]
            assert split.labels[row] == data.label2id[label]
            ids = split.inputs.read(row)[0].ids
            assert ids.tolist() == tokenizer(text).input_ids
    described = data.describe()
    assert described["splits"]["train"]["rows"] + described["splits"]["validation"]["rows"] == 40
    assert described["columns"] == {"text": "text", "pair": None, "label": "label"}


def test_validation_file_replaces_the_held_out_rows_and_shared_texts_are_reported(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    train = write_table(tmp_path / "a.csv", make_messages(40))
    test = write_table(tmp_path / "b.csv", [*make_messages(40)[:3], *make_messages(10, seed=5)])
    data = load(tokenizer, {"train": train, "test": test}, validation=0, test=0.5)
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 40, "test": 13}
    assert any("3 of 13 rows of" in note and "also in the train rows" in note for note in data.notes)


def test_rows_without_a_text_are_left_out_of_training_and_scored_like_others(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    rows = [*make_messages(20), ("", "ham"), ("  ", "spam")]
    path = write_table(tmp_path / "a.csv", rows)
    data = load(tokenizer, {"train": path, "test": path}, validation=0)
    assert (len(data.splits["train"]), len(data.splits["test"])) == (20, 22)
    assert any("2 rows without a text" in note for note in data.notes)


def test_folds_hold_out_each_row_once(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    path = write_table(tmp_path / "a.csv", make_messages(30))
    held_out = [lines_of(load(tokenizer, {"train": path}, fold=(n, 3)))["validation"] for n in range(3)]
    assert sorted(line for lines in held_out for line in lines) == list(range(2, 32))


def test_label_map_of_a_model_is_kept_if_the_labels_are_the_same(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    path = write_table(tmp_path / "a.csv", make_messages(20))
    swapped = {"spam": 0, "ham": 1}
    data, other = (load(tokenizer, {"train": path}, known=known) for known in (swapped, {"spam": 0, "eggs": 1}))
    assert (data.label2id, other.label2id) == (swapped, {"ham": 0, "spam": 1})
    assert (np.sort(data.splits["train"].labels) == np.sort(1 - other.splits["train"].labels)).all()


def test_rows_of_which_none_can_be_used_are_an_error(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    path = write_table(tmp_path / "a.csv", [("", "ham"), (" ", "spam"), ("", "ham")])
    with pytest.raises(DataError):
        load(tokenizer, {"train": path}, text="text", label="label")


def test_text_columns_that_are_not_read_are_named_with_the_option_that_joins_them(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    path = tmp_path / "a.csv"
    rows = [f"call {n} now,the text of row {n} is long enough,{n},{'ab'[n % 2]}" for n in range(12)]
    path.write_text("\n".join(["heading,text,number,label", *rows, ""]), encoding="utf-8")
    notes = load(tokenizer, {"train": str(path)}).notes
    assert "unused columns with text: 'heading'; to join them: --text text,heading" in notes
    assert not any("not read" in note for note in load(tokenizer, {"train": str(path)}, text="heading,text").notes)


def test_labels_are_renamed_and_a_name_that_no_row_has_is_reported(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    path = write_table(tmp_path / "a.csv", make_messages(20))
    data = load(tokenizer, {"train": path}, label_map="ham=good,spam=bad,eggs=ugly")
    assert data.label2id == {"bad": 0, "good": 1}
    assert "cls.label_map: no row has the label 'eggs'" in data.notes
    (tmp_path / "map.json").write_text('{"ham": "good", "spam": "bad"}', encoding="utf-8")
    assert load(tokenizer, {"train": path}, label_map=str(tmp_path / "map.json")).label2id == data.label2id


def test_texts_of_which_the_baseline_reads_the_beginning_are_counted(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    rows = [*make_messages(20), ("win cash " * 600, "spam")]
    notes = load(tokenizer, {"train": write_table(tmp_path / "a.csv", rows)}, validation=0.25).notes
    assert any("; 1 row cut to the first 5,000 characters" in note for note in notes)
    notes = load(tokenizer, {"train": write_table(tmp_path / "b.csv", make_messages(20))}, validation=0.25).notes
    assert any(note.startswith("n-gram baseline") and "characters of" not in note for note in notes)


def test_guesses_about_labels_and_splits_are_reported(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    rows = [(text, label, "train" if n % 3 else "test") for n, (text, label) in enumerate(make_messages(20))]
    path = write_table(tmp_path / "a.csv", [*rows, (rows[0][0], "other", "train")], ("text", "label", "split"))
    notes = load(tokenizer, {"train": path}).notes
    assert any(note.startswith("column 'split' assigns rows to splits (test, train)") for note in notes)
    assert any("1 label with a single row: 'other'" in note for note in notes)


SPOILED = {
    "sep.csv": "sep=;\r\ntext;label\r\ngood king;pos\r\nbad knight;neg\r\n",
    "semi.csv": "Text, frei;Label\nja, nein;pos\nnein, ja;neg\n",
    "num.jsonl": '{"text":"a b","label":0}\n{"text":"c d","label":0.0}\n{"text":"e f","label":1}\n',
    "multi.csv": 'text,labels\na,"joy, love"\nb,"joy,love"\nc,joy\nd,sad\n',
    "onehot.csv": "text,toxic,insult,threat\na b,1,0,0\nc d,0,1,1\ne f,0,0,0\n",
    "pair.csv": "Quality,#1 String,#2 String\n1,a b,a c\n0,d e,f g\n",
    "qa.jsonl": '{"question":"who?","context":"the cook","answers":{"text":["the cook"],"answer_start":[0]}}\n',
}
"""Small tables that were once read wrongly without a word."""


@pytest.mark.parametrize(
    ("name", "section", "labels", "expected"),
    [
        ("sep.csv", {}, ["neg", "pos"], "text 'text', label 'label', one label per row"),
        ("semi.csv", {}, ["neg", "pos"], "text 'Text, frei', label 'Label', one label per row"),
        (
            "num.jsonl",
            {},
            ["0", "0.0", "1"],
            "'0' (1) and '0.0' (1); --label-map '0.0=0' merges them",
        ),
        ("multi.csv", {"separator": ","}, ["joy", "love", "sad"], "several labels per row"),
        ("onehot.csv", {"label": "toxic,insult,threat"}, ["insult", "threat", "toxic"], "several labels per row"),
        (
            "pair.csv",
            {"text": "#1 String", "label": "Quality"},
            ["0", "1"],
            "unused columns with text: '#2 String'; to join them: --text '#1 ",
        ),
    ],
)
def test_small_tables_are_read_as_they_were_meant_or_reported(
    tmp_path: Path,
    tokenizer: PreTrainedTokenizerBase,
    name: str,
    section: dict[str, Any],
    labels: list[str],
    expected: str,
) -> None:
    (tmp_path / name).write_bytes(SPOILED[name].encode())
    data = load(tokenizer, {"train": str(tmp_path / name)}, **section)
    assert list(data.label2id) == labels
    assert any(expected in note for note in data.notes)


@pytest.mark.parametrize(
    ("name", "problem", "hint"),
    [
        ("multi.csv", "4 different labels in 4 rows", "2 labels may contain several labels separated by ','"),
        ("onehot.csv", "which one holds the label", "--label toxic,insult,threat"),
        ("pair.csv", "which one holds the text", "pairs: --text '#1 String' --pair '#2 String'"),
        ("qa.jsonl", "nothing to learn", "is this the label column?"),
    ],
)
def test_small_tables_that_leave_a_choice_are_refused_with_the_option(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, name: str, problem: str, hint: str
) -> None:
    (tmp_path / name).write_bytes(SPOILED[name].encode())
    with pytest.raises(DataError, match=problem) as caught:
        load(tokenizer, {"train": str(tmp_path / name)})
    assert hint in caught.value.problems[0].hint
