"""Bootstrap intervals equal those of SciPy; their work and memory are bounded."""

import numpy as np
import pytest
from scipy import stats

from llmkit.metrics import bootstrap
from llmkit.metrics.bootstrap import MIN_RESAMPLES, Bootstrap, chunk_sizes, sample_row_counts


def test_interval_of_a_mean_equals_the_percentile_bootstrap_of_scipy() -> None:
    values = np.random.default_rng(0).exponential(size=80)
    weights = sample_row_counts(6000, 80, np.random.default_rng(1))
    found = Bootstrap(0.9).intervals({"mean": each @ values / 80} for each in weights)["mean"]
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=6000, confidence_level=0.9, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    assert found == pytest.approx([expected.low, expected.high], abs=0.05 * (expected.high - expected.low))


def test_resamples_have_all_rows_with_equal_frequency() -> None:
    counts = np.concatenate(list(sample_row_counts(2000, 10, np.random.default_rng(0))))
    assert counts.shape == (2000, 10)
    assert (counts.sum(1) == 10).all()
    assert counts.mean(0) == pytest.approx(np.ones(10), abs=0.1)
    assert (counts == 0).mean() == pytest.approx(0.9**10, abs=0.02), "rows are put back"


def test_chunks_have_bounded_size_and_do_not_change_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.concatenate(list(sample_row_counts(50, 10, np.random.default_rng(0))))
    monkeypatch.setattr(bootstrap, "_CHUNK", 70)
    chunks = list(sample_row_counts(50, 10, np.random.default_rng(0)))
    assert [len(chunk) for chunk in chunks] == [7] * 7 + [1]
    assert (np.concatenate(chunks) == whole).all()
    assert list(chunk_sizes(3, 10**9)) == [1, 1, 1], "one at a time, however wide"


def test_many_rows_get_fewer_resamples_but_at_least_200() -> None:
    def bound(n_resamples: int, n_rows: int, n_columns: int = 1) -> int:
        return Bootstrap(n_resamples=n_resamples).bound(n_rows, n_columns).n_resamples

    assert bound(1000, 100) == 1000
    assert bound(100, 100) == 100
    found = [bound(10_000, 10**n) for n in range(1, 10)]
    assert found == sorted(found, reverse=True)
    assert found[-1] == MIN_RESAMPLES
    assert bound(50, 10**9) == 50
    assert bound(10_000, 100_000, 160) < bound(10_000, 100_000)


def test_undefined_resamples_are_skipped_and_undefined_metrics_have_no_interval() -> None:
    draws = [{"f1": np.array([0.0, np.nan]), "never": np.full(2, np.nan)}]
    draws += [{"f1": np.array([1.0, np.inf, 0.5]), "never": np.full(3, np.nan)}]
    assert Bootstrap(0.5).intervals(draws) == {"f1": [0.25, 0.75]}
