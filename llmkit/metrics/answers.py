"""Exact match and F1 of answers, as the official scripts of SQuAD 1.1, SQuAD 2.0 and CMRC 2018 compute them.

SQuAD (Rajpurkar et al. 2016, 2018) compares words, without case, punctuation and English articles. CMRC 2018 (Cui et
al. 2019) compares Chinese characters and Latin words; its F1 counts their longest common run. A prediction is scored
against the reference answer that it matches best. If a question has no answer, an empty prediction is right.

Intervals are bootstrap intervals over questions.
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from llmkit.metrics.bootstrap import DEFAULT_BOOTSTRAP, Bootstrap, sample_row_counts
from llmkit.metrics.treebank import split_words

Language = Literal["en", "zh"]
Rules = Literal["squad_1.1", "squad_2.0", "cmrc_2018"]
RULES: dict[str, str] = {
    "squad_1.1": "words, as the script of SQuAD 1.1",
    "squad_2.0": "words, as the script of SQuAD 2.0",
    "cmrc_2018": "characters, as the script of CMRC 2018",
}

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_CHINESE = re.compile("[\u4e00-\u9fa5]")
_LETTER = re.compile(r"[^\W\d_]")
_CHINESE_MARKS = frozenset("-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")
"""The punctuation that CMRC's script removes. The script compares single characters with a list in which the ellipsis
is a string of two characters, so it keeps the ellipsis.
"""
MIN_CHINESE_SHARE = 0.3
"""Minimum share of Chinese characters among the letters of Chinese text; a Chinese question may hold Latin names."""


def choose_language(texts: Iterable[str]) -> Language:
    """Return `zh` if at least MIN_CHINESE_SHARE of the letters are Chinese characters, else `en`."""
    n_chinese = n_letters = 0
    for text in texts:
        n_letters += len(_LETTER.findall(text))
        n_chinese += len(_CHINESE.findall(text))
    return "zh" if n_chinese and n_chinese >= MIN_CHINESE_SHARE * n_letters else "en"


def choose_rules(language: Language, *, has_unanswerable: bool) -> Rules:
    """Return the script whose rules apply.

    The rules of SQuAD 2.0 differ from those of 1.1 only for answers without words after normalization, such as `The`.
    """
    if language == "zh":
        return "cmrc_2018"
    return "squad_2.0" if has_unanswerable else "squad_1.1"


def score_answer(prediction: str, answers: Sequence[str], rules: Rules) -> tuple[bool, float]:
    """Return exact match and F1 of a prediction, each against its best reference answer.

    An empty prediction states that the question has no answer, which is right if `answers` is empty.
    """
    answers = [each for each in answers if _normalize(each)] if rules == "squad_2.0" else list(answers)
    if not answers:
        is_right = not (prediction.strip() if rules == "cmrc_2018" else _normalize(prediction))
        return is_right, float(is_right)
    if rules == "cmrc_2018":
        exact = any(_strip_marks(prediction) == _strip_marks(answer) for answer in answers)
        found = _split_mixed(prediction)
        return exact, max(_run_f1(found, _split_mixed(answer)) for answer in answers)
    words = _normalize(prediction)
    overlap: Callable[[list[str], list[str]], float] = _word_f1 if rules == "squad_1.1" else _word_f1_or_equal
    normalized = [_normalize(answer) for answer in answers]
    return words in normalized, max(overlap(words, each) for each in normalized)


def _normalize(text: str) -> list[str]:
    """Return the words in lower case, without ASCII punctuation and English articles."""
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def _word_f1(prediction: list[str], answer: list[str]) -> float:
    n_same = sum((Counter(prediction) & Counter(answer)).values())
    return 2 * n_same / (len(prediction) + len(answer)) if n_same else 0.0


def _word_f1_or_equal(prediction: list[str], answer: list[str]) -> float:
    return _word_f1(prediction, answer) if prediction and answer else float(prediction == answer)


def _strip_marks(text: str) -> str:
    return "".join(char for char in text.lower().strip() if char not in _CHINESE_MARKS)


def _split_mixed(text: str) -> list[str]:
    """Split text into single Chinese characters and the words between them."""
    tokens: list[str] = []
    for piece in re.split("([\u4e00-\u9fa5])", _strip_marks(text)):
        tokens += [piece] if _CHINESE.fullmatch(piece) else split_words(piece)
    return tokens


def _run_f1(prediction: list[str], answer: list[str]) -> float:
    """Return the F1 of the longest common run of tokens."""
    longest, lengths = 0, [0] * (len(answer) + 1)
    for token in prediction:
        # lengths[j + 1]: the length of the common run that ends here and at answer[j]
        lengths = [0, *(lengths[j] + 1 if token == other else 0 for j, other in enumerate(answer))]
        longest = max(longest, max(lengths))
    return 2 * longest / (len(prediction) + len(answer)) if longest else 0.0


@dataclass(frozen=True)
class AnswerScores:
    """Scores of predicted answers; all arrays have one entry per question."""

    exact: NDArray[np.bool_]
    f1: NDArray[np.float64]
    is_answerable: NDArray[np.bool_]
    is_answered: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.exact)


def score_answers(predictions: Sequence[str], references: Sequence[Sequence[str]], rules: Rules) -> AnswerScores:
    """Score one prediction per question against its reference answers (none: it has no answer)."""
    pairs = [score_answer(*each, rules) for each in zip(predictions, references, strict=True)]
    return AnswerScores(
        np.array([exact for exact, _ in pairs], bool),
        np.array([f1 for _, f1 in pairs], np.float64),
        np.array([bool(answers) for answers in references], bool),
        np.array([bool(prediction) for prediction in predictions], bool),
    )


def measure_answers(scores: AnswerScores, bootstrap: Bootstrap = DEFAULT_BOOTSTRAP) -> dict[str, Any]:
    """Return all metrics with their intervals.

    If some questions have an answer and others do not, both groups also have metrics of their own.
    """
    values = {"exact_match": scores.exact.astype(np.float64), "answer_f1": scores.f1}
    columns = {name: (value, np.ones(len(scores))) for name, value in values.items()}
    yes = scores.is_answerable.astype(np.float64)
    if 0 < yes.sum() < len(yes):
        columns |= {f"{name}_answerable": (value, yes) for name, value in values.items()}
        columns["no_answer_accuracy"] = (values["exact_match"], 1 - yes)
    metrics: dict[str, Any] = {
        "n_questions": len(scores),
        "n_answerable": int(yes.sum()),
        "n_answered": int(scores.is_answered.sum()),
    }
    metrics |= {name: float((value * weight).sum() / weight.sum()) for name, (value, weight) in columns.items()}
    bootstrap = bootstrap.bound(len(scores), len(columns))
    weighted = np.stack([value * weight for value, weight in columns.values()], axis=1)
    weights = np.stack([weight for _, weight in columns.values()], axis=1)

    def resample() -> Iterable[dict[str, NDArray[Any]]]:
        for counts in sample_row_counts(bootstrap.n_resamples, len(scores), np.random.default_rng(bootstrap.seed)):
            with np.errstate(invalid="ignore"):  # NaN: a resample without such questions; intervals leave it out
                means = (counts @ weighted) / (counts @ weights)
            yield dict(zip(columns, means.T, strict=True))

    intervals = bootstrap.intervals(resample())
    for name, (_, weight) in columns.items():
        if metrics[name] in (0.0, 1.0):  # all questions score the same, so all resamples do
            is_all = metrics[name] == 1.0
            intervals[name] = bootstrap.interval_of_all(int(weight.sum()), right=is_all)
    method = {"confidence": bootstrap.confidence, "n_resamples": bootstrap.n_resamples, "seed": bootstrap.seed}
    return metrics | {"intervals": intervals, "method": method}


def choose_threshold(no_answer_scores: NDArray[np.float64], f1: NDArray[np.float64], answerable: NDArray[Any]) -> float:
    """Return the threshold with the highest mean F1: questions with a no-answer score above it get no answer.

    `f1` is the F1 of the best non-empty prediction for each question. Ties take the threshold closest to 0.
    """
    order = np.argsort(no_answer_scores, kind="stable")
    scores, gains = no_answer_scores[order], np.where(answerable, f1, -1.0)[order]
    # Answering the first k questions gains the F1 of each answerable one, and loses 1 for each of the others.
    totals = np.append(0.0, np.cumsum(gains))
    edges = np.concatenate([[scores[0] - 2.0], scores, [scores[-1] + 2.0]])
    cuts = (edges[:-1] + edges[1:]) / 2
    is_cut = np.append(True, np.append(np.diff(scores) > 0, True))  # no threshold separates equal scores
    zero = np.searchsorted(scores, 0.0, side="right")
    cuts = np.where(np.arange(len(cuts)) == zero, 0.0, cuts)
    best = totals[is_cut].max()
    candidates = cuts[is_cut & (totals >= best - 1e-9)]
    return float(candidates[np.argmin(np.abs(candidates))])
