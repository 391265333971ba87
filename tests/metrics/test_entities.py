"""Figures of entities equal those of seqeval 1.2.2 and nervaluate 1.2.1 on the same sentences."""

import pytest

from llmkit.metrics.bootstrap import Bootstrap
from llmkit.metrics.entities import (
    confuse_types,
    count_entities,
    score_entities,
    score_overlaps,
    tabulate_types,
)
from llmkit.tables.tag_schemes import read_entities, read_strict_entities

TRUE = [
    "I-B O B-C O O O B-B", "O O I-B I-B O B-C I-A", "B-A", "I-C B-C I-A B-A B-A", "B-C B-B I-A O O O O B-C I-B",
    "O I-C O O B-C I-B O B-A",
]  # fmt: skip
FOUND = [
    "I-B O B-C O O O O", "O O I-B B-A O O I-A", "B-A", "I-C B-C I-A B-A O", "B-C B-B I-A O O O O B-C I-B",
    "O I-C O O B-C I-B O B-A",
]  # fmt: skip
FEW = Bootstrap(n_resamples=200)


def entities(lines: list[str]) -> list[list[tuple[int, int, str]]]:
    return [read_entities(line.split()) for line in lines]


def test_figures_are_those_that_seqeval_gives() -> None:
    scores = score_entities(count_entities(entities(TRUE), entities(FOUND)), FEW)
    assert scores["entity_f1"] == pytest.approx(0.85)
    assert scores["entity_f1_macro"] == pytest.approx(0.8392496392496392)
    strict = [[read_strict_entities(line.split()) for line in lines] for lines in (TRUE, FOUND)]
    scores = score_entities(count_entities(*strict), FEW)
    assert scores["entity_f1"] == pytest.approx(0.8181818181818182)
    assert scores["entity_f1_macro"] == pytest.approx(0.7752525252525252)


def test_overlaps_are_scored_as_nervaluate_does() -> None:
    scores = score_overlaps(entities(TRUE), entities(FOUND))
    assert scores == pytest.approx({"entity_f1_exact": 0.85, "entity_f1_partial": 0.875, "entity_f1_type": 0.9})


def test_exact_ignores_the_type_and_partial_counts_half() -> None:
    true = [[(0, 2, "A"), (5, 8, "B")]]
    assert score_overlaps(true, [[(0, 2, "B"), (6, 8, "B")]]) == {
        "entity_f1_exact": 0.5, "entity_f1_partial": 0.75, "entity_f1_type": 0.5,
    }  # fmt: skip


def test_intervals_contain_the_figure_and_resample_sentences() -> None:
    scores = score_entities(count_entities(entities(TRUE), entities(FOUND)), FEW)
    low, high = scores["intervals"]["entity_f1"]
    assert low < scores["entity_f1"] < high
    assert scores["method"]["resampled"] == "sentences"


def test_nothing_found_and_nothing_true_are_zero_and_not_an_error() -> None:
    assert score_entities(count_entities([[(0, 1, "A")]], [[]]), FEW)["entity_f1"] == 0
    scores = score_entities(count_entities([[], []], [[], []]), FEW)
    assert (scores["entity_f1"], scores["entity_precision"]) == (0, 0)


def test_types_are_listed_by_frequency_and_confused_only_at_the_same_words() -> None:
    true, found = [[(0, 1, "A"), (2, 3, "A"), (4, 6, "B")]], [[(0, 1, "A"), (2, 3, "B"), (4, 5, "B")]]
    rows = tabulate_types(count_entities(true, found))
    assert [(row["type"], row["n_true"], row["n_predicted"]) for row in rows] == [("A", 2, 1), ("B", 1, 2)]
    assert rows[0]["precision"] == 1 and rows[0]["recall"] == 0.5
    labels, counts = confuse_types(true, found)
    assert labels == ["A", "B", "(none)"]
    assert counts == [[1, 1, 0], [0, 0, 1], [0, 1, 0]]
