"""The field of the text: chosen by name or as the only one, nested, joined, and turned into a text."""

import pytest

from llmkit.core.errors import DataError
from llmkit.text.records.column_names import TEXT_NAMES
from llmkit.text.records.fields import (
    MISSING,
    BadCell,
    choose_field,
    count_chars,
    get_value,
    is_text,
    list_columns,
    to_texts,
)


def test_wanted_column_beats_a_well_known_name_and_that_beats_the_only_text() -> None:
    rows = [{"text": "1", "Content": "2", "story so far": "words"}]
    columns = list(rows[0])
    assert choose_field(columns, "Content", rows, "a.csv").paths == ("Content",)
    assert choose_field(columns, None, rows, "a.csv").paths == ("text",)
    assert choose_field(["story so far", "Content"], None, rows, "a.csv").paths == ("Content",)
    assert choose_field(["id", "story so far"], None, rows, "a.csv").paths == ("story so far",)


@pytest.mark.parametrize("name", TEXT_NAMES)
def test_well_known_names_are_found_in_any_case_and_the_earlier_one_is_taken(name: str) -> None:
    later = TEXT_NAMES[TEXT_NAMES.index(name) :]
    columns = ["id", *(f" {each.upper()} " for each in reversed(later))]
    assert choose_field(columns, None, [], "a.csv").paths == (f" {name.upper()} ",)
    assert choose_field([name.upper(), name], None, [], "a.csv").paths == (name.upper(),), "of two, the first column"


def test_column_of_numbers_blanks_or_other_values_is_no_text() -> None:
    assert [value for value in ("1", " 2.5e3 ", "nan", "inf", "", " \u3000", "a", "1 a", "一") if is_text(value)] == [
        "a", "1 a", "一"
    ]  # fmt: skip
    rows = [{"id": "7", "n": 3, "x": "nan", "words": ""}, {"id": "8", "n": None, "x": "", "words": "some"}]
    assert choose_field(list(rows[0]), None, rows, "a.csv").paths == ("words",)


@pytest.mark.parametrize("rows", [[{"a": "x", "b": "y"}], [{"a": "1", "b": "2"}], []])
def test_ambiguous_columns_are_an_error_that_lists_all(rows: list[dict[str, object]]) -> None:
    with pytest.raises(DataError, match="found: 'a', 'b'") as caught:
        choose_field(["a", "b"], None, rows, "a.csv")
    assert "-s prepare.read.field=" in caught.value.problems[0].hint


def test_column_that_is_missing_names_the_nearest() -> None:
    with pytest.raises(DataError, match="no column 'titel'") as caught:
        choose_field(["title", "body"], "titel", [], "a.csv")
    assert caught.value.problems[0].hint == "did you mean 'title'?"


def test_list_of_columns_in_an_error_stays_short() -> None:
    assert len(list_columns(["x" * 10_000] * 10_000)) < 2_000
    assert list_columns(["a"] * 31).endswith("'a', ...")


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("a", {"b": {"c": "x"}, "l": [{"t": "1"}, {"t": ["2", "3"]}, {}], "d.e": "y"}),
        ("a.b.c", "x"),
        ("a.l.t", ["1", "2", "3"]),
        ("a.d.e", "y"),
        ("a.b.x", MISSING),
        ("x", MISSING),
        ("a.b.c.d", MISSING),
        ("a.l.x", MISSING),
    ],
)
def test_a_path_of_keys_goes_through_objects_and_lists(path: str, found: object) -> None:
    assert get_value({"a": {"b": {"c": "x"}, "l": [{"t": "1"}, {"t": ["2", "3"]}, {}], "d.e": "y"}}, path) == found


def test_a_name_with_dots_or_commas_is_a_column_first() -> None:
    rows = [{"a.b": "x", "a": {"b": "y"}, "Text, frei": "z", "Text": "1", "frei": "2"}]
    assert choose_field(list(rows[0]), "a.b", rows, "a.csv").values(rows[0]) == ["x"]
    assert choose_field(list(rows[0]), "Text, frei", rows, "a.csv").paths == ("Text, frei",)
    assert choose_field(list(rows[0]), "Text,frei", rows, "a.csv").paths == ("Text", "frei")
    with pytest.raises(DataError, match="no column 'freu'"):
        choose_field(list(rows[0]), "Text,freu", rows, "a.csv")


def test_values_become_texts_and_other_types_are_named_in_the_error() -> None:
    assert to_texts(["a", None, "", MISSING, ["b", ["c"]]]) == ["a", "b", "c"]
    for value, what in ((7, "a number"), ({"a": 1}, "an object"), ([True], "true or false")):
        with pytest.raises(BadCell, match=what):
            to_texts([value])


def test_labels_and_identifiers_are_not_taken_for_the_text() -> None:
    rows = [{"Label": "pos", "guid": "a-b", "when": "2024-01-01", "words so far": "x"}]
    assert choose_field(list(rows[0]), None, rows, "a.csv").paths == ("words so far",)


def test_characters_of_a_value_are_those_of_its_texts() -> None:
    assert count_chars({"a": ["one", {"b": "two"}, 7, None], "c": "四"}) == 7
