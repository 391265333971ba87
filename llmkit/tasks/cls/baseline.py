"""The n-gram baseline: a linear model over words and characters that is trained on the same rows in seconds.

Features are TF-IDF weights of words, of pairs of words, and of 1 to 5 adjacent characters, so that Chinese, which has
no spaces, has features too. The model is scikit-learn's logistic regression, with one regression per label if a row may
have several labels, or ridge regression if the labels are numbers. Work and memory are bounded: large data is sampled
and long texts are cut. The result depends only on the rows and the version of scikit-learn.

Imports scikit-learn when a baseline is fitted, not before.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from llmkit.core.console import count
from llmkit.metrics.bootstrap import Bootstrap
from llmkit.tasks.cls.label_type import LabelType
from llmkit.tasks.cls.metrics import NGRAM_BASELINE

MAX_TEXT_CHARACTERS = 5_000
"""Maximum number of characters to read from a text: about twice as many as a block of 512 tokens holds."""
MAX_KEPT_CHARACTERS = 400_000_000
"""Maximum number of characters in all rows. With more, no baseline is fitted: the texts would fill the memory."""
MAX_TRAIN_ROWS = 50_000
MAX_TRAIN_CHARACTERS = 25_000_000
MAX_CHARACTERS_FOR_LONG_NGRAMS = 6_000_000
"""If the train texts have more characters, n-grams have up to 2 characters instead of 5."""
MAX_WEIGHTS = 4_000_000
"""Maximum product of features and labels; the solver keeps about 25 vectors of this length."""
MAX_WORK = 4e9
"""Maximum product of stored features, labels and iterations: about 10 seconds on one core."""
MIN_ITERATIONS, MAX_ITERATIONS = 20, 100
MIN_ROWS = 1_000
N_BUCKETS = 2**20
"""Number of columns that each kind of n-gram is hashed into."""
INVERSE_PENALTY = 10.0
"""`C` of the logistic regression. Between 3 and 30, the accuracy on five data sets changed by less than one point."""
ROWS_AT_ONCE = 10_000

Texts = Sequence[tuple[str, str]]
"""The text of each row and the second text of a pair, which is empty for single texts."""
ClassWeights = Literal["none", "balanced"] | Mapping[int, float]
Predict = Callable[[Any], NDArray[np.float64]]
"""Maps a sparse matrix of features to outputs."""


def cut_text(text: str, pair: str | None) -> tuple[str, str]:
    """Return the part of a row's texts that the baseline reads."""
    return text[:MAX_TEXT_CHARACTERS], (pair or "")[:MAX_TEXT_CHARACTERS]


@dataclass(frozen=True)
class BaselineOutputs:
    """The baseline's predictions for the rows of a split."""

    outputs: NDArray[Any]
    """Probabilities (rows, labels) or numbers (rows,)."""
    thresholds: NDArray[np.float64]
    """(labels,), tuned on the validation rows, like the model's thresholds."""
    method: dict[str, Any]

    def take(self, rows: NDArray[np.int64]) -> "BaselineOutputs":
        """Return the outputs of the rows at these indices."""
        return replace(self, outputs=self.outputs[rows])


def measure_baseline(
    baseline: BaselineOutputs, label_type: LabelType, labels: NDArray[Any], names: list[str], bootstrap: Bootstrap
) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """Return (main metrics of the baseline, their intervals) for metrics.json, on the rows that score the model."""
    outputs = baseline.outputs.astype(np.float64)
    found = label_type.measure(labels, outputs, names, baseline.thresholds, bootstrap)
    keys = [metric.key for metric in label_type.metrics.headlines]
    metrics = {f"{NGRAM_BASELINE}_{key}": found[key] for key in keys if key in found}
    intervals = {f"{NGRAM_BASELINE}_{key}": found["intervals"][key] for key in keys if key in found["intervals"]}
    return {NGRAM_BASELINE: baseline.method, **metrics}, intervals


