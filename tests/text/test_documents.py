"""The identity of a document is its text, and its hash is that of the text's UTF-8."""

import hashlib
from dataclasses import FrozenInstanceError

import pytest

from llmkit.text.documents import Document, StepCounts, hash_text


def test_hash_is_that_of_the_utf8_and_every_text_has_one() -> None:
    assert hash_text("却说 café") == hashlib.sha256("却说 café".encode()).hexdigest()
    assert hash_text("a\ud800") != hash_text("a\ud801") != hash_text("a"), "a lone surrogate has no UTF-8"


def test_document_is_never_changed_in_place_and_counts_are_nobody_elses() -> None:
    with pytest.raises(FrozenInstanceError):
        Document("a", "a.txt").text = "b"  # type: ignore[misc]  # what must not be done
    StepCounts().dropped["short"] += 1
    assert not StepCounts().dropped
