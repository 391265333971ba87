"""The lines of a plan: figures in the unit that suits them, columns under each other."""

import pytest

from llmkit.cli.plan_output import show_count, show_time


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0, "0"), (999, "999"), (999.6, "1 k"), (124.4e6, "124 M"), (2.5e9, "2.5 B"), (1e13, "10 T"), (1e16, "1e+04 T")],
)
def test_count_has_three_digits_and_its_unit(number: float, shown: str) -> None:
    assert show_count(number) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.25, "0.25 s"), (119, "119 s"), (600, "10.0 minutes"), (7200, "2.0 hours"), (864_000, "10.0 days")],
)
def test_time_is_in_the_largest_unit_of_which_there_are_two(seconds: float, shown: str) -> None:
    assert show_time(seconds) == shown
