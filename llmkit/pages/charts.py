"""Draw curves over training steps, or over tokens trained on, as inline SVG.

No plotting library: a report must open anywhere and be small. A long curve is thinned to the lowest
and highest value of each stretch, so that a spike is never smoothed out of sight.

Knows nothing of logs or runs; the colours are in page_assets.py.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from llmkit.pages.page import Html, tag

WIDTH, HEIGHT = 400, 200
TOP, RIGHT, BOTTOM = 8, 388, 164
MAX_POINTS = 400
FEW_POINTS = 40
"""Up to so many points each gets a dot, so that one sees where values were measured."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Values over ascending steps, all finite and at least one. `look` is one or two classes of the style sheet."""

    name: str
    steps: Sequence[float]
    values: Sequence[float]
    look: str = "blue"


@dataclass(frozen=True, slots=True)
class Scale:
    """A linear axis: values from `low` to `high` go to pixels from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]

    def place(self, value: float) -> float:
        """Where the value lies, in the drawing's pixels."""
        return round(self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start), 2)


def draw_chart(
    title: str, unit: str, curves: Sequence[Curve], *, from_zero: bool = False, along: Literal["step", "token"] = "step"
) -> Html:
    """A figure: title, a key with the last value of each curve, and the curves on common axes.

    `along` says what the curves' `steps` count.
    """
    thinned = [_thin(curve) for curve in curves]
    values = [value for curve in curves for value in curve.values]
    last = max(curve.steps[-1] for curve in curves) or 1
    ticks = nice_ticks(min(0.0, *values) if from_zero else min(values), max(values))
    labels = format_ticks(ticks)
    left = 14 + 6.6 * max(map(len, labels))
    y = Scale(ticks[0], ticks[-1], BOTTOM, TOP, ticks)
    x = Scale(0, last, left, RIGHT, tuple(tick for tick in nice_ticks(0, last, whole=True) if tick <= last))
    svg = tag(
        "svg",
        *_draw_axes(x, y, labels, along),
        tag("line", class_="cross", x1=left, x2=left, y1=TOP, y2=BOTTOM),
        *(_draw_curve(curve, x, y) for curve in thinned),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=_describe(title, curves, along),
        data_frame=json.dumps({"width": WIDTH, "left": left, "right": RIGHT, "last": last, "along": along}),
        data_curves=json.dumps([{"steps": curve.steps, "values": curve.values} for curve in thinned]),
    )
    heading = tag("h3", title, tag("span", unit) if unit else None)
    return tag("figure", tag("figcaption", heading, _draw_keys(curves, along)), svg, class_="chart")


def smooth(values: Sequence[float], window: int) -> list[float]:
    """Mean of the `window` values around each (an odd number); fewer at the ends, so that nothing lags."""
    half = window // 2
    sums = [0.0, *accumulate(values)]
    bounds = ((max(0, i - half), min(len(values), i + half + 1)) for i in range(len(values)))
    return [(sums[end] - sums[start]) / (end - start) for start, end in bounds]


def nice_ticks(low: float, high: float, *, whole: bool = False) -> tuple[float, ...]:
    """Four to seven round numbers that enclose low and high; at least one apart if `whole`."""
    if high <= low:
        margin = abs(low) * 0.1 or 1.0
        low, high = (0.0, 2 * margin) if low == 0 else (low - margin, high + margin)
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    step = max(1.0, math.ceil(step)) if whole else step
    first, final = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return tuple(float(f"{i * step:.12g}") for i in range(first, final + 1))


def format_ticks(ticks: Sequence[float]) -> list[str]:
    """Labels with as many decimals as the distance between ticks needs; large ones in thousands or millions."""
    largest = max(map(abs, ticks))
    divisor, suffix = (1e6, "M") if largest >= 1e7 else (1e3, "k") if largest >= 1e5 else (1.0, "")
    step = (ticks[1] - ticks[0]) / divisor
    if step < 1e-4 and largest < 100 * step:
        return [f"{tick:.4g}".replace("e-0", "e-") for tick in ticks]
    decimals = next(n for n in range(13) if n == 12 or abs(step - round(step, n)) < step * 1e-6)
    return [f"{tick / divisor:,.{decimals}f}{suffix}" if tick else "0" for tick in ticks]


def format_reading(value: float) -> str:
    """Four significant digits, as the page's script shows them too."""
    if value == 0:
        return "0"
    return f"{value:,.{min(8, max(0, 3 - math.floor(math.log10(abs(value)))))}f}"


def _thin(curve: Curve) -> Curve:
    """The same curve with at most about MAX_POINTS points, extremes and both ends kept."""
    n = len(curve.steps)
    if n <= MAX_POINTS:
        return curve
    kept = {0, n - 1}
    size = 2 * n / MAX_POINTS
    for bucket in range(MAX_POINTS // 2):
        indices = range(int(bucket * size), min(n, int((bucket + 1) * size)))
        kept |= {min(indices, key=curve.values.__getitem__), max(indices, key=curve.values.__getitem__)}
    order = sorted(kept)
    return Curve(curve.name, [curve.steps[i] for i in order], [curve.values[i] for i in order], curve.look)


def _draw_axes(x: Scale, y: Scale, labels: Sequence[str], along: str) -> list[Html]:
    parts = []
    for tick, label in zip(y.ticks, labels, strict=True):
        place = y.place(tick)
        parts.append(tag("line", class_="grid", x1=x.start, x2=x.end, y1=place, y2=place))
        parts.append(tag("text", label, x=x.start - 6, y=place + 3.2, text_anchor="end"))
    parts.append(tag("line", class_="axis", x1=x.start, x2=x.end, y1=BOTTOM, y2=BOTTOM))
    for tick, label in zip(x.ticks, format_ticks(x.ticks), strict=True):
        place = x.place(tick)
        parts.append(tag("line", class_="axis", x1=place, x2=place, y1=BOTTOM, y2=BOTTOM + 3))
        parts.append(tag("text", label, x=place, y=BOTTOM + 14, text_anchor="middle"))
    parts.append(tag("text", along, x=(x.start + x.end) / 2, y=BOTTOM + 29, text_anchor="middle"))
    return parts


def _draw_curve(curve: Curve, x: Scale, y: Scale) -> Html:
    points = [(x.place(step), y.place(value)) for step, value in zip(curve.steps, curve.values, strict=True)]
    path = tag("path", d="M" + "L".join(f"{a:g} {b:g}" for a, b in points)) if len(points) > 1 else None
    dots = points if len(points) <= FEW_POINTS and curve.look != "faint" else []
    return tag("g", path, *(tag("circle", cx=a, cy=b, r=2) for a, b in dots), class_=curve.look)


def _draw_keys(curves: Sequence[Curve], along: str) -> Html:
    last = max(curve.steps[-1] for curve in curves)
    keys = (
        tag("span", tag("i", class_=curve.look), curve.name, " ", tag("b", format_reading(curve.values[-1])))
        for curve in curves
    )
    return tag("div", tag("span", f"{along} {last:,.0f}", class_="at"), *keys, class_="keys")


def _describe(title: str, curves: Sequence[Curve], along: str) -> str:
    spans = (
        f"{c.name} from {format_reading(c.values[0])} at {along} {c.steps[0]:,.0f}"
        f" to {format_reading(c.values[-1])} at {along} {c.steps[-1]:,.0f}"
        for c in curves
    )
    return f"{title} over training {along}s: {'; '.join(spans)}"
