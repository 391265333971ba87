"""Values of typed tables become JSON values without additional digits or letters."""

import math
from datetime import datetime
from decimal import Decimal

import pandas
import pytest

from llmkit.text.records.plain_values import is_inexact, to_cell, to_plain


def test_values_of_json_stay_and_others_are_text() -> None:
    value = {"a": ["x", 1, 1.5, True, None], 2: (Decimal("1.10"), b"\xe5\x8d\xb4", b"\xff", datetime(2024, 1, 2, 3))}
    assert to_plain(value) == {"a": ["x", 1, 1.5, True, None], "2": ["1.10", "却", b"\xff", "2024-01-02 03:00:00"]}
    assert math.isnan(to_plain(math.nan))  # type: ignore[arg-type]


def test_a_missing_time_of_pandas_is_missing() -> None:
    assert to_plain([pandas.NaT, pandas.Timestamp("2024-01-02")]) == [None, "2024-01-02 00:00:00"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (True, "true"),
        (2.0, "2"),
        (-0.25, "-0.25"),
        (datetime(2024, 1, 2), "2024-01-02"),
        (10**18, "1" + "0" * 18),
    ],
)
def test_cells_of_a_sheet_are_text(value: object, text: str) -> None:
    assert to_cell(value) == text


def test_a_rounded_number_gets_no_digits_that_it_does_not_have() -> None:
    assert to_cell(1.23456789012345e19) == "12345678901234500000"
    assert (is_inexact(1.23456789012345e19), is_inexact(123456789012345.0), is_inexact(10**18)) == (True, False, False)
