"""Every kind of block becomes HTML, and text in it never becomes markup."""

import json
import re
from xml.etree import ElementTree

import pytest

from llmkit.pages import page
from llmkit.pages.blocks import (
    Block,
    Charts,
    Confusion,
    Curve,
    Facts,
    Fold,
    Headlines,
    LineChart,
    Notice,
    Paragraph,
    Preformatted,
    ReliabilityDiagram,
    Section,
    Table,
)  # fmt: skip
from llmkit.pages.page import render_page

HOSTILE = "</svg></script></title>\"'><script>alert(1)</script><img src=x onerror=alert(2)>"
BIN = {"lower": 0.5, "upper": 1.0, "n": 12_345, "confidence": 0.75, "accuracy": 1.0}


def render(*blocks: Block) -> ElementTree.Element:
    """The section of a page with these blocks."""
    html = render_page("title", "subtitle", [], [Section("section", blocks)])
    section = html[html.index("<section>") : html.index("</section>")] + "</section>"
    return ElementTree.fromstring(re.sub(r"<details open>", '<details open="">', section))


def get_svg(chart: LineChart | ReliabilityDiagram) -> ElementTree.Element:
    svg = render(Charts([chart])).find(".//svg")
    assert svg is not None
    return svg


def test_hostile_text_in_every_block_stays_text() -> None:
    chart = LineChart(HOSTILE, HOSTILE, [Curve(HOSTILE, [1, 2], [3.0, 4.0], HOSTILE)])
    blocks: list[Block] = [
        Paragraph(HOSTILE), Notice(HOSTILE, [HOSTILE]), Headlines([(HOSTILE, HOSTILE, HOSTILE)]),
        Facts([(HOSTILE, HOSTILE)], HOSTILE), Table([HOSTILE], [[HOSTILE]], HOSTILE, [HOSTILE]),
        Confusion([HOSTILE], [[1]], HOSTILE), Preformatted(HOSTILE, HOSTILE, HOSTILE),
        Charts([chart, ReliabilityDiagram(HOSTILE, [BIN])]), Fold(HOSTILE, [Paragraph(HOSTILE)]),
    ]  # fmt: skip
    html = render_page(HOSTILE, HOSTILE, blocks, [Section(HOSTILE, blocks)])
    assert html.count("<script>") == 1 and "<img" not in html
    section = render(*blocks)
    assert not {"script", "img"} & {element.tag for element in section.iter()}
    assert not [key for element in section.iter() for key in element.attrib if key.startswith("on")]
    assert "".join(section.itertext()).count("alert(1)") >= 19, "escaped, not dropped"


def test_templates_mark_nothing_as_safe_and_escape_by_default() -> None:
    sources = [path.read_text() for path in page._TEMPLATES.glob("*.jinja")]
    assert sources and not [source for source in sources if "safe" in source or "autoescape false" in source]


def test_style_and_script_load_nothing_and_cannot_close_their_tag() -> None:
    for name in ("style.css", "script.js"):
        asset = (page._TEMPLATES / name).read_text()
        assert not re.search(r"https?:|@import|url\(|fetch\(|XMLHttpRequest|import\(|</", asset)


def test_control_characters_are_removed() -> None:
    section = render(Paragraph("a\x00b\x1b[31mc\u202ed\ud800e\x9ff\nnext\tline"))
    assert section.find("p").text == "ab[31mcdef\nnext\tline"  # type: ignore[union-attr]


def test_only_columns_with_numbers_are_aligned_to_the_right() -> None:
    table = render(Table(["split", "tokens", "time"], [["train", 1234, "2 s"], ["all", None, ""]], numeric=["time"]))
    cells = [[(cell.text, cell.get("class")) for cell in row] for row in table.iter("tr")]
    assert cells == [
        [("split", None), ("tokens", "number"), ("time", "number")],
        [("train", None), ("1,234", "number"), ("2 s", "number")],
        [("all", None), ("–", "number"), ("–", "number")],
    ]


def test_counts_of_a_confusion_are_shaded_by_their_share_of_the_row() -> None:
    cells = list(render(Confusion(["a" * 30, "b"], [[901, 101], [0, 7]])).iter("td"))
    found = [(cell.text, cell.get("class")) for cell in cells]
    assert found[:2] == [("901", "number right heat-8"), ("101", "number wrong heat-1")]
    assert found[2:5] == [("1,002", "number"), ("0", "number wrong"), ("7", "number right heat-9")]


def test_sample_shows_its_prompt_marked_and_keeps_white_space() -> None:
    pre = render(Preformatted(" on\n  and on", prompt="Once")).find("pre")
    assert pre is not None
    assert pre[0].tag == "mark" and "".join(pre.itertext()) == "Once on\n  and on"


def test_line_chart_has_its_values_for_the_script_and_its_ends_in_words() -> None:
    svg = get_svg(LineChart("Bits", "", [Curve("a run", [2048.0, 4096.0], [3.0, 2.0], "blue dashed")], along="token"))
    label = "Bits over training tokens: a run from 3.000 at token 2,048 to 2.000 at token 4,096"
    assert svg.attrib["aria-label"] == label
    assert json.loads(svg.attrib["data-curves"]) == [{"steps": [2048.0, 4096.0], "values": [3.0, 2.0]}]
    assert json.loads(svg.attrib["data-frame"])["along"] == "token"
    assert "token" in [text.text for text in svg.iter("text")]
    assert [group.get("class") for group in svg.iter("g")] == ["blue dashed"]


def test_axis_of_a_quantity_with_a_true_zero_starts_there() -> None:
    chart = LineChart("Tokens per second", "", [Curve("training", [1, 2], [27_000.0, 28_000.0])], from_zero=True)
    assert next(get_svg(chart).iter("text")).text == "0"


def test_reliability_diagram_has_a_bar_per_bin_and_nothing_for_the_script() -> None:
    svg = get_svg(ReliabilityDiagram("unit", [BIN]))
    (bar,) = svg.iter("rect")
    diagonal = next(line for line in svg.iter("line") if line.get("class") == "diagonal")
    assert float(bar.attrib["y"]) == float(diagonal.attrib["y2"])
    assert float(bar.attrib["y"]) + float(bar.attrib["height"]) == float(diagonal.attrib["y1"])
    assert "12k" in [text.text for text in svg.iter("text")]
    assert "data-curves" not in svg.attrib


@pytest.mark.parametrize("is_open", [False, True])
def test_fold_block_is_open_only_if_is_open_is_set(is_open: bool) -> None:
    details = render(Fold("more", [Paragraph("inside")], is_open)).find("details")
    assert details is not None
    assert ("open" in details.attrib) is is_open and "inside" in "".join(details.itertext())
