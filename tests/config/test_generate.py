"""Decoding settings that contradict each other are refused before a text is generated."""

import pytest
from pydantic import ValidationError

from llmkit.config.generate import Generate


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"temperature": 0.001}, "or at least 0.01"),
        ({"stop": ["a", ""]}, "an empty stop string"),
        ({"temperature": 0, "num_samples": 2}, "the same text each time"),
        ({"num_beams": 2, "num_samples": 3}, "beam search keeps num_beams texts"),
        ({"top_k": 0}, "top_k"),
        ({"top_p": 0}, "top_p"),
        ({"seed": 2**63}, "seed"),
    ],
)
def test_decoding_settings_out_of_range_are_refused(fields: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Generate.model_validate(fields)


@pytest.mark.parametrize(
    "fields",
    [{"temperature": 0}, {"temperature": 0, "num_beams": 3, "num_samples": 3}, {"temperature": 0.01, "num_samples": 5}],
)
def test_decoding_settings_in_range_are_accepted(fields: dict[str, object]) -> None:
    assert Generate.model_validate(fields).model_dump(include=set(fields)) == fields
