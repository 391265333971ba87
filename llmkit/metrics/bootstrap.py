"""Percentile bootstrap intervals (Efron 1979).

A resample is stored as the number of times each row was drawn, so sums over it are matrix products. Work and memory are
bounded: resamples come in chunks, and large data gets fewer resamples.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

MIN_RESAMPLES = 200
_MAX_WORK = 100_000_000
_CHUNK = 4_000_000
"""Numbers in one array of a chunk: 32 MB."""

Weights = NDArray[np.float64]


def bound_resamples(n_resamples: int, n_rows: int, n_columns: int = 1) -> int:
    """As many resamples as asked for, but no more than a few seconds' worth, and then at least 200."""
    affordable = _MAX_WORK // (n_rows * (1 + n_columns // 16))
    return min(n_resamples, max(MIN_RESAMPLES, affordable))


def chunk_sizes(n_resamples: int, width: int) -> Iterator[int]:
    """How many resamples to draw at a time if each takes `width` numbers."""
    size = max(1, _CHUNK // max(1, width))
    for begin in range(0, n_resamples, size):
        yield min(size, n_resamples - begin)


def draw_rows(n_resamples: int, n_rows: int, rng: np.random.Generator) -> Iterator[Weights]:
    """Chunks (b, n_rows): how often each resample holds each row."""
    for size in chunk_sizes(n_resamples, n_rows):
        draws = (rng.integers(n_rows, size=n_rows) for _ in range(size))
        yield np.stack([np.bincount(drawn, minlength=n_rows) for drawn in draws]).astype(np.float64)


def intervals_of(draws: Mapping[str, NDArray[Any]], confidence: float) -> dict[str, list[float]]:
    """The central share of each figure's draws as [low, high].

    Draws in which a figure is not defined (NaN) are left out, and the figure if it never is.
    """
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    defined = {name: values[np.isfinite(values)] for name, values in draws.items()}
    return {name: np.quantile(values, tails).tolist() for name, values in defined.items() if len(values)}
