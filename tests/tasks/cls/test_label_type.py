"""What all label types have in common."""

import numpy as np

from llmkit.tasks.cls.label_types import LABEL_TYPES

HALF = np.full(3, 0.5)


def test_most_confident_wrong_prediction_is_the_worst_error() -> None:
    outputs = np.array([[0.9, 0.1, 0], [0.4, 0.6, 0], [0.05, 0.95, 0], [0.3, 0.7, 0]])
    assert LABEL_TYPES["single_label"].find_errors(np.array([0, 0, 0, 0]), outputs, HALF, 9) == [
        (0.95, 2),
        (0.7, 3),
        (0.6, 1),
    ]
    assert LABEL_TYPES["single_label"].find_errors(np.array([0, 0, 0, 0]), outputs, HALF, 1) == [(0.95, 2)]
    assert LABEL_TYPES["regression"].find_errors(np.array([1.0, 1.0]), np.array([1.5, -2.0]), HALF, 9) == [
        (3.0, 1),
        (0.5, 0),
    ]
