"""The chart of calibration is drawn to scale, of whatever numbers there are."""

from typing import Any
from xml.etree import ElementTree

import pytest

from llmkit.tasks.cls.calibration_chart import _shorten, draw_calibration

HOSTILE = "<script>alert(1)</script>"


def test_bar_reaches_as_high_as_the_share_that_was_right_and_empty_bins_have_none() -> None:
    empty = {"lower": 0.0, "upper": 0.5, "n": 0, "confidence": None, "accuracy": None}
    full = {"lower": 0.5, "upper": 1.0, "n": 12_345, "confidence": 0.75, "accuracy": 1.0}
    svg = ElementTree.fromstring(draw_calibration([empty, full], HOSTILE)).find("svg")
    assert svg is not None
    (bar,) = svg.iter("rect")
    diagonal = next(line for line in svg.iter("line") if line.get("class") == "diagonal")
    assert float(bar.attrib["y"]) == float(diagonal.attrib["y2"])
    assert float(bar.attrib["y"]) + float(bar.attrib["height"]) == float(diagonal.attrib["y1"])
    assert "12k" in [text.text for text in svg.iter("text")]
    assert "12,345 with 75.0 % on average, 100.0 % right" in svg.attrib["aria-label"]


def test_bins_that_lack_a_number_are_left_out_and_the_unit_is_text() -> None:
    whole = {"lower": 0.0, "upper": 0.5, "n": 3, "confidence": 0.25, "accuracy": 0.5}
    broken: list[dict[str, Any]] = [whole | {key: value} for key in whole for value in (None, "x", float("nan"))]
    svg = ElementTree.fromstring(draw_calibration([*broken, whole], HOSTILE)).find("svg")
    assert svg is not None
    assert len(list(svg.iter("rect"))) == 1
    assert HOSTILE not in draw_calibration([whole], HOSTILE)


@pytest.mark.parametrize(
    ("n", "shown"), [(0, "0"), (999, "999"), (1000, "1.0k"), (12_345, "12k"), (1.5e6, "1.5M"), (2.5e8, "250M")]
)
def test_count_over_a_bar_is_at_most_four_characters(n: float, shown: str) -> None:
    assert _shorten(n) == shown
