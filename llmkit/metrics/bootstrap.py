"""Percentile bootstrap intervals (Efron 1979).

A resample is stored as the number of times each row was drawn, so sums over it are matrix products. Work and memory are
bounded: resamples are drawn in chunks, and large data gets fewer resamples.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

MIN_RESAMPLES = 200
_MAX_WORK = 100_000_000
_CHUNK = 4_000_000
"""Maximum number of values in one array of a chunk: 32 MB."""

Weights = NDArray[np.float64]


@dataclass(frozen=True)
class Bootstrap:
    """Settings of bootstrap intervals, as recorded in metrics.json."""

    confidence: float = 0.95
    n_resamples: int = 1000
    seed: int = 0

    def bound(self, n_rows: int, n_columns: int = 1) -> "Bootstrap":
        """Return a copy with fewer resamples if data is large, to limit the work to seconds; at least 200 remain."""
        affordable = _MAX_WORK // (n_rows * (1 + n_columns // 16))
        return replace(self, n_resamples=min(self.n_resamples, max(MIN_RESAMPLES, affordable)))

    def intervals(self, parts: Iterable[Mapping[str, NDArray[Any]]]) -> dict[str, list[float]]:
        """Return the central interval [low, high] of each metric.

        Each element of `parts` maps metrics to their values in one chunk of resamples. Resamples in which a metric is
        NaN are left out. A metric gets no interval if all its values are NaN or equal: if all 20 rows are predicted
        correctly, resampling them cannot show how probable a wrong prediction is.
        """
        tails, chunks = [(1 - self.confidence) / 2, (1 + self.confidence) / 2], list(parts)
        draws = {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}
        defined = {name: values[np.isfinite(values)] for name, values in draws.items()}
        return {
            name: np.quantile(values, tails).tolist()
            for name, values in defined.items()
            if len(values) and not np.isclose(values.min(), values.max(), rtol=1e-12, atol=0)
        }

    def interval_of_all(self, n_rows: int, *, right: bool) -> list[float]:
        """Return the exact interval of an accuracy of 1 (`right`) or 0 on `n_rows` rows (Clopper and Pearson 1934)."""
        bound = float(((1 - self.confidence) / 2) ** (1 / n_rows))
        return [bound, 1.0] if right else [0.0, 1 - bound]


DEFAULT_BOOTSTRAP = Bootstrap()


def chunk_sizes(n_resamples: int, width: int) -> Iterator[int]:
    """Yield the number of resamples of each chunk; `width` is the number of values per resample."""
    size = max(1, _CHUNK // max(1, width))
    for begin in range(0, n_resamples, size):
        yield min(size, n_resamples - begin)


def sample_row_counts(n_resamples: int, n_rows: int, rng: np.random.Generator) -> Iterator[Weights]:
    """Yield chunks (b, n_rows) of counts: how often each resample contains each row."""
    for size in chunk_sizes(n_resamples, n_rows):
        draws = (rng.integers(n_rows, size=n_rows) for _ in range(size))
        yield np.stack([np.bincount(drawn, minlength=n_rows) for drawn in draws]).astype(np.float64)
