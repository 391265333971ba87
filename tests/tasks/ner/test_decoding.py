"""Constrained decoding finds the best allowed sequence, as trying all of them does."""

from itertools import product

import numpy as np

from llmkit.tasks.ner.decoding import decode_constrained, decode_greedily, find_allowed, tag_names

TAGS = tag_names(["A", "B"])


def test_tags_are_o_and_two_of_each_type() -> None:
    assert TAGS == ["O", "B-A", "I-A", "B-B", "I-B"]


def test_inside_follows_only_its_own_type() -> None:
    allowed = find_allowed(TAGS)
    assert allowed[:, 2].tolist() == [False, True, True, False, False, False]
    assert allowed[:, [0, 1, 3]].all()


def test_sequence_is_the_best_of_all_allowed_ones() -> None:
    allowed, rng = find_allowed(TAGS), np.random.default_rng(0)
    for _ in range(20):
        scores = rng.normal(size=(4, 5)).astype(np.float32)
        fitting = [
            tags
            for tags in product(range(5), repeat=4)
            if all(allowed[before, tag] for before, tag in zip([-1, *tags], tags, strict=False))
        ]
        best = max(fitting, key=lambda tags: sum(scores[word, tag] for word, tag in enumerate(tags)))
        assert decode_constrained(scores, allowed).tolist() == list(best)
    assert len(decode_constrained(np.zeros((0, 5), np.float32), allowed)) == 0


def test_greedy_takes_the_best_tag_of_each_word() -> None:
    assert decode_greedily(np.eye(3, dtype=np.float32)[[2, 0]]).tolist() == [2, 0]
