"""A split is identified by its texts and labels, not by their order or the ids of labels."""

import numpy as np

from llmkit.datasets.labelled import Inputs
from llmkit.tasks.cls.labelled_split import LabelledSplit


def make_split(keys: list[int], labels: list[float] | list[int] | list[list[int]]) -> LabelledSplit:
    n = len(keys)
    inputs: Inputs = Inputs.__new__(Inputs)  # not read here
    return LabelledSplit(inputs, np.array(labels), np.arange(n), np.array(keys, np.uint64), "a.csv")


def test_hash_depends_on_texts_and_label_names_and_on_nothing_else() -> None:
    first = make_split([5, 9, 9], [0, 1, 0]).hash_rows(["neg", "pos"])
    assert first == make_split([9, 9, 5], [1, 0, 0]).hash_rows(["neg", "pos"])
    assert first == make_split([9, 9, 5], [0, 1, 1]).hash_rows(["pos", "neg"])
    assert first != make_split([5, 9, 9], [1, 1, 0]).hash_rows(["neg", "pos"])
    assert first != make_split([5, 9, 8], [0, 1, 0]).hash_rows(["neg", "pos"])
    assert first != make_split([5, 9, 9], [0, 1, 0]).hash_rows(["bad", "good"])


def test_hash_of_several_labels_and_of_numbers_follows_the_labels() -> None:
    both = make_split([1, 2], [[1, 0], [0, 1]])
    assert both.hash_rows(["a", "b"]) == make_split([2, 1], [[1, 0], [0, 1]]).hash_rows(["b", "a"])
    assert both.hash_rows(["a", "b"]) != make_split([2, 1], [[1, 0], [0, 1]]).hash_rows(["a", "b"])
    numbers = make_split([1, 2], [0.5, 1.5])
    assert numbers.hash_rows(["stars"]) == numbers.hash_rows(["value"])
    assert numbers.hash_rows(["stars"]) != make_split([1, 2], [0.5, 1.25]).hash_rows(["stars"])
