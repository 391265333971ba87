"""Low-rank additions: what they train, and that a merged model says the same as one with them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import make_bert, make_gpt2
from transformers import (
    AutoModelForSequenceClassification,
    BertForSequenceClassification,
    DistilBertConfig,
    GPT2ForSequenceClassification,
    PreTrainedModel,
)

from llmkit.core.errors import EnvironmentFault, UsageError
from llmkit.models import lora as lora_module
from llmkit.models.lora import add_lora, merge_lora, require_peft

pytest.importorskip("peft")
FAMILIES = ["bert", "gpt2"]
HEADS = {
    "bert": {"classifier.weight", "classifier.bias", "bert.pooler.dense.weight", "bert.pooler.dense.bias"},
    "gpt2": {"score.weight"},
}
IDS = torch.arange(5, 29).reshape(2, 12)


def make_classifier(family: str) -> PreTrainedModel:
    if family == "bert":
        return make_bert(BertForSequenceClassification, num_labels=3).eval()
    torch.manual_seed(0)
    config = make_gpt2().config
    config.num_labels = 3
    return GPT2ForSequenceClassification(config).eval()


def move_additions(model: PreTrainedModel) -> None:
    """As training would: they begin at zero."""
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.5)


@pytest.mark.parametrize("family", FAMILIES)
def test_only_additions_and_head_train(family: str) -> None:
    model = make_classifier(family)
    plain = {name: weight.clone() for name, weight in model.named_parameters()}
    add_lora(model, 4, 8, 0)
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    additions = {name for name in trained if "lora_" in name}
    assert set(trained) - additions == HEADS[family]
    assert {name for name, _ in model.named_parameters() if "lora_" in name} == additions
    assert len({name.split(".lora_")[0] for name in additions}) == (4 if family == "bert" else 2)
    assert all(4 in trained[name].shape for name in additions)
    optimizer = torch.optim.SGD(trained.values(), lr=0.1)
    for _ in range(2):  # the first step moves one side only, the other being zero
        model(input_ids=IDS, labels=torch.tensor([0, 2])).loss.backward()
        optimizer.step()
    after = {name.replace("base_layer.", ""): weight for name, weight in model.named_parameters()}
    assert {name for name in plain if not torch.equal(plain[name], after[name])} == HEADS[family]
    assert all(weight.abs().sum() > 0 for weight in trained.values())


@pytest.mark.parametrize("family", FAMILIES)
def test_additions_begin_as_nothing_and_come_from_the_seed(family: str) -> None:
    before = make_classifier(family)(input_ids=IDS).logits
    models = [make_classifier(family) for _ in range(3)]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        add_lora(model, 4, 8, seed)
        torch.testing.assert_close(model(input_ids=IDS).logits, before)
    sums = [sum(w.sum().item() for n, w in model.named_parameters() if "lora_A" in n) for model in models]
    assert sums[0] == sums[1] != sums[2]


@pytest.mark.parametrize("family", FAMILIES)
def test_additions_are_scaled_by_alpha_over_rank(family: str) -> None:
    model = make_classifier(family)
    path = "bert.encoder.layer.1.attention.self.query" if family == "bert" else "transformer.h.1.attn.c_attn"
    before = model.get_submodule(path).weight.clone()
    add_lora(model, 4, 12, 0)
    move_additions(model)
    down, up = (model.get_parameter(f"{path}.{part}.default.weight") for part in ("lora_A", "lora_B"))
    addition = 12 / 4 * (up @ down)
    merge_lora(model)
    expected = before + (addition if family == "bert" else addition.T)
    torch.testing.assert_close(model.get_submodule(path).weight, expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_merged_model_is_a_plain_one_that_says_the_same(tmp_path: Path, family: str) -> None:
    model = make_classifier(family)
    names, plain = set(model.state_dict()), model(input_ids=IDS).logits
    add_lora(model, 4, 8, 0)
    move_additions(model)
    before = model(input_ids=IDS).logits
    assert (before - plain).abs().max() > 1e-3
    merge_lora(model)
    torch.testing.assert_close(model(input_ids=IDS).logits, before, rtol=1e-5, atol=1e-5)
    assert set(model.state_dict()) == names
    assert not any("peft" in type(module).__module__ for module in model.modules())
    model.save_pretrained(tmp_path)
    assert not (tmp_path / "adapter_config.json").exists()
    again: Any = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(again(input_ids=IDS).logits, before, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_checkpoint_with_additions_restores_them(tmp_path: Path, family: str) -> None:
    model = make_classifier(family)
    add_lora(model, 4, 8, 0)
    move_additions(model)
    other = make_classifier(family)
    add_lora(other, 4, 8, 5)
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other(input_ids=IDS).logits, model(input_ids=IDS).logits)


def test_architecture_that_peft_does_not_know_is_refused() -> None:
    config = DistilBertConfig(dim=8, n_layers=1, n_heads=2, hidden_dim=8, vocab_size=60)
    with pytest.raises(UsageError, match="no LoRA for distilbert"):
        add_lora(AutoModelForSequenceClassification.from_config(config), 4, 8, 0)


def test_missing_peft_is_said_with_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lora_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentFault, match="peft is not installed"):
        require_peft()
