"""The word-overlap baseline: the sliding window of Richardson et al. 2013 (MCTest, section 4), on spans of a context.

A candidate is a span with the median length of the train answers, inside one sentence, with as few words of the
question as possible. A window, as long as the question and a candidate together, slides over the context. The score of
a window is the sum of log(1 + 1 / count) over the question words in it, where count is how often the word occurs in the
context. The score of a candidate is that of the best window around it. In Chinese, characters are words.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from llmkit.metrics.answers import AnswerScores, Rules, choose_threshold, score_answers
from llmkit.tables.questions import Question

_WORD = re.compile("[\u3400-\u9fff\uf900-\ufaff]|[^\\W_\u3400-\u9fff\uf900-\ufaff]+")
_SENTENCE_END = re.compile(r"[.!?。！？；\n]")
MAX_CONTEXT_CHARACTERS = 50_000
"""Maximum number of characters of a context to read."""


class Guess(NamedTuple):
    """An answer of the baseline, with the score of its window."""

    text: str
    score: float


@dataclass(frozen=True)
class WordOverlap:
    """The fitted baseline."""

    n_words: int
    """Number of words of each answer: the median of the train answers."""
    min_score: float = -np.inf
    """Minimum score of an answer; if the best answer has a lower score, the question gets no answer."""

    def predict(self, questions: Sequence[Question]) -> list[str]:
        """Return one answer per question."""
        return [each.text if each.score >= self.min_score else "" for each in self._guess(questions)]

    def _guess(self, questions: Sequence[Question]) -> Iterator[Guess]:
        return (guess_answer(each.question, each.context, self.n_words) for each in questions)

    def with_threshold(self, questions: Sequence[Question], rules: Rules) -> "WordOverlap":
        """Return a copy that may give no answer; its `min_score` is the one with the best F1 on these questions."""
        guesses = list(self._guess(questions))
        scores = score_answers([each.text for each in guesses], [each.references for each in questions], rules)
        values = np.array([-each.score for each in guesses])
        return WordOverlap(self.n_words, -choose_threshold(values, scores.f1, scores.is_answerable))

    def score(self, questions: Sequence[Question], rules: Rules) -> AnswerScores:
        """Return the scores of the baseline's answers."""
        return score_answers(self.predict(questions), [each.references for each in questions], rules)


def fit_word_overlap(questions: Sequence[Question]) -> WordOverlap:
    """Return the baseline for train questions."""
    lengths = [len(_WORD.findall(each.answers[0].text)) for each in questions if each.answers]
    return WordOverlap(max(1, int(np.median(lengths)) if lengths else 1))


def guess_answer(question: str, context: str, n_words: int) -> Guess:
    """Return the candidate of `n_words` words with the best window; of several, the first one."""
    matches = list(_WORD.finditer(context[:MAX_CONTEXT_CHARACTERS]))
    if not matches:
        return Guess("", -np.inf)
    n_words = min(n_words, len(matches))
    words = [match[0].casefold() for match in matches]
    asked, counts = {match.casefold() for match in _WORD.findall(question)}, Counter(words)
    is_asked = np.array([word in asked for word in words])
    weights = np.array([np.log1p(1 / counts[word]) for word in words]) * is_asked
    size = max(1, len(asked)) + n_words
    # Windows may extend beyond the ends of the context, so that all candidates are in the same number of windows.
    sums = np.convolve(weights, np.ones(size))  # sums[i]: the window that ends at word i
    reach = size - n_words + 1
    padded = np.pad(sums[n_words - 1 :], (0, max(0, reach)))
    best = np.lib.stride_tricks.sliding_window_view(padded, reach).max(1)[: len(words) - n_words + 1]
    ends = [_SENTENCE_END.search(context, one.end(), other.start()) is not None for one, other in pairwise(matches)]
    n_ends = np.append(0, np.cumsum([*ends, False]))  # sentence ends before each word
    n_asked = np.convolve(is_asked, np.ones(n_words, int))[n_words - 1 : len(words)]
    cost = n_asked + len(words) * (n_ends[n_words - 1 : len(words)] - n_ends[: len(n_asked)])
    free = cost == cost.min()
    place = int(np.argmax(np.where(free, best, -1.0)))
    first, last = matches[place], matches[place + n_words - 1]
    return Guess(context[first.start() : last.end()], float(best[place]))
