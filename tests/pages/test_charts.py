"""Charts show the measured values: spikes stay, smoothing does not lag, and axes are labelled."""

import json

import pytest

from llmkit.pages.blocks import Curve, LineChart, ReliabilityDiagram
from llmkit.pages.charts import format_reading, format_ticks, layout_chart, nice_ticks, shorten_count, smooth

BIN = {"lower": 0.5, "upper": 1.0, "n": 12_345, "confidence": 0.75, "accuracy": 1.0}


def test_single_spike_survives_thinning_of_a_long_curve() -> None:
    values = [1.0] * 100_000
    values[54_321] = 50.0
    drawing = layout_chart(LineChart("Gradient norm", "", [Curve("training", range(100_000), values)]))
    (curve,) = json.loads(drawing.data["curves"])
    assert (54_321, 50.0) in zip(curve["steps"], curve["values"], strict=True)
    assert curve["steps"][0] == 0 and curve["steps"][-1] == 99_999
    assert len(drawing.lines[0].path) < 10_000


def test_smoothing_neither_lags_nor_bends_a_straight_line() -> None:
    assert smooth([0.0, 1.0, 2.0, 3.0, 4.0], 3) == pytest.approx([0.5, 1, 2, 3, 3.5])
    assert smooth([7.0], 5) == [7.0]


@pytest.mark.parametrize("low", [0.0, 1.35, -3.0, 27_000.0, 1e-9])
@pytest.mark.parametrize("span", [0.0, 1e-6, 0.07, 3.0, 999.0, 2e8])
def test_ticks_enclose_the_values_and_each_has_its_own_label(low: float, span: float) -> None:
    ticks = nice_ticks(low, low + span)
    slack = (ticks[1] - ticks[0]) / 1e6
    assert ticks[0] <= low + slack and ticks[-1] >= low + span - slack
    assert 3 <= len(ticks) <= 8
    labels = format_ticks(ticks)
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize("last", [1, 2, 7, 999, 100_000, 20_000_000])
def test_steps_on_the_axis_are_whole_numbers(last: int) -> None:
    assert all(tick == int(tick) for tick in nice_ticks(0, last, integers=True))


def test_flat_curve_is_drawn_inside_the_frame() -> None:
    (line,) = layout_chart(LineChart("Loss", "", [Curve("training", [5, 10], [2.0, 2.0])])).lines
    heights = {y for _, y in line.dots}
    assert len(heights) == 1 and 8 < heights.pop() < 164


def test_single_point_is_drawn_as_a_dot() -> None:
    (line,) = layout_chart(LineChart("Loss", "", [Curve("test", [0], [2.0])])).lines
    assert len(line.dots) == 1 and not line.path


def test_bins_without_rows_have_no_bar() -> None:
    empty = {"lower": 0.0, "upper": 0.5, "n": 0, "confidence": None, "accuracy": None}
    drawing = layout_chart(ReliabilityDiagram("unit", [empty, BIN]))
    assert [bar.count for bar in drawing.bars] == ["12k"]
    assert "12,345: 75.0% mean probability, 100.0% correct" in drawing.description


@pytest.mark.parametrize(
    ("n", "shown"), [(0, "0"), (999, "999"), (1000, "1.0k"), (12_345, "12k"), (1.5e6, "1.5M"), (2.5e8, "250M")]
)
def test_count_over_a_bar_is_at_most_four_characters(n: float, shown: str) -> None:
    assert shorten_count(n) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(0, "0"), (1.1e-7, "1.10e-7"), (0.0123456, "0.01235"), (61234.5, "61,234")]
)
def test_reading_has_about_four_digits(value: float, shown: str) -> None:
    assert format_reading(value) == shown


def test_logarithmic_axis_has_equal_distances_for_equal_ratios() -> None:
    curve = Curve("model", [10, 100, 1000], [0.1, 0.5, 0.9])
    drawing = layout_chart(LineChart("accuracy", "", [curve], along="train rows", is_log=True))
    first, second, third = (x for x, _ in drawing.lines[0].dots)
    assert second - first == pytest.approx(third - second, abs=0.1)
    assert [text for _, text in drawing.x.labels] == ["10", "100", "1,000"]
    single = layout_chart(LineChart("accuracy", "", [Curve("model", [8], [0.1])], along="train rows", is_log=True))
    assert len(single.lines[0].dots) == 1
    near = layout_chart(
        LineChart("accuracy", "", [Curve("model", [20, 50], [0.1, 0.2])], along="train rows", is_log=True)
    )
    assert [text for _, text in near.x.labels] == ["20", "50"]
