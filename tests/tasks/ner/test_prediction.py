"""Entities have the characters of the original text, and are those of transformers' pipeline."""

from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tasks.ner.conftest import find_entities
from tiny import make_tagged, write_conll
from transformers import pipeline

from llmkit.core.errors import DataError
from llmkit.datasets.labelled import Inputs
from llmkit.datasets.tagged import NO_TOKEN, TaggedInputs
from llmkit.tasks.ner.prediction import decode

NAMES = ["O", "B-A", "I-A", "B-B", "I-B"]


@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")
@pytest.mark.parametrize("name", ["run", "gpt2_run"])
def test_entities_are_those_of_the_pipeline_of_transformers(request: pytest.FixtureRequest, name: str) -> None:
    run: Path = request.getfixturevalue(name)
    texts = [" ".join(words) for words, _ in make_tagged(30, 5)]
    find: Any = pipeline("token-classification", str(run / "model"), aggregation_strategy="first")
    for text, row in zip(texts, find_entities(run, texts), strict=True):
        expected = find(text)
        # The offsets of a byte-level tokenizer may include the space before a word.
        assert [(e["entity_group"], text[e["start"] : e["end"]].strip(), e["end"]) for e in expected] == [
            (e["label"], e["text"], e["end"]) for e in row["entities"]
        ]
        assert [float(e["score"]) for e in expected] == pytest.approx([e["score"] for e in row["entities"]], abs=1e-4)
        assert all(text[e["start"] : e["end"]] == e["text"] for e in row["entities"])


def test_rows_come_back_in_order_with_their_columns_also_without_words(run: Path) -> None:
    rows = find_entities(run, [{"id": 1, "text": ""}, {"id": 2, "text": "you  win\u00a0cash !"}])
    assert [row["id"] for row in rows] == [1, 2] and rows[0]["entities"] == []
    assert [(e["text"], e["start"], e["end"]) for e in rows[1]["entities"]] == [("win\u00a0cash", 5, 13)]


def test_conll_file_gives_its_sentences_with_entities_of_the_joined_text(run: Path, tmp_path: Path) -> None:
    words, tags = make_tagged(1, 3)[0]
    (row,) = find_entities(run, write_conll(tmp_path / "a.conll", [(words, tags)]))
    assert row["tokens"] == words and row["tags"] == tags and row["text"] == " ".join(words)
    assert all(row["text"][e["start"] : e["end"]] == e["text"] for e in row["entities"])


def test_long_text_has_the_entities_of_its_parts(run: Path) -> None:
    words, tags = [list(chain.from_iterable(parts)) for parts in zip(*make_tagged(30, 7), strict=True)]
    (row,) = find_entities(run, [" ".join(words)])
    assert abs(len(row["entities"]) - sum(tag.startswith("B-") for tag in tags)) <= 3


def test_column_of_an_earlier_prediction_is_kept(run: Path) -> None:
    (row,) = find_entities(run, [{"text": "you win", "entities": "mine"}])
    assert row["entities"] == "mine" and row["predicted_entities"]
    with pytest.raises(DataError, match="already has a column"):
        find_entities(run, [{"text": "you win", "entities": "mine", "predicted_entities": "x"}])


def make_words(places: list[int]) -> TaggedInputs:
    nothing = np.zeros(0, np.int64)
    inputs = Inputs(nothing, nothing, nothing.astype(np.int32), nothing, None, np.zeros(0, bool))
    return TaggedInputs(inputs, np.array(places), np.array([len(places)]))


def test_word_without_a_token_continues_the_entity_around_it_only() -> None:
    scores = np.eye(5, dtype=np.float32)[[1, 0, 2, 0, 0]] * 9
    tagged = make_words([0, NO_TOKEN, 1, NO_TOKEN, 2])
    assert decode(scores, tagged, NAMES, "greedy").tags.tolist() == [1, 2, 2, 0, 0]


def test_constrained_decoding_has_no_inside_after_outside() -> None:
    scores = np.array([[3, 0, 0, 0, 0], [0, 1.5, 2, 0, 0]], np.float32)
    tagged = make_words([0, 1])
    assert decode(scores, tagged, NAMES, "greedy").tags.tolist() == [0, 2]
    assert decode(scores, tagged, NAMES, "constrained").tags.tolist() == [0, 1]
