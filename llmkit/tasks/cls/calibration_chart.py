"""Draw how often guesses were right against how probable the model said they were, as inline SVG.

A bar on the diagonal means what it says; one below it was too sure. Above each bar stands how many it is of.
"""

from collections.abc import Sequence

from llmkit.pages.charts import BOTTOM, HEIGHT, RIGHT, TOP, WIDTH, Scale, format_ticks, nice_ticks
from llmkit.pages.page import Html, tag
from llmkit.training.run_record import Record, get_number

_LEFT = 34


def draw_calibration(bins: Sequence[Record], unit: str) -> Html:
    """A figure of `calibration` as calibration.py measures it; `unit` says what was counted. Empty bins are left out.

    A bin that lacks a number is left out, too: metrics.json may have been written by hand.
    """
    ticks = nice_ticks(0, 1)
    y, x = Scale(0, 1, BOTTOM, TOP + 10, ticks), Scale(0, 1, _LEFT, RIGHT, ticks)
    filled = [each for each in bins if get_number(each, "n") and _is_whole(each)]
    svg = tag(
        "svg",
        *_draw_axes(x, y),
        *(_draw_bar(each, x, y) for each in filled),
        tag("line", class_="diagonal", x1=x.place(0), x2=x.place(1), y1=y.place(0), y2=y.place(1)),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label="Share that was right by probability: " + "; ".join(map(_describe, filled)),
    )
    key = tag("div", tag("span", "dashed: probabilities that mean what they say"), class_="keys")
    return tag("figure", tag("figcaption", tag("h3", "Calibration", tag("span", unit)), key), svg, class_="chart still")


def _is_whole(each: Record) -> bool:
    return all(get_number(each, key) is not None for key in ("lower", "upper", "confidence", "accuracy"))


def _draw_axes(x: Scale, y: Scale) -> list[Html]:
    parts = []
    for tick, label in zip(y.ticks, format_ticks(y.ticks), strict=True):
        parts.append(tag("line", class_="grid", x1=x.start, x2=x.end, y1=y.place(tick), y2=y.place(tick)))
        parts.append(tag("text", label, x=x.start - 6, y=y.place(tick) + 3.2, text_anchor="end"))
        parts.append(tag("text", label, x=x.place(tick), y=BOTTOM + 14, text_anchor="middle"))
    parts.append(tag("line", class_="axis", x1=x.start, x2=x.end, y1=BOTTOM, y2=BOTTOM))
    middle = (x.start + x.end) / 2
    return [*parts, tag("text", "probability", x=middle, y=BOTTOM + 29, text_anchor="middle")]


def _draw_bar(each: Record, x: Scale, y: Scale) -> Html:
    left, right, top = x.place(each["lower"]) + 1, x.place(each["upper"]) - 1, y.place(each["accuracy"])
    size = {"width": round(right - left, 2), "height": round(BOTTOM - top, 2)}
    bar = tag("rect", tag("title", _describe(each)), class_="bar", x=round(left, 2), y=top, **size)
    mark = tag("circle", cx=x.place(each["confidence"]), cy=top, r=2)
    middle = round((left + right) / 2, 2)
    count = tag("text", _shorten(each["n"]), class_="count", x=middle, y=round(top - 4, 2), text_anchor="middle")
    return tag("g", bar, mark, count, class_="blue")


def _describe(each: Record) -> str:
    return f"{each['n']:,} with {100 * each['confidence']:.1f} % on average, {100 * each['accuracy']:.1f} % right"


def _shorten(n: float) -> str:
    """At most four characters, as wide as a bar."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if n >= size:
            return f"{n / size:.1f}{letter}" if n < 10 * size else f"{n / size:.0f}{letter}"
    return f"{n:,.0f}"
