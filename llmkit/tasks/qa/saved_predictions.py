"""Scores of the held-out questions of a run, saved in its folder, so that `compare` can test two runs.

For each question, the file has the hash of its texts, the hash of its reference answers, exact match and F1. Does not
import torch.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmkit.metrics.answers import AnswerScores
from llmkit.metrics.paired import PairedTest, compare_correctness, compare_paired
from llmkit.tables.questions import Question
from llmkit.tasks.saved_arrays import Arrays, load_arrays, save_arrays


class SavedScores(NamedTuple):
    """Scores of one split; the arrays have one entry per question, in the order of `keys` and `references`."""

    rules: str
    keys: NDArray[np.uint64]
    references: NDArray[np.uint64]
    exact: NDArray[np.bool_]
    f1: NDArray[np.float64]


def save_scores(
    run: Path, split: str, rules: str, keys: NDArray[np.uint64], questions: list[Question], scores: AnswerScores
) -> None:
    """Write the scores of a split to a run folder, atomically."""
    references = np.array([_hash_references(each) for each in questions], np.uint64)
    arrays: Arrays = {"keys": keys, "references": references, "exact": scores.exact.astype(np.uint8), "f1": scores.f1}
    save_arrays(run, split, arrays, {"rules": rules})


def load_scores(run: Path, split: str) -> SavedScores | None:
    """Return the scores of a split; None if the run has none.

    Raises:
        ModelError: the file is damaged.
    """
    return load_arrays(run, split, _parse)


def _parse(arrays: Arrays, facts: Mapping[str, str]) -> SavedScores:
    keys, references, exact, f1 = (arrays[name] for name in ("keys", "references", "exact", "f1"))
    n = len(keys)
    if keys.dtype != np.uint64 or references.dtype != np.uint64 or exact.dtype != np.uint8 or f1.dtype != np.float64:
        raise ValueError("arrays of the wrong type")
    if not n or any(each.shape != (n,) for each in (keys, references, exact, f1)):
        raise ValueError("arrays of the wrong size")
    if exact.max() > 1 or not bool(((f1 >= 0) & (f1 <= 1)).all()):
        raise ValueError("scores out of range")
    order = np.lexsort((exact, f1, references, keys))
    return SavedScores(facts["rules"], keys[order], references[order], exact[order].astype(bool), f1[order])


def compare_scores(first: SavedScores, second: SavedScores, metric: str) -> PairedTest | None:
    """Test the difference of a metric between two runs; None if the questions or the rules are not the same, or if the
    metric cannot be computed from these scores.
    """
    is_same = np.array_equal(first.keys, second.keys) and np.array_equal(first.references, second.references)
    if first.rules != second.rules or not is_same:
        return None
    if metric == "exact_match":
        return compare_correctness(first.exact, second.exact)
    if metric == "answer_f1":
        return compare_paired(np.zeros(len(first.f1)), first.f1, second.f1, lambda _, values: float(values.mean()))
    return None


def _hash_references(question: Question) -> int:
    text = repr(sorted(question.references)).encode("utf-8", "replace")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