def fit_and_predict(
    texts: Mapping[str, Texts], labels: Mapping[str, NDArray[Any]], label_type: LabelType, n_labels: int,
    class_weights: ClassWeights,
) -> tuple[dict[str, BaselineOutputs], str]:  # fmt: skip
    """Fit the baseline to the split `train`; return its outputs for the other splits, and a note.

    If an output is not finite, no outputs are returned, and the note says so.
    """
    model = fit_baseline(texts["train"], labels["train"], n_labels, class_weights)
    outputs = {name: model.predict(rows) for name, rows in texts.items() if name != "train"}
    if not all(np.isfinite(each).all() for each in outputs.values()):
        return {}, "no n-gram baseline: its predictions are not finite, because the labels are too large"
    thresholds = np.full(n_labels, 0.5)
    if "validation" in outputs:
        thresholds = label_type.best_thresholds(labels["validation"], outputs["validation"], n_labels)
    found = {
        name: BaselineOutputs(each if each.ndim == 1 else each.astype(np.float32), thresholds, model.method)
        for name, each in outputs.items()
    }
    of = f"{model.method['n_train_rows']:,} of {len(texts['train']):,} train rows"
    n_cut = sum(max(map(len, row)) >= MAX_TEXT_CHARACTERS for rows in texts.values() for row in rows)
    cut = f"; {count(n_cut, 'row')} cut to the first {MAX_TEXT_CHARACTERS:,} characters" if n_cut else ""
    return found, f"n-gram baseline: {model.method['model']}, fitted on {of}{cut}"


@dataclass(frozen=True)
class NgramModel:
    """A fitted baseline."""

    features: "NgramFeatures"
    predict_features: Predict
    method: dict[str, Any]
    """How the baseline was fitted, for metrics.json."""

    def predict(self, texts: Texts) -> NDArray[np.float64]:
        """Return probabilities (rows, labels) or numbers (rows,), in the form of a label type's outputs."""
        chunks = (texts[begin : begin + ROWS_AT_ONCE] for begin in range(0, len(texts), ROWS_AT_ONCE))
        return np.concatenate([self.predict_features(self.features.transform(chunk)) for chunk in chunks])


