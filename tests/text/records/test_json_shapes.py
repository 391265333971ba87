"""The rows in a file that is one object: shapes of pandas, lists in keys, and objects that are rows."""

import json
from typing import Any

import pandas
import pytest

from llmkit.text.records.json_shapes import find_rows

ROWS = [{"text": "A story 0.", "label": "x"}, {"text": "A story 1.", "label": "y"}]


@pytest.mark.parametrize("orient", ["columns", "index", "split", "table"])
def test_every_orient_of_pandas_gives_its_rows(orient: Any) -> None:
    found = find_rows(json.loads(pandas.DataFrame(ROWS).to_json(orient=orient)))
    assert found is not None
    assert [{name: row[name] for name in ("text", "label")} for row in found.rows] == ROWS  # type: ignore[index,call-overload]
    indexed = pandas.DataFrame(ROWS, index=["a", "b"]).to_json(orient=orient)
    found = find_rows(json.loads(indexed))
    assert found is not None
    assert len(found.rows) == 2, "with an index of words too"


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ({"version": 1, "data": ROWS}, "data"),
        ({"response": {"n": 2, "docs": ROWS}}, "response.docs"),
        ({"meta": {"title": "a"}, "rows": ROWS, "names": ["x", "y", "z"]}, "rows"),
        ({"title": "A corpus", "data": ["one text", "another text"]}, "data"),
    ],
)
def test_the_only_list_of_an_object_holds_the_rows(value: dict[str, object], key: str) -> None:
    found = find_rows(value)
    assert found is not None
    assert found.key == key
    assert len(found.rows) == 2


def test_of_several_lists_the_users_field_chooses() -> None:
    value: dict[str, object] = {"train": ROWS, "test": ROWS[:1]}
    assert find_rows(value) is None
    found = find_rows(value, "test.text")
    assert found is not None
    assert (found.key, found.rows) == ("test", ROWS[:1])


@pytest.mark.parametrize(
    "value",
    [
        {"text": "a", "annotations": [{"start": 1}]},
        {"title": "t", "paragraphs": ["one", "two"]},
        {"title": "t", "sections": [{"head": "h", "text": "x"}]},
        {"messages": [{"role": "user", "content": "hi"}]},
        {"id": 1, "body": {"text": "x"}},
        {},
        {"a": []},
        {"a": {}},
    ],
)
def test_an_object_with_a_text_of_its_own_is_a_row(value: dict[str, object]) -> None:
    assert find_rows(value) is None


def test_lists_of_equal_length_are_columns() -> None:
    found = find_rows({"text": ["a", "b"], "label": [0, 1]})
    assert found is not None
    assert found.rows == [{"text": "a", "label": 0}, {"text": "b", "label": 1}]


@pytest.mark.parametrize(
    "keys", [("1", "2"), ("a17", "b18"), ("doc/x", "doc/y"), tuple(f"page{'x' * n}" for n in range(20))]
)
def test_texts_by_id_are_rows_and_the_shape_names_a_key(keys: tuple[str, ...]) -> None:
    found = find_rows({key: f"Text of {key}." for key in keys})
    assert found is not None
    assert found.rows == [{"id": key, "text": f"Text of {key}."} for key in keys]
    assert repr(keys[0]) in found.shape


@pytest.mark.parametrize("inside", [{"text": "A story."}, {"text": "A story.", "lang": "en"}])
@pytest.mark.parametrize("n", [1, 2])
def test_objects_by_id_are_rows_even_if_some_lack_a_key(inside: dict[str, object], n: int) -> None:
    value: dict[str, object] = {"a17": inside, "b18": {"text": "Another."}}
    found = find_rows(dict(list(value.items())[:n]))
    assert found is not None
    assert found.rows == list(value.values())[:n]


@pytest.mark.parametrize(
    "value",
    [
        {"title": "Boats", "abstract": "Short.", "body_text": "Long."},
        {"sentence1": "One.", "sentence2": "Two."},
        {"序言": "一。", "第二": "二。"},
        {"a17": "One.", "b18": 5},
    ],
)
def test_keys_that_may_be_columns_are_no_ids(value: dict[str, object]) -> None:
    assert find_rows(value) is None


def test_a_key_that_the_user_named_is_a_column() -> None:
    assert find_rows({"part1": "One.", "part2": "Two."}, "part2") is None
