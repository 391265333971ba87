"""Compute the layout of charts: the position of each curve, bar, tick and label.

`templates/charts.html.jinja` writes the SVG. There is no plotting library: a report must open anywhere and be small. A
long curve is thinned to the lowest and highest value of each section, so every spike stays visible.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

from llmkit.pages.blocks import Chart, Curve, LineChart, RateChart, ReliabilityDiagram

WIDTH = 400
TOP, RIGHT, BOTTOM = 8, 388, 164
MAX_POINTS = 400
MAX_DOTS = 40
"""Maximum number of points of a curve that is drawn with a dot at each measured value."""


@dataclass(frozen=True, slots=True)
class Scale:
    """An axis: maps values in [low, high] to pixels in [start, end]."""

    low: float
    high: float
    start: float
    end: float
    ticks: Sequence[float]
    is_log: bool = False

    def to_pixels(self, value: float) -> float:
        """Return the position of the value in pixels of the drawing."""
        if self.is_log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
            return round(self.start + share * (self.end - self.start), 2)
        return round(self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start), 2)

    @property
    def labels(self) -> list[tuple[float, str]]:
        """Return position and text of each tick."""
        if self.is_log:
            return [(self.to_pixels(tick), f"{tick:,.0f}") for tick in self.ticks]
        return [(self.to_pixels(tick), text) for tick, text in zip(self.ticks, format_ticks(self.ticks), strict=True)]


@dataclass(frozen=True, slots=True)
class Line:
    """A drawn curve."""

    style: str
    name: str
    reading: str
    """The last value."""
    path: str
    dots: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Bar:
    """A drawn bin; `mark` is the position of its mean probability."""

    x: float
    y: float
    width: float
    height: float
    mark: float
    count: str
    description: str


@dataclass(frozen=True, slots=True)
class Drawing:
    """A chart with every position computed."""

    title: str
    unit: str
    key: str
    along: str
    x: Scale
    y: Scale
    description: str
    lines: Sequence[Line] = ()
    bars: Sequence[Bar] = ()
    diagonal: bool = False
    """Whether a dashed line connects the lower left and the upper right corner."""
    data: dict[str, str] = field(default_factory=dict)
    """JSON for the page's script, which displays values along the curves; empty: there is nothing to display."""


def layout_chart(chart: Chart) -> Drawing:
    """Compute the positions of all parts of the chart."""
    if isinstance(chart, RateChart):
        return _layout_rates(chart)
    return _layout_lines(chart) if isinstance(chart, LineChart) else _layout_reliability(chart)


def _layout_lines(chart: LineChart) -> Drawing:
    values = [value for curve in chart.curves for value in curve.values]
    last = max(curve.steps[-1] for curve in chart.curves) or 1
    ticks = nice_ticks(min(0.0, *values) if chart.from_zero else min(values), max(values))
    left = 14 + 6.6 * max(map(len, format_ticks(ticks)))
    y = Scale(ticks[0], ticks[-1], BOTTOM, TOP, ticks)
    if chart.is_log:
        x = _log_scale(min(curve.steps[0] for curve in chart.curves), last, left)
    else:
        x = Scale(0, last, left, RIGHT, [tick for tick in nice_ticks(0, last, integers=True) if tick <= last])
    thinned = [_thin(curve) for curve in chart.curves]
    spans = (
        f"{c.name} from {format_reading(c.values[0])} at {chart.along} {c.steps[0]:,.0f}"
        f" to {format_reading(c.values[-1])} at {chart.along} {c.steps[-1]:,.0f}"
        for c in chart.curves
    )
    frame = {"width": WIDTH, "left": left, "right": RIGHT, "last": last, "along": chart.along}
    curves = [{"steps": list(curve.steps), "values": list(curve.values)} for curve in thinned]
    return Drawing(
        chart.title, chart.unit, f"{chart.along} {last:,.0f}", chart.along, x, y,
        f"{chart.title} over {chart.along if chart.is_log else f'training {chart.along}s'}: {'; '.join(spans)}",
        lines=[_layout_line(curve, x, y) for curve in thinned],
        data={} if chart.is_log else {"frame": json.dumps(frame), "curves": json.dumps(curves)},
    )  # fmt: skip


def _log_scale(first: float, last: float, left: float) -> Scale:
    """Return a logarithmic axis with ticks at powers of ten, or at both ends if fewer than two powers fit."""
    if first == last:
        first, last = first / 2, last * 2
    powers = [10.0**n for n in range(math.ceil(math.log10(first) - 1e-9), math.floor(math.log10(last) + 1e-9) + 1)]
    return Scale(first, last, left, RIGHT, powers if len(powers) > 1 else [first, last], is_log=True)


def _layout_line(curve: Curve, x: Scale, y: Scale) -> Line:
    points = [(x.to_pixels(step), y.to_pixels(value)) for step, value in zip(curve.steps, curve.values, strict=True)]
    path = "M" + "L".join(f"{a:g} {b:g}" for a, b in points) if len(points) > 1 else ""
    dots = points if len(points) <= MAX_DOTS and curve.style != "faint" else []
    return Line(curve.style, curve.name, format_reading(curve.values[-1]), path, dots)


