"""Splits of tagged files: held-out rows are fixed by their texts, and what is repaired or left out is counted."""

from pathlib import Path

import numpy as np
import pytest
from tiny import make_tagged, write_conll

from llmkit.config.ner import Ner
from llmkit.config.prepare import Read
from llmkit.core.errors import DataError
from llmkit.tables.train_sample import TrainSample
from llmkit.tasks.ner.data import TaggedData, load_tagged
from llmkit.tokens.loading import load_tokenizer


def load(
    model: str, train: str, sample: TrainSample | None = None, test: str | None = None, **section: object
) -> TaggedData:
    files = {"train": train} | ({} if test is None else {"test": test})
    return load_tagged(Ner.model_validate(section), Read(), files, load_tokenizer(model), 64, sample=sample)


def test_sample_leaves_tags_and_held_out_rows_as_they_are(bert: str, words: str) -> None:
    whole, part = load(bert, words), load(bert, words, TrainSample(10, 0))
    assert whole.tags == part.tags and len(part.splits["train"]) == 10
    names = [each.splits["validation"].hash_rows(each.tags) for each in (whole, part)]
    assert names[0] == names[1]
    assert whole.fingerprint() != part.fingerprint()


def test_rows_do_not_depend_on_their_order(bert: str, tmp_path: Path) -> None:
    rows = make_tagged(40)
    files = [write_conll(tmp_path / f"{n}.conll", each) for n, each in enumerate((rows, rows[::-1]))]
    found = [load(bert, file).describe()["splits"] for file in files]
    assert found[0]["validation"]["rows_hash"] == found[1]["validation"]["rows_hash"]


def test_broken_sequences_are_counted_and_read_as_conlleval_does(bert: str, tmp_path: Path) -> None:
    rows = [*make_tagged(20), (["you", "win", "cash"], ["O", "I-PRIZE", "I-PRIZE"])]
    data = load(bert, write_conll(tmp_path / "a.conll", rows), validation=0)
    assert any("1 place breaks the rules of BIO, the first in the sentence of line" in note for note in data.notes)
    assert [data.tags[label] for label in data.splits["train"].labels[-3:]] == ["O", "B-PRIZE", "I-PRIZE"]


def test_test_file_has_the_tags_of_the_train_file_and_shared_rows_are_said(bert: str, tmp_path: Path) -> None:
    train = write_conll(tmp_path / "a.conll", make_tagged(20))
    data = load(bert, train, test=write_conll(tmp_path / "b.conll", make_tagged(3)), validation=0)
    assert "3 of 3 rows of" in " ".join(data.notes) and len(data.splits["test"]) == 3
    assert (data.splits["test"].baseline == data.splits["test"].labels).mean() > 0.8
    with pytest.raises(DataError, match="types that the train file does not have: 'X'"):
        load(bert, train, test=write_conll(tmp_path / "c.conll", [(["a"], ["B-X"])]))


def test_tag_of_no_scheme_is_refused_with_its_line(bert: str, tmp_path: Path) -> None:
    path = write_conll(tmp_path / "a.conll", [*make_tagged(2), (["a", "b"], ["O", "B_X"])])
    with pytest.raises(DataError, match="'B_X' is neither O nor") as error:
        load(bert, path)
    assert "line" in error.value.problems[0].where


def test_described_splits_count_rows_words_and_entities(bert: str, tmp_path: Path) -> None:
    data = load(
        bert, write_conll(tmp_path / "a.conll", [(["you", "win", "cash"], ["O", "B-P", "I-P"])] * 3), validation=0
    )
    train = data.describe()["splits"]["train"]
    assert (train["rows"], train["words"], train["labels"]) == (3, 9, {"P": 3})
    assert np.array_equal(data.splits["train"].labels, [0, 1, 2] * 3)
