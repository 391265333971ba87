"""Markup is escaped wherever it comes from, and values read well."""

import math
from xml.etree import ElementTree

import pytest

from llmkit.pages.page import Html, show_duration, show_value, table, tag


def test_attribute_value_cannot_leave_its_quotes_even_as_markup() -> None:
    assert tag("p", title=Html('"><b>')) == '<p title="&quot;&gt;&lt;b&gt;"></p>'


def test_text_is_escaped_and_markup_is_not_escaped_twice() -> None:
    assert tag("p", "a < b", tag("b", "&")) == "<p>a &lt; b<b>&amp;</b></p>"


def test_attribute_of_none_is_left_out_and_of_true_has_no_value() -> None:
    assert tag("details", class_=None, open=True, data_x=0) == '<details open data-x="0"></details>'


def test_only_columns_with_numbers_are_aligned_to_the_right() -> None:
    rows = ElementTree.fromstring(table(["split", "tokens"], [["train", 1234], ["all", None]])).iter("tr")
    cells = [[(cell.text, cell.get("class")) for cell in row] for row in rows]
    assert cells == [
        [("split", None), ("tokens", "number")],
        [("train", None), ("1,234", "number")],
        [("all", None), ("–", "number")],
    ]


def test_row_of_another_length_than_the_header_is_refused() -> None:
    with pytest.raises((ValueError, IndexError)):
        table(["a", "b"], [["x"]])


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1_003_854, "1,003,854"),
        (True, "yes"),
        (None, "–"),
        (0.0, "0"),
        (2.35029, "2.3503"),
        (27811.24, "27,811.2"),
        (3e-5, "3e-05"),
        (math.nan, "nan"),
    ],
)
def test_value_is_shown_as_a_reader_wants_it(value: object, shown: str) -> None:
    assert show_value(value) == shown


def test_markup_is_a_kind_of_text_that_keeps_its_mark() -> None:
    assert isinstance(tag("p"), Html)


@pytest.mark.parametrize(
    ("seconds", "shown"), [(56.7, "57 s"), (59.7, "1 min 0 s"), (185.2, "3 min 5 s"), (7800, "2 h 10 min")]
)
def test_duration_is_rounded_before_it_is_cut_into_units(seconds: float, shown: str) -> None:
    assert show_duration(seconds) == shown
