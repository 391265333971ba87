"""Choose the best answers of a question from the scores of its windows.

The score of a span is the sum of the start score of its first token and the end score of its last. If several windows
hold the span, the highest score counts. Spans lie inside the context, start and end at visible characters and have at
most `max_answer_length` tokens. Probabilities are normalized over all spans of all windows (Clark and Gardner 2018)
and, if the model may give no answer, also over "no answer", which has its lowest score in any window (Devlin et al.
2019, section 4.3).
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]


class WindowScores(NamedTuple):
    """The scores of one window for the tokens of its part of the context."""

    begin: int
    """Number of the window's first context token."""
    starts: NDArray[np.floating]
    ends: NDArray[np.floating]
    null: float
    """Start plus end score of the token that stands for no answer."""


class Span(NamedTuple):
    """A span of context tokens."""

    first: int
    last: int
    score: float


class Spans(NamedTuple):
    """The best spans of a question, best first, and what their probabilities are normalized by."""

    best: list[Span]
    log_total: float
    """Logarithm of the summed exponentials of the scores of all spans; -inf if there is none."""
    null: float
    """Score of no answer."""

    @property
    def no_answer_score(self) -> float:
        """Score of no answer minus that of the best answer; infinite if there is no span."""
        return self.null - self.best[0].score if self.best else np.inf

    def probability(self, score: float, *, may_decline: bool) -> float:
        """Return the probability of a span, or of no answer, with this score."""
        total = np.logaddexp(self.log_total, self.null) if may_decline else self.log_total
        return float(np.exp(score - total)) if np.isfinite(total) else 1.0


def find_spans(
    windows: Sequence[WindowScores], visible: NDArray[np.bool_], max_answer_length: int, n_best: int
) -> Spans:
    """Return the `n_best` spans of a question. `visible` says which context tokens an answer may start or end with."""
    best: list[Span] = []
    log_total = -np.inf
    max_answer_length = min(max_answer_length, max(1, *(len(window.starts) for window in windows)))
    for begin, scores in _merge(windows, visible, max_answer_length):
        if not scores.size:
            continue
        highest = float(scores.max())
        if highest == -np.inf:
            continue
        log_total = float(np.logaddexp(log_total, highest + np.log(np.exp(scores - highest).sum())))
        if len(best) < n_best or highest > best[-1].score:
            best = _keep_best(best, scores, begin, n_best)
    return Spans(best, log_total, min(window.null for window in windows))


def _keep_best(best: list[Span], scores: Scores, begin: int, n_best: int) -> list[Span]:
    """Merge the highest of the `scores` (tokens, lengths) into the best spans; ties keep the order of the text."""
    flat = scores.ravel()
    n_kept = min(n_best, len(flat))
    places = np.argpartition(-flat, n_kept - 1)[:n_kept] if n_kept < len(flat) else np.arange(len(flat))
    for place in places[np.isfinite(flat[places])].tolist():
        first, extra = divmod(place, scores.shape[1])
        best.append(Span(begin + first, begin + first + extra, float(flat[place])))
    return sorted(best, key=lambda span: (-span.score, span.first, span.last))[:n_best]


def _merge(
    windows: Sequence[WindowScores], visible: NDArray[np.bool_], max_answer_length: int
) -> Iterator[tuple[int, Scores]]:
    """Yield (first token, scores (tokens, lengths)) of the spans that start before the next window begins.

    Spans that are not allowed have the score -inf. Memory is bounded by the window, not by the context.
    """
    open_begin, open_scores = 0, np.full((0, max_answer_length), -np.inf)
    for number, window in enumerate(windows):
        scores = _score_window(window, visible, max_answer_length)
        n_shared = len(open_scores)  # the first tokens of this window, which earlier windows hold too
        n_tokens = max(n_shared, len(scores))
        merged = np.full((n_tokens, max_answer_length), -np.inf)
        merged[: len(scores)] = scores
        np.maximum(merged[:n_shared], open_scores, out=merged[:n_shared])
        open_begin, open_scores = window.begin, merged
        if number + 1 < len(windows):
            n_final = windows[number + 1].begin - window.begin
            yield open_begin, merged[:n_final]
            open_scores = merged[n_final:]
    yield open_begin, open_scores


def _score_window(window: WindowScores, visible: NDArray[np.bool_], max_answer_length: int) -> Scores:
    """Return the scores (tokens, lengths) of the spans in a window; [t, n] is the span of n + 1 tokens from t on."""
    n_tokens = len(window.starts)
    is_visible = visible[window.begin : window.begin + n_tokens]
    starts = np.where(is_visible, window.starts.astype(np.float64), -np.inf)
    ends = np.full(n_tokens + max_answer_length, -np.inf)
    ends[:n_tokens] = np.where(is_visible, window.ends.astype(np.float64), -np.inf)
    lengths = np.lib.stride_tricks.sliding_window_view(ends, max_answer_length)[:n_tokens]
    scores: Scores = starts[:, None] + lengths
    return scores
