"""Draw the plots of run.py and growth.py as SVG."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from turns import Row, find_ratio

mpl.rcParams |= {
    "svg.hashsalt": "llmkit",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def draw_ratios(rows: Sequence[Row], path: Path) -> None:
    """One bar per task and peer: llmkit's speedup, on a logarithmic axis; the line marks the peer's speed."""
    pairs = [
        (f"{row['work']}\n{peer}", find_ratio(row, peer)) for row in rows for peer in row["figures"] if peer != "llmkit"
    ]
    figure = Figure(figsize=(9, 1 + 0.36 * len(pairs)), layout="constrained")
    axes = figure.subplots()
    names, ratios = [name for name, _ in pairs], [ratio for _, ratio in pairs]
    colours = ["tab:blue" if ratio >= 1 else "tab:orange" for ratio in ratios]
    bars = axes.barh(range(len(pairs)), [ratio - 1 for ratio in ratios], left=1, color=colours)
    axes.bar_label(bars, [f"{ratio:.2f}" for ratio in ratios], padding=3)
    axes.set_yticks(range(len(pairs)), names, fontsize=7)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xticks([0.5, 1, 2, 5, 10, 20, 50], ["0.5", "1", "2", "5", "10", "20", "50"])
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xlabel("times as fast as the peer")
    figure.savefig(path, metadata={"Date": None})


def draw_growth(panels: Mapping[str, Sequence[tuple[float, float]]], units: Mapping[str, str], path: Path) -> None:
    """One panel per varied quantity: speed over its size, both axes logarithmic. `units` name the speeds."""
    figure = Figure(figsize=(10, 6), layout="constrained")
    for axes, (name, points) in zip(figure.subplots(2, 3).flat, panels.items(), strict=False):
        sizes, rates = zip(*points, strict=True)
        axes.plot(sizes, rates, marker="o")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks(sizes, [_short(size) for size in sizes], fontsize=7)
        axes.minorticks_off()
        ticks = sorted({min(rates), max(rates)})
        axes.set_yticks(ticks, [_short(rate) for rate in ticks])
        axes.set_ylim(min(rates) / 1.5, max(rates) * 1.5)
        axes.set_xlabel(name)
        axes.set_ylabel(units[name])
        axes.grid(axis="y", linewidth=0.3)
    for axes in list(figure.axes)[len(panels) :]:
        axes.remove()
    figure.savefig(path, metadata={"Date": None})


def _short(value: float) -> str:
    """`12.3M` for 12,345,678."""
    for letter, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"
