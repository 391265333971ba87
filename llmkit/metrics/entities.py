"""Precision, recall and F1 of entities, from lists of (first word, word after the last, type) per sentence.

A predicted entity is correct if it has the words and the type of a true one, as in conlleval and seqeval. MUC and
nervaluate also count in three other ways: `exact` ignores the type; `partial` ignores the type and counts an overlap as
half; `type` counts an overlap with an entity of the same type. Intervals are bootstrapped over sentences.

Independent of models and files.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmkit.metrics.bootstrap import Bootstrap, sample_row_counts
from llmkit.metrics.class_scores import average_rates, divide, rates_per_label

Entity = tuple[int, int, str]
MISSED, SPURIOUS = "(missed)", "(spurious)"
"""Stand for the type that is missing if a true entity was not predicted, or a predicted entity is not true."""


@dataclass(frozen=True)
class EntityCounts:
    """Correct, true and predicted entities by sentence and type, each (sentences, types)."""

    types: list[str]
    hits: NDArray[np.int64]
    n_true: NDArray[np.int64]
    n_predicted: NDArray[np.int64]


def count_entities(true: Sequence[Sequence[Entity]], predicted: Sequence[Sequence[Entity]]) -> EntityCounts:
    """Count the entities of each sentence; a hit has the same words and the same type."""
    types = sorted({entity[2] for sentences in (true, predicted) for entities in sentences for entity in entities})
    ids = {name: number for number, name in enumerate(types)}
    arrays = [np.zeros((len(true), len(types)), np.int64) for _ in range(3)]
    for row, (given, found) in enumerate(zip(true, predicted, strict=True)):
        for array, entities in zip(arrays, (set(given) & set(found), given, found), strict=True):
            for entity in entities:
                array[row, ids[entity[2]]] += 1
    return EntityCounts(types, *arrays)


def score_entities(counts: EntityCounts, bootstrap: Bootstrap) -> dict[str, Any]:
    """Return micro precision, recall and F1 (entity_f1 and so on), entity_f1_macro, entity_f1_weighted and intervals.

    With fewer than two sentences, or without entities, there are no intervals.
    """
    scores = {name: float(value) for name, value in _score(*(each.sum(0) for each in _arrays(counts))).items()}
    if len(counts.hits) < 2 or not counts.types:
        return scores
    bootstrap = bootstrap.bound(len(counts.hits), 3 * len(counts.types))
    rng = np.random.default_rng(bootstrap.seed)
    parts = [
        _score(*(weights @ each for each in _arrays(counts)))
        for weights in sample_row_counts(bootstrap.n_resamples, len(counts.hits), rng)
    ]
    method = {"confidence": bootstrap.confidence, "resamples": bootstrap.n_resamples, "resampled": "sentences"}
    return {**scores, "intervals": bootstrap.intervals(parts), "method": method}


def _arrays(counts: EntityCounts) -> tuple[NDArray[np.int64], ...]:
    return counts.hits, counts.n_true, counts.n_predicted


def _score(hits: NDArray[Any], n_true: NDArray[Any], n_predicted: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
    hits, n_true, n_predicted = (np.asarray(each, np.float64) for each in (hits, n_true, n_predicted))
    rates = average_rates(hits, n_true, n_predicted, (n_true > 0) | (n_predicted > 0))
    return {
        "entity_precision": rates["precision_micro"],
        "entity_recall": rates["recall_micro"],
        "entity_f1": rates["f1_micro"],
        "entity_f1_macro": rates["f1_macro"],
        "entity_f1_weighted": rates["f1_weighted"],
    }


def tabulate_types(counts: EntityCounts) -> list[dict[str, Any]]:
    """Return precision, recall, F1 and the numbers of true and predicted entities of each type; most frequent first."""
    hits, n_true, n_predicted = (each.sum(0) for each in _arrays(counts))
    rates = rates_per_label(hits, n_true, n_predicted)
    rows = [
        {
            "type": name,
            **{rate: float(values[number]) for rate, values in rates.items()},
            "n_true": int(n_true[number]),
            "n_predicted": int(n_predicted[number]),
        }
        for number, name in enumerate(counts.types)
    ]
    return sorted(rows, key=lambda row: (-row["n_true"], row["type"]))


def score_overlaps(true: Sequence[Sequence[Entity]], predicted: Sequence[Sequence[Entity]]) -> dict[str, float]:
    """Return entity_f1_exact, entity_f1_partial and entity_f1_type."""
    n_exact, n_partial, n_type = 0.0, 0.0, 0.0
    for given, found in zip(true, predicted, strict=True):
        places = {entity[:2] for entity in given}
        exact = sum(entity[:2] in places for entity in found)
        n_exact += exact
        n_partial += exact + 0.5 * (_match(given, found, by_type=False) - exact)
        n_type += _match(given, found, by_type=True)
    n_entities = sum(map(len, true)) + sum(map(len, predicted))
    found_of = {"exact": n_exact, "partial": n_partial, "type": n_type}
    return {f"entity_f1_{name}": float(divide(np.array(2 * n), np.array(n_entities))) for name, n in found_of.items()}


def _match(true: Sequence[Entity], predicted: Sequence[Entity], *, by_type: bool) -> int:
    """Return how many predictions overlap a true entity; each true entity is matched with at most one prediction.

    A prediction is matched with the entity of the same words, else with the first that it overlaps. If `by_type`, it is
    matched with the entity of its type whose edges are nearest, else with the first that it overlaps, which does not
    count.
    """
    free = list(true)
    n_matched = 0
    for entity in predicted:
        overlapping = [other for other in free if other[0] < entity[1] and entity[0] < other[1]]
        if not overlapping:
            continue
        same = [other for other in overlapping if not by_type or other[2] == entity[2]]
        near = min(same, key=lambda other: abs(other[0] - entity[0]) + abs(other[1] - entity[1]), default=None)
        if not by_type and near is not None and near[:2] != entity[:2]:
            near = overlapping[0]
        n_matched += near is not None
        free.remove(near or overlapping[0])
    return n_matched


def confuse_types(
    true: Sequence[Sequence[Entity]], predicted: Sequence[Sequence[Entity]]
) -> tuple[list[str], list[list[int]]]:
    """Return labels and counts of a confusion matrix of types; entities are paired if they have the same words.

    The last row has predicted entities without a pair, the last column true ones; both are labelled `(none)`.
    """
    pairs: Counter[tuple[str, str]] = Counter()
    for given, found in zip(true, predicted, strict=True):
        of_place = {entity[:2]: entity[2] for entity in found}
        for start, end, kind in given:
            pairs[kind, of_place.pop((start, end), MISSED)] += 1
        pairs.update((SPURIOUS, kind) for kind in of_place.values())
    types = sorted({name for pair in pairs for name in pair} - {MISSED, SPURIOUS})
    rows, columns = [*types, SPURIOUS], [*types, MISSED]
    return [*types, "(none)"], [[pairs[row, column] for column in columns] for row in rows]
