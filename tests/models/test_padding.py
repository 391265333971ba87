"""A classifier of any architecture gives a row the probabilities that plain transformers gives it alone."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from tiny import make_bert, make_gpt2
from transformers import BertForSequenceClassification, GPT2ForSequenceClassification

from llmkit.models.classifier import load_classifier
from llmkit.models.layers import add_lora, merge_lora
from llmkit.models.padding import (
    NO_PAD_TOKEN,
    PADDING_INVARIANT,
    describe_padding,
    reads_padding,
    restore_order,
    split_by_length,
)

SCRIPT = Path(__file__).parents[2] / "docs" / "make_models.py"
FAST = ("BERT", "DeBERTa-v3", "GPT-2", "Llama with </s>, without a pad token", "XLNet", "BigBird", "FNet", "BART")
"""One family for each way of padding, of token types and of finding the token of the head."""
REFUSED = ("CANINE", "Jamba")
"""Without a tokenizer of the tokenizers library, or not read by this transformers either."""


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_models", SCRIPT)
    assert spec and spec.loader
    script = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = script  # dataclasses look their module up
    spec.loader.exec_module(script)
    return script


MODELS: Any = load_script()


def check(name: str, batch_sizes: tuple[int, ...]) -> None:
    for result in MODELS.measure(MODELS.FAMILIES[name], batch_sizes=batch_sizes):
        assert result.startswith("refused" if name in REFUSED else "equal"), result


@pytest.mark.parametrize("name", FAST)
def test_predict_gives_the_probabilities_of_plain_transformers(name: str) -> None:
    check(name, (8,))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(MODELS.FAMILIES))
def test_predict_gives_the_probabilities_of_plain_transformers_for_all_batch_sizes(name: str) -> None:
    check(name, MODELS.BATCH_SIZES)


LORA = sorted(
    {name for name, family in MODELS.FAMILIES.items() if family.has_pad} - {*REFUSED, "I-BERT", "YOSO", "MRA"}
)
"""I-BERT has its own quantized layers; YOSO and MRA need CUDA kernels of their own to train."""


def check_lora(name: str, folder: Path) -> None:
    """An update of LoRA trains, changes the scores, and is merged into a model without peft."""
    MODELS.build(MODELS.FAMILIES[name], folder)
    model = load_classifier(str(folder)).train()
    ids = torch.randint(5, 20, (2, 16))
    ids[:, -1] = 2  # the token at which BART and T5 read the text
    names = set(model.state_dict())
    add_lora(model, 2, 4, 0)
    model(input_ids=ids).logits.square().sum().backward()
    updates = {key: weight for key, weight in model.named_parameters() if "lora_B" in key}
    assert updates and any(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in updates.values())
    with torch.no_grad():
        for weight in updates.values():
            weight.normal_()
        adapted = model.eval()(input_ids=ids).logits
        merge_lora(model)
        torch.testing.assert_close(model(input_ids=ids).logits, adapted, rtol=1e-3, atol=1e-3)
    assert set(model.state_dict()) == names


@pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="the extra `lora` is not installed")
@pytest.mark.parametrize("name", ["DistilBERT", "ALBERT", "FNet"])
def test_lora_adapts_architectures_without_a_list_in_peft(name: str, tmp_path: Path) -> None:
    check_lora(name, tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="the extra `lora` is not installed")
@pytest.mark.parametrize("name", LORA)
def test_lora_adapts_every_architecture(name: str, tmp_path: Path) -> None:
    check_lora(name, tmp_path)


def test_every_architecture_that_is_read_with_padding_is_in_the_table() -> None:
    in_table = {family.model_type for family in MODELS.FAMILIES.values() if family.has_pad}
    assert set(PADDING_INVARIANT) <= in_table


def test_groups_have_equal_lengths_no_padding_and_come_back_in_order() -> None:
    lengths = torch.tensor([2, 4, 1, 4, 2])
    columns = torch.arange(4)
    ids = torch.where(columns < lengths[:, None], 10 * torch.arange(1, 6)[:, None] + columns, 0)
    batch = {"input_ids": ids, "attention_mask": (columns < lengths[:, None]).long()}
    groups = list(split_by_length(batch))
    assert [tuple(group["input_ids"].shape) for _, group in groups] == [(1, 1), (2, 2), (2, 4)]
    assert all(bool((group["input_ids"] > 0).all()) for _, group in groups)
    assert restore_order([(rows, group["input_ids"][:, 0]) for rows, group in groups]).tolist() == [10, 20, 30, 40, 50]


def test_only_a_tested_architecture_with_a_pad_token_is_read_with_padding() -> None:
    config = make_bert(BertForSequenceClassification).config
    assert reads_padding(config)
    config.model_type = "fnet"
    assert not reads_padding(config)
    gpt2 = GPT2ForSequenceClassification(make_gpt2().config).config
    assert not describe_padding(gpt2) and "fnet" in describe_padding(config)[0]
    for pad, expected in ((None, False), (NO_PAD_TOKEN, False), (0, True)):
        gpt2.pad_token_id = pad
        assert reads_padding(gpt2) is expected
