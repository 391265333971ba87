"""Differences that make a comparison unfair are noted, and nothing else."""

from typing import Any

import pytest

from llmkit.reporting.comparison_notes import (
    BUDGET_TOLERANCE,
    LOSSY_TOKENIZERS,
    describe_context,
    mark_name,
    write_notes,
)


def row(run: str, kind: str = "byte-bpe", **more: Any) -> dict[str, Any]:
    method = {"windows": "block-wise", "block_size": 32, "stride": 32, "precision": "fp32", "data": run}
    counts = {"n_unknown_tokens": 0, "n_tokens": 400, "n_training_tokens": 1000}
    facts = {"tokenizer": {"kind": kind}, "method": method, "train_documents": "a", "machine": "one"}
    return {"run": run, **counts, **facts, **more}


def notes_on(*, same_tokenizer: bool = True, **other: Any) -> list[str]:
    return write_notes([row("one"), row("two", **other)], same_tokenizer=same_tokenizer)


def test_runs_that_differ_in_nothing_but_their_names_have_no_note() -> None:
    assert notes_on() == []


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"n_unknown_tokens": 4}, "two *: 4 held-out tokens (1.00% of all) are unknown"),
        ({"n_training_tokens": 2000}, "trained on different numbers of tokens: one 1,000, two 2,000"),
        ({"train_documents": "b"}, "trained on different text"),
        ({"machine": "two"}, "different machines"),
        ({"method": {"windows": "sliding", "block_size": 64, "stride": 8}}, "two sliding, block size 64, stride 8"),
    ],
)
def test_each_difference_has_its_own_note(other: dict[str, Any], words: str) -> None:
    [note] = notes_on(**other)
    assert words in note


def test_budgets_that_differ_by_the_tolerance_are_equal() -> None:
    assert notes_on(n_training_tokens=1000 * BUDGET_TOLERANCE) == []
    assert len(notes_on(n_training_tokens=1001 * BUDGET_TOLERANCE)) == 1
    assert notes_on(n_training_tokens=None) == [], "unknown values get no note"


@pytest.mark.parametrize("kind", LOSSY_TOKENIZERS)
def test_tokens_that_lose_text_are_named_where_tokenizers_differ(kind: str) -> None:
    lossy, tokenizers = notes_on(kind=kind, same_tokenizer=False)
    assert lossy.startswith(f"two: its {kind} tokens do not keep {LOSSY_TOKENIZERS[kind]}")
    assert "the tokenizers differ" in tokenizers
    assert notes_on(kind=kind) == [], "one tokenizer flatters all alike"


def test_precision_and_data_are_no_context() -> None:
    assert describe_context(row("a")) == "block-wise, block size 32, stride 32"
    assert describe_context({"method": {"windows": "carried state", "precision": "bf16"}}) == "carried state"
    assert describe_context({"method": {}}) == ""
    assert (mark_name(row("a")), mark_name(row("a", n_unknown_tokens=1))) == ("a", "a *")