def fit_baseline(texts: Texts, labels: NDArray[Any], n_labels: int, class_weights: ClassWeights = "none") -> NgramModel:
    """Fit the baseline to `labels`: (n,) ids, (n, labels) zeros and ones, or (n,) numbers, which are floats.

    `class_weights` are the recipe's class weights, by label id.
    """
    rows = _sample_rows(texts)
    features = NgramFeatures([texts[row] for row in rows])
    n_outputs = 1 if labels.dtype.kind == "f" else n_labels
    matrix = features.fit_transform([texts[row] for row in rows], max(1, MAX_WEIGHTS // n_outputs))
    n_affordable = int(MAX_WORK * len(rows) / max(1, MIN_ITERATIONS * n_outputs * matrix.nnz))
    if n_affordable < len(rows):
        kept = np.sort(np.random.default_rng(0).permutation(len(rows))[: max(MIN_ROWS, n_affordable)])
        rows, matrix = rows[kept], matrix[kept]
    max_iter = int(min(MAX_ITERATIONS, max(MIN_ITERATIONS, MAX_WORK / max(1, matrix.nnz * n_outputs))))
    with warnings.catch_warnings(), threadpool_limits(1, "blas"):  # the order of sums depends on the threads
        warnings.simplefilter("ignore")  # solvers warn if they reach the maximum number of iterations
        if labels.dtype.kind == "f":
            name, predict = "ridge regression", _fit_ridge(matrix, labels[rows])
        elif labels.ndim == 2:
            name = "one logistic regression per label"
            predict = _fit_labels(matrix, labels[rows], class_weights, max_iter)
        else:
            name = "logistic regression"
            predict = _fit_classes(matrix, labels[rows], n_labels, class_weights, max_iter)
    described = f"{name} on TF-IDF of words (1-2) and characters (1-{features.longest})"
    method = {"model": described, "n_train_rows": len(rows), "n_features": int(matrix.shape[1])}
    return NgramModel(features, predict, method)


def _sample_rows(texts: Texts) -> NDArray[np.int64]:
    """Return the indices of the rows to train on, ascending: all rows, or a fixed sample if there are too many."""
    order = np.random.default_rng(0).permutation(len(texts))[:MAX_TRAIN_ROWS]
    lengths = np.array([len(texts[row][0]) + len(texts[row][1]) for row in order])
    n_rows = int(np.searchsorted(np.cumsum(lengths), MAX_TRAIN_CHARACTERS, side="right"))
    return np.sort(order[: max(1, n_rows)])


class NgramFeatures:
    """TF-IDF of hashed n-grams.

    Each text of a pair has its own columns. Pairs also have one column per kind of n-gram: the cosine similarity.
    """

    def __init__(self, texts: Texts) -> None:
        from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

        n_characters = sum(len(text) + len(pair) for text, pair in texts)
        self.longest = 5 if n_characters <= MAX_CHARACTERS_FOR_LONG_NGRAMS else 2
        kinds = (
            {"analyzer": "word", "ngram_range": (1, 2), "token_pattern": r"(?u)\w+|[^\w\s]"},
            {"analyzer": "char_wb", "ngram_range": (1, self.longest)},
        )
        shared = {"n_features": N_BUCKETS, "norm": None, "alternate_sign": False, "dtype": np.float32}
        self._vectorizers = [HashingVectorizer(**kind, **shared) for kind in kinds]
        self._transformers = [TfidfTransformer(sublinear_tf=True) for _ in kinds]
        self._has_pairs = any(pair for _, pair in texts)
        self._columns: NDArray[np.int64] = np.zeros(0, np.int64)

    def fit_transform(self, texts: Texts, max_columns: int) -> Any:
        """Return the train rows as a sparse float32 matrix (rows, features).

        Keeps the columns that the train rows use. If there are more than `max_columns`, keeps the most frequent ones.
        """
        counts = self._count(texts)
        for transformer, of_kind in zip(self._transformers, counts, strict=True):
            transformer.fit(sum(of_kind[1:], of_kind[0]))
        matrix = self._weigh(counts)
        n_rows = matrix.getnnz(0)
        used = np.flatnonzero(n_rows)
        if len(used) > max_columns:
            used = np.sort(used[np.argsort(-n_rows[used], kind="stable")[:max_columns]])
        self._columns = used if len(used) else np.zeros(1, np.int64)
        return matrix[:, self._columns]

    def transform(self, texts: Texts) -> Any:
        """Return a sparse float32 matrix (rows, features) with the columns of the train rows."""
        return self._weigh(self._count(texts))[:, self._columns]

    def _count(self, texts: Texts) -> list[list[Any]]:
        """Return, for each kind of n-gram, the counts in the first text and, for pairs, in the second text."""
        sides = list(zip(*texts, strict=True))[: 1 + self._has_pairs]
        return [[vectorizer.transform(side) for side in sides] for vectorizer in self._vectorizers]

    def _weigh(self, counts: list[list[Any]]) -> Any:
        from scipy import sparse

        blocks = []
        for transformer, of_kind in zip(self._transformers, counts, strict=True):
            weighed = [transformer.transform(side) for side in of_kind]
            blocks += weighed
            if self._has_pairs:
                blocks.append(sparse.csr_matrix(weighed[0].multiply(weighed[1]).sum(1)))
        return sparse.hstack(blocks, format="csr", dtype=np.float32)


def _fit_ridge(matrix: Any, targets: NDArray[np.float64]) -> Predict:
    from sklearn.linear_model import Ridge

    mean, std = float(targets.mean()), float(targets.std()) or 1.0
    model = Ridge(alpha=1.0, solver="sparse_cg", tol=1e-3).fit(matrix, (targets - mean) / std)
    return lambda features: model.predict(features).astype(np.float64) * std + mean


def _fit_classes(
    matrix: Any, labels: NDArray[np.int64], n_labels: int, class_weights: ClassWeights, max_iter: int
) -> Predict:
    known = np.unique(labels)  # a sample of the rows may lack some labels
    weights = class_weights
    if not isinstance(weights, str):
        weights = {number: weight for number, weight in weights.items() if number in known}
    model = _logistic_regression(weights, max_iter).fit(matrix, labels) if len(known) > 1 else None

    def predict(features: Any) -> NDArray[np.float64]:
        probabilities = np.zeros((features.shape[0], n_labels))
        probabilities[:, known] = 1.0 if model is None else model.predict_proba(features)
        return probabilities

    return predict


def _fit_labels(matrix: Any, labels: NDArray[Any], class_weights: ClassWeights, max_iter: int) -> Predict:
    models: list[Any] = []
    for number, marks in enumerate(labels.T):
        weights = class_weights if isinstance(class_weights, str) else {0: 1.0, 1: class_weights.get(number, 1.0)}
        is_constant = marks.min() == marks.max()
        models.append(float(marks[0]) if is_constant else _logistic_regression(weights, max_iter).fit(matrix, marks))

    def predict(features: Any) -> NDArray[np.float64]:
        columns = [
            np.full(features.shape[0], each) if isinstance(each, float) else each.predict_proba(features)[:, 1]
            for each in models
        ]
        return np.stack(columns, axis=1).astype(np.float64)

    return predict


def _logistic_regression(class_weights: ClassWeights, max_iter: int) -> Any:
    from sklearn.linear_model import LogisticRegression

    weights = None if class_weights == "none" else class_weights
    return LogisticRegression(C=INVERSE_PENALTY, max_iter=max_iter, class_weight=weights)
