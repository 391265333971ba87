"""The worst rows are kept, few while many are scored, as the model read them."""

from pathlib import Path

import numpy as np
import pytest
from tiny import save_bert
from transformers import PreTrainedTokenizerBase

from llmkit.datasets.labelled import encode_inputs
from llmkit.tasks.cls.error_examples import SHOWN, ErrorExamples
from llmkit.tasks.cls.label_types import get_label_type
from llmkit.tokens.tokenizer import load_tokenizer

NAMES = ["ham", "spam"]


@pytest.fixture
def tokenizer(tmp_path: Path) -> PreTrainedTokenizerBase:
    return load_tokenizer(save_bert(tmp_path / "bert"))


def make(tokenizer: PreTrainedTokenizerBase, label_type: str = "single_label") -> ErrorExamples:
    return ErrorExamples(get_label_type(label_type), NAMES, np.array([0.5, 0.5]), tokenizer)


def test_worst_of_all_chunks_are_kept_in_order_and_right_guesses_never_are(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    rng = np.random.default_rng(0)
    labels, sure = rng.integers(2, size=90), rng.random(90)
    outputs = np.stack([1 - sure, sure], 1)
    inputs = encode_inputs(tokenizer, [f"win {n}" for n in range(90)], None, block_size=32)
    whole, parts = make(tokenizer), make(tokenizer)
    whole.add(labels, outputs, inputs, np.arange(90))
    for begin in range(0, 90, 30):
        rows = slice(begin, begin + 30)
        part = encode_inputs(tokenizer, [f"win {n}" for n in range(begin, begin + 30)], None, block_size=32)
        parts.add(labels[rows], outputs[rows], part, np.arange(90)[rows])
    assert whole.worst() == parts.worst()
    wrong = outputs.argmax(1) != labels
    worst = np.argsort(-outputs.max(1) * wrong, kind="stable")[:SHOWN]
    assert [record["line"] for record in whole.worst()] == worst.tolist()
    for record in whole.worst():
        assert (record["label"], record["predicted"]) in (("ham", "spam"), ("spam", "ham"))
        assert record["probability"] == pytest.approx(outputs[record["line"]].max())


def test_text_is_what_the_model_read_with_its_case_and_its_end_cut_off(tokenizer: PreTrainedTokenizerBase) -> None:
    inputs = encode_inputs(tokenizer, ["WIN Free cash prize"], ["home now"], block_size=8)
    mistakes = make(tokenizer)
    mistakes.add(np.array([0]), np.array([[0.1, 0.9]]), inputs, np.array([7]))
    [record] = mistakes.worst()
    assert record["line"] == 7
    assert record["text"].startswith("win free") and "prize" not in record["text"]
    assert record["pair"].startswith("home")


def test_number_that_is_far_off_has_no_probability(tokenizer: PreTrainedTokenizerBase) -> None:
    mistakes = make(tokenizer, "regression")
    inputs = encode_inputs(tokenizer, ["win", "home"], None, block_size=8)
    mistakes.add(np.array([1.0, 1.0]), np.array([1.5, 9.0]), inputs, np.array([1, 2]))
    first = mistakes.worst()[0]
    assert first["line"] == 2 and "probability" not in first and "pair" not in first