def _layout_rates(chart: RateChart) -> Drawing:
    ticks = nice_ticks(0, 1)
    x, y = Scale(0, 1, 34, RIGHT, ticks), Scale(0, 1, BOTTOM, TOP, ticks)
    lines = [
        replace(_layout_line(curve, x, y), reading=reading, dots=())
        for curve, reading in zip(chart.curves, chart.readings, strict=True)
    ]
    description = f"{chart.title} over {chart.along}: " + "; ".join(f"{line.name} {line.reading}" for line in lines)
    key = "dashed: random" if chart.diagonal else ""
    return Drawing(chart.title, chart.unit, key, chart.along, x, y, description, lines, diagonal=chart.diagonal)


def _layout_reliability(chart: ReliabilityDiagram) -> Drawing:
    """Draw one bar per non-empty bin; a bar below the diagonal is overconfident."""
    ticks = nice_ticks(0, 1)
    x, y = Scale(0, 1, 34, RIGHT, ticks), Scale(0, 1, BOTTOM, TOP + 10, ticks)
    bars = []
    for each in chart.bins:
        if not each["n"]:
            continue
        left, right, top = x.to_pixels(each["lower"]) + 1, x.to_pixels(each["upper"]) - 1, y.to_pixels(each["accuracy"])
        percent = f"{each['confidence']:.1%} mean probability, {each['accuracy']:.1%} correct"
        size = round(right - left, 2), round(BOTTOM - top, 2)
        mark, count = x.to_pixels(each["confidence"]), shorten_count(each["n"])
        bars.append(Bar(round(left, 2), top, *size, mark, count, f"{each['n']:,}: {percent}"))
    description = "Accuracy by predicted probability: " + "; ".join(bar.description for bar in bars)
    key = "dashed: perfectly calibrated"
    return Drawing("Calibration", chart.unit, key, "predicted probability", x, y, description, bars=bars, diagonal=True)


def smooth(values: Sequence[float], window: int) -> list[float]:
    """Return the mean of `window` (odd) values centred on each value; fewer at the ends, so the curve does not lag."""
    half = window // 2
    sums = [0.0, *accumulate(values)]
    bounds = ((max(0, i - half), min(len(values), i + half + 1)) for i in range(len(values)))
    return [(sums[end] - sums[start]) / (end - start) for start, end in bounds]


def nice_ticks(low: float, high: float, *, integers: bool = False) -> list[float]:
    """Return four to seven round numbers that enclose low and high; with `integers` only whole ones, perhaps fewer."""
    if high <= low:
        margin = abs(low) * 0.1 or 1.0
        low, high = (0.0, 2 * margin) if low == 0 else (low - margin, high + margin)
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    step = max(1.0, math.ceil(step)) if integers else step
    first, final = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{i * step:.12g}") for i in range(first, final + 1)]


def format_ticks(ticks: Sequence[float]) -> list[str]:
    """Return labels with as many decimals as the tick distance needs; large numbers in thousands or millions."""
    largest = max(map(abs, ticks))
    divisor, suffix = (1e6, "M") if largest >= 1e7 else (1e3, "k") if largest >= 1e5 else (1.0, "")
    step = (ticks[1] - ticks[0]) / divisor
    if step < 1e-4 and largest < 100 * step:
        return [f"{tick:.4g}".replace("e-0", "e-") for tick in ticks]
    decimals = next(n for n in range(13) if n == 12 or abs(step - round(step, n)) < step * 1e-6)
    return [f"{tick / divisor:,.{decimals}f}{suffix}" if tick else "0" for tick in ticks]


def format_reading(value: float) -> str:
    """Format with four significant digits, like the page's script."""
    if value == 0:
        return "0"
    if abs(value) < 1e-4:
        return f"{value:.2e}".replace("e-0", "e-")
    return f"{value:,.{max(0, 3 - math.floor(math.log10(abs(value))))}f}"


def shorten_count(n: float) -> str:
    """Format a count with at most four characters, the width of a bar."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if n >= size:
            return f"{n / size:.1f}{letter}" if n < 10 * size else f"{n / size:.0f}{letter}"
    return f"{n:,.0f}"


def _thin(curve: Curve) -> Curve:
    """Reduce the curve to about MAX_POINTS points; keeps extremes and both ends."""
    n = len(curve.steps)
    if n <= MAX_POINTS:
        return curve
    kept = {0, n - 1}
    size = 2 * n / MAX_POINTS
    for bucket in range(MAX_POINTS // 2):
        indices = range(int(bucket * size), min(n, int((bucket + 1) * size)))
        kept |= {min(indices, key=curve.values.__getitem__), max(indices, key=curve.values.__getitem__)}
    order = sorted(kept)
    return Curve(curve.name, [curve.steps[i] for i in order], [curve.values[i] for i in order], curve.style)
