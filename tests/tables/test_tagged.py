"""Tables of every shape give words with tags; entities of texts are placed by characters, nested ones refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from tiny import write_table

from llmkit.config.ner import Ner
from llmkit.config.prepare import Read
from llmkit.core.errors import DataError
from llmkit.tables.tagged import SpanCounts, TaggedRow, choose_tag_columns, group_words, open_tagged, read_tagged

WORDS, TAGS = ["New", "York", "wins"], ["B-LOC", "I-LOC", "O"]


def read(
    path: Any, *, need_tags: bool = True, counts: SpanCounts | None = None, skip_bad: bool = False, **section: Any
) -> list[TaggedRow]:
    chosen = Ner(**section)
    with open_tagged(path if isinstance(path, list) else str(path), chosen, Read(skip_bad=skip_bad)) as opened:
        columns = choose_tag_columns(opened, chosen, need_tags=need_tags)
        rows = group_words(opened, columns)
        return list(read_tagged(rows, columns, "punctuation", counts or SpanCounts()))


def read_span(text: str, *spans: Any, counts: SpanCounts | None = None) -> list[str]:
    (row,) = read([{"text": text, "entities": list(spans)}], counts=counts)
    assert row.tags is not None
    return list(row.tags)


def test_lists_strings_and_one_word_per_row_give_the_same_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"tokens": WORDS, "ner_tags": TAGS}) + "\n")
    tables = [
        tmp_path / "a.jsonl",
        write_table(tmp_path / "b.csv", [["New York wins", "B-LOC I-LOC O"]], ("words", "tags")),
        write_table(tmp_path / "c.csv", [[str(WORDS), str(TAGS)]], ("tokens", "labels")),
        write_table(
            tmp_path / "d.csv",
            [["Sentence: 1", "New", "x", "B-LOC"], ["", "York", "x", "I-LOC"], ["", "wins", "x", "O"]],
            ("Sentence #", "Word", "POS", "Tag"),
        ),
    ]
    for table in tables:
        (row,) = read(table)
        assert (row.words, row.tags, row.text) == (WORDS, TAGS, "New York wins"), table


def test_rows_of_one_word_need_a_column_of_sentences(tmp_path: Path) -> None:
    table = write_table(tmp_path / "a.csv", [["New", "B-LOC", 1], ["x", "O", 2]], ("word", "tag", "number"))
    with pytest.raises(DataError, match="which sentence"):
        read(table)
    assert [row.words for row in read(table, sentence="number")] == [["New"], ["x"]]


def test_entities_of_texts_become_tags_of_the_words_at_their_characters() -> None:
    text = "In 北京, New York."
    assert read_span(text, {"start": 3, "end": 5, "label": "LOC"}, [7, 15, "LOC"]) == [
        *("O", "B-LOC", "I-LOC", "O", "B-LOC", "I-LOC", "O"),
    ]  # fmt: skip
    assert read_span("a b") == ["O", "O"]


def test_entity_inside_of_a_word_takes_the_word_and_is_counted() -> None:
    counts = SpanCounts()
    assert read_span("preMay1st x", [3, 6, "DATE"], counts=counts) == ["B-DATE", "O"]
    assert counts.describe("a") == [
        "a: 1 entity begins or ends inside of a word and is extended to whole words, such as 'May' as 'preMay1st'"
    ]


@pytest.mark.parametrize(
    ("spans", "words"),
    [
        ([[0, 8, "LOC"], [4, 8, "X"]], "nested entities: 'New York' .LOC. and 'York' .X."),
        ([[0, 8, "LOC"], [4, 13, "X"]], "overlapping entities"),
        ([[0, 99, "LOC"]], "outside of the text"),
        ([[3, 3, "LOC"]], "empty or outside"),
        ([[3, 4, "LOC"]], "has no word"),
        ([["0", 3, "LOC"]], "lacks an integer start"),
        ([[0, 3]], "is not .start, end, label."),
        ([{"start": 0, "end": 3, "label": "LOC", "text": "York"}], "its own text is 'York'"),
        ({"a": 1}, "an object, not a list"),
        ("[broken", "not JSON"),
    ],
)
def test_entities_that_cannot_be_tags_are_refused_by_name_or_skipped(spans: Any, words: str) -> None:
    rows = [{"text": "New York wins", "entities": spans}, {"text": "x", "entities": []}]
    with pytest.raises(DataError, match=words):
        read(rows)
    assert [row.text for row in read(rows, skip_bad=True)] == ["x"]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"tokens": ["a"], "tags": ["O", "O"]}, "1 words, but 2 tags"),
        ({"tokens": ["a", ""], "tags": ["O", "O"]}, "is empty"),
        ({"tokens": ["a"], "tags": [3]}, "convert them to names"),
        ({"tokens": {"a": 1}, "tags": []}, "not a list of words"),
    ],
)
def test_words_and_tags_that_do_not_fit_are_refused(row: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        read([row])


def test_columns_that_are_missing_are_named() -> None:
    with pytest.raises(DataError, match="no column holds words"):
        read([{"a": "x y", "b": "O O"}])
    with pytest.raises(DataError, match="no column holds tags"):
        read([{"tokens": ["x"]}])
    with pytest.raises(DataError, match="no column 'tag'"):
        read([{"tokens": ["x"]}], tags="tag")
    (row,) = read([{"a": "x y", "b": "O O"}], tokens="a", tags="b")
    assert row.words == ["x", "y"]


def test_rows_without_tags_keep_their_text_for_prediction() -> None:
    (row,) = read([{"text": " In  Paris."}], need_tags=False)
    assert (row.text, row.words, row.tags) == (" In  Paris.", ["In", "Paris", "."], None)


def test_text_file_of_columns_is_conll_and_of_texts_a_table(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("New B-LOC\nYork I-LOC\nwins O\n\nx O\n")
    (tmp_path / "b.txt").write_text("New York wins\nx\n")
    assert [row.words for row in read(tmp_path / "a.txt")] == [WORDS, ["x"]]
    assert [row.words for row in read(tmp_path / "b.txt", need_tags=False)] == [WORDS, ["x"]]
