"""Charts show what was measured: no lost spike, no lag, axes that say where they start."""

import json
from xml.etree import ElementTree

import pytest

from llmkit.pages.charts import Curve, draw_chart, format_ticks, nice_ticks, smooth
from llmkit.pages.page_assets import SCRIPT

HOSTILE = "</svg></script></title>\"'><script>alert(1)</script>"


def get_svg(figure: str) -> ElementTree.Element:
    svg = ElementTree.fromstring(figure).find("svg")
    assert svg is not None
    return svg


def get_curves(figure: str) -> list[dict[str, list[float]]]:
    """The data behind the hover read-out."""
    return json.loads(get_svg(figure).attrib["data-curves"])


def test_hover_data_is_escaped_inside_its_attribute() -> None:
    figure = draw_chart(HOSTILE, HOSTILE, [Curve(HOSTILE, [1, 2], [3.0, 4.0])])
    svg = get_svg(figure)
    assert HOSTILE in svg.attrib["aria-label"]
    assert not {"script", "img", "pre", "title"} & {element.tag for element in ElementTree.fromstring(figure).iter()}
    assert get_curves(figure) == [{"steps": [1, 2], "values": [3.0, 4.0]}]


def test_single_spike_survives_thinning_of_a_long_curve() -> None:
    values = [1.0] * 100_000
    values[54_321] = 50.0
    figure = draw_chart("Gradient norm", "", [Curve("training", range(100_000), values)])
    curve = get_curves(figure)[0]
    assert (54_321, 50.0) in zip(curve["steps"], curve["values"], strict=True)
    assert curve["steps"][0] == 0 and curve["steps"][-1] == 99_999
    assert len(figure) < 40_000


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
    assert all(tick == int(tick) for tick in nice_ticks(0, last, whole=True))


def test_axis_of_a_quantity_with_a_true_zero_starts_there() -> None:
    figure = draw_chart("Tokens a second", "", [Curve("training", [1, 2], [27_000.0, 28_000.0])], from_zero=True)
    assert next(get_svg(figure).iter("text")).text == "0"


def test_flat_curve_is_drawn_inside_the_frame() -> None:
    figure = draw_chart("Loss", "", [Curve("training", [5, 10], [2.0, 2.0])])
    heights = {float(circle.attrib["cy"]) for circle in get_svg(figure).iter("circle")}
    assert len(heights) == 1 and 8 < heights.pop() < 164


def test_single_point_is_drawn_as_a_dot() -> None:
    assert len(list(get_svg(draw_chart("Loss", "", [Curve("test", [0], [2.0])])).iter("circle"))) == 1


def test_chart_over_tokens_says_so_wherever_it_would_say_step() -> None:
    curve = Curve("a run", [2048.0, 4096.0], [3.0, 2.0], "blue dashed")
    figure = draw_chart("Bits", "", [curve], along="token")
    svg = get_svg(figure)
    assert "token" in [text.text for text in svg.iter("text")]
    assert (
        svg.attrib["aria-label"] == "Bits over training tokens: a run from 3.000 at token 2,048 to 2.000 at token 4,096"
    )
    assert json.loads(svg.attrib["data-frame"])["along"] == "token"
    assert '"step "' not in SCRIPT and "(step " not in SCRIPT
    assert "step" not in figure.replace('"steps', "").replace("&quot;steps&quot;", "")
