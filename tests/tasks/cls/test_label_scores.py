"""Scores of many rows at once against each row alone, and probabilities of any logits."""

from typing import Any

import numpy as np
import pytest
import torch
from tiny import make_bert, make_gpt2
from transformers import BertForSequenceClassification, GPT2ForSequenceClassification, PreTrainedModel

from llmkit.datasets.labelled import Inputs
from llmkit.tasks.cls.label_scores import score_rows
from llmkit.tasks.cls.label_types import LABEL_TYPES


def make_classifier(family: str) -> PreTrainedModel:
    config = {"num_labels": 3}
    if family == "bert":
        model = make_bert(BertForSequenceClassification, **config)
    else:
        gpt2 = make_gpt2().config
        gpt2.num_labels = 3
        model = GPT2ForSequenceClassification(gpt2)
    for weight in model.parameters():
        if weight.ndim > 1:
            weight.data.mul_(3)
    return model.eval()


def make_inputs(n_rows: int, most_windows: int = 3) -> Inputs:
    rng = np.random.default_rng(0)
    n_windows = rng.integers(1, most_windows + 1, n_rows)
    lengths = rng.integers(3, 17, n_windows.sum())
    ids = rng.integers(5, 50, lengths.sum()).astype(np.uint8)
    return Inputs(ids, np.cumsum(lengths), (lengths // 2).astype(np.int32), np.cumsum(n_windows), None, 0)


@pytest.mark.parametrize("family", ["bert", "gpt2"])
@pytest.mark.parametrize("tokens_at_once", [1, 100, 10_000])
def test_each_row_has_in_its_place_the_score_that_it_has_alone(family: str, tokens_at_once: int) -> None:
    model, inputs = make_classifier(family), make_inputs(30)
    found = score_rows(model, inputs, token_types=family == "bert", tokens_at_once=tokens_at_once)
    assert found.dtype == np.float32
    for row in range(30):
        logits = []
        for each in inputs.read(row):
            types = torch.tensor([[0] * each.n_first + [1] * (len(each.ids) - each.n_first)])
            more: dict[str, Any] = {"token_type_ids": types} if family == "bert" else {}
            with torch.no_grad():
                logits.append(model(input_ids=torch.tensor(each.ids[None].astype(np.int64)), **more).logits[0])
        assert found[row] == pytest.approx(torch.stack(logits).mean(0).numpy(), rel=1e-4, abs=1e-5)
    assert len(np.unique(found[:, 0])) == 30


def test_no_more_tokens_at_once_than_asked_for_but_with_one_row() -> None:
    model, inputs = make_classifier("bert"), make_inputs(60, most_windows=1)
    shapes: list[tuple[int, int]] = []
    model.register_forward_pre_hook(
        lambda module, args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    score_rows(model, inputs, token_types=True, tokens_at_once=64)
    assert sum(n_rows for n_rows, _ in shapes) == 60
    assert all(n_rows * longest <= 64 for n_rows, longest in shapes)
    assert sum(n_rows * longest for n_rows, longest in shapes) < 1.1 * len(inputs.ids)  # alike in length
    shapes.clear()
    score_rows(model, inputs, token_types=True, tokens_at_once=2)
    assert [n_rows for n_rows, _ in shapes] == [1] * 60


def test_no_rows_have_no_scores() -> None:
    empty = Inputs(np.zeros(0, np.uint8), *(np.zeros(0, np.int64) for _ in range(3)), None, 0)
    assert score_rows(make_classifier("bert"), empty, token_types=True, tokens_at_once=8).shape == (0, 3)


HUGE = np.array([[1e4, -1e4, 0], [-1e4, -1e4, -1e4], [3e38, 0, -3e38]], np.float32)


def test_probabilities_of_huge_logits_are_probabilities() -> None:
    single = LABEL_TYPES["single_label"].to_outputs(HUGE, {})
    assert single == pytest.approx(np.array([[1, 0, 0], [1 / 3, 1 / 3, 1 / 3], [1, 0, 0]]))
    multiple = LABEL_TYPES["multi_label"].to_outputs(HUGE, {})
    assert multiple == pytest.approx(np.array([[1, 0, 0.5], [0, 0, 0], [1, 0.5, 0]]))


def test_probabilities_are_those_of_torch() -> None:
    scores = np.random.default_rng(0).normal(scale=8, size=(50, 3)).astype(np.float32)
    wide = torch.from_numpy(scores).double()
    assert LABEL_TYPES["single_label"].to_outputs(scores, {}) == pytest.approx(wide.softmax(-1).numpy(), rel=1e-12)
    assert LABEL_TYPES["multi_label"].to_outputs(scores, {}) == pytest.approx(wide.sigmoid().numpy(), rel=1e-12)


def test_numbers_come_back_in_the_unit_of_the_train_file() -> None:
    scores = np.array([[-1.0], [0.5]], np.float32)
    assert LABEL_TYPES["regression"].to_outputs(scores, {"target_mean": 10.0, "target_std": 4.0}).tolist() == [
        6.0,
        12.0,
    ]
    assert LABEL_TYPES["regression"].to_outputs(scores, {}).tolist() == [-1.0, 0.5]
