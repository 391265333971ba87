"""Values are formatted for readers; tables and confusion matrices have consistent shapes."""

import math
from typing import Any

import pytest

from llmkit.pages.blocks import Confusion, Table, make_confusion, show_duration, show_value


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1_003_854, "1,003,854"),
        (True, "yes"),
        (None, "–"),
        (0.0, "0.0000"),
        (2.35029, "2.3503"),
        (27811.24, "27,811.2"),
        (11_769_167.04, "11,769,167"),
        (3e-5, "3e-05"),
        (math.nan, "nan"),
        ("text", "text"),
    ],
)
def test_value_is_formatted_with_separators_and_four_decimals(value: object, shown: str) -> None:
    assert show_value(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(56.7, "57 s"), (59.7, "1 min 0 s"), (185.2, "3 min 5 s"), (7800, "2 h 10 min")]
)
def test_duration_is_rounded_before_it_is_cut_into_units(seconds: float, shown: str) -> None:
    assert show_duration(seconds) == shown


def test_row_of_another_length_than_the_header_is_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        _ = Table(["a", "b"], [["x"]]).is_numeric


def test_confusion_as_a_table_has_a_row_per_true_label() -> None:
    table = Confusion(["a", "b"], [[1, 2], [3, 4]]).table
    assert table.rows == [["a", 1, 2], ["b", 3, 4]] and table.is_numeric == [False, True, True]


@pytest.mark.parametrize(
    ("labels", "counts"),
    [(None, None), ([], []), (["a"], [[None]]), (["a"], [[-1]]), (["a", "b"], [[1, 2]]), (["a"], [[1, 2]]), (["a"], 3)],
)
def test_confusion_matrix_must_be_a_square_of_counts(labels: Any, counts: Any) -> None:
    assert make_confusion(labels, counts) is None
    assert make_confusion(["a", 2], [[1, 0], [0, 1]]) == Confusion(["a", "2"], [[1, 0], [0, 1]])
