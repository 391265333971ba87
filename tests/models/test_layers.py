"""Which layer a weight belongs to, which weights freezing and LoRA train, and that a merged model is equal."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import make_bert, make_gpt2, make_recurrent, make_transformer
from transformers import (
    AlbertConfig,
    AlbertModel,
    AutoModelForSequenceClassification,
    BertForSequenceClassification,
    DistilBertConfig,
    ElectraConfig,
    GPT2ForSequenceClassification,
    LlamaConfig,
    ModernBertConfig,
    PreTrainedModel,
    RobertaConfig,
)

from llmkit.core.errors import EnvironmentFault, UsageError
from llmkit.models.layers import (
    add_lora,
    checkpoint_layers,
    compile_layers,
    freeze_layers,
    get_layer_ids,
    is_head,
    list_blocks,
    merge_lora,
    require_peft,
)

SMALL = {"hidden_size": 8, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 60}
OTHERS = [
    DistilBertConfig(dim=8, n_layers=3, n_heads=2, hidden_dim=8, vocab_size=60),
    RobertaConfig(**SMALL),
    ElectraConfig(embedding_size=4, **SMALL),
    ModernBertConfig(pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2, **SMALL),
    LlamaConfig(num_key_value_heads=2, pad_token_id=0, **SMALL),
]


def make_classifier(family: str) -> PreTrainedModel:
    if family == "bert":
        return make_bert(BertForSequenceClassification, num_labels=2)
    return GPT2ForSequenceClassification(make_gpt2().config)


PLACES = {
    "bert": {"bert.embeddings": -1, "bert.encoder.layer.0": 0, "bert.encoder.layer.1": 1, "": 2},
    "gpt2": {"transformer.wte": -1, "transformer.wpe": -1, "transformer.h.0": 0, "transformer.h.1": 1, "": 2},
}


def place_of(family: str, name: str) -> int:
    return next(layer for start, layer in PLACES[family].items() if name.startswith(start))


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_layers_are_counted_from_the_embeddings_to_the_head(family: str) -> None:
    model = make_classifier(family)
    layers, n_layers = get_layer_ids(model)
    assert n_layers == 2
    assert layers == {name: place_of(family, name) for name, _ in model.named_parameters()}


@pytest.mark.parametrize("config", OTHERS, ids=lambda config: config.model_type)
def test_layers_of_other_architectures_are_found(config: object) -> None:
    model = AutoModelForSequenceClassification.from_config(config)
    layers, n_layers = get_layer_ids(model)
    assert n_layers == 3
    assert {layers[name] for name in layers} == {-1, 0, 1, 2, 3}
    below = {id(w) for module in model.modules() if isinstance(module, torch.nn.Embedding) for w in module.parameters()}
    for name, weight in model.named_parameters():
        assert id(weight) not in below or layers[name] == -1
        assert name.startswith(model.base_model_prefix) or layers[name] == 3


@pytest.mark.parametrize("family", ["bert", "gpt2"])
@pytest.mark.parametrize(("what", "n_frozen"), [("embeddings", 0), (0, 0), (1, 1), (2, 2)])
def test_freeze_covers_the_embeddings_and_the_lowest_layers(family: str, what: str | int, n_frozen: int) -> None:
    model = make_classifier(family)
    freeze_layers(model, what)
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert trained == {name for name, _ in model.named_parameters() if place_of(family, name) >= n_frozen}


BERT_HEAD = {"classifier.weight", "classifier.bias", "bert.pooler.dense.weight", "bert.pooler.dense.bias"}


@pytest.mark.parametrize(("family", "head"), [("bert", BERT_HEAD), ("gpt2", {"score.weight"})])
def test_frozen_encoder_leaves_only_the_head_to_train(family: str, head: set[str]) -> None:
    model = make_classifier(family)
    freeze_layers(model, "encoder")
    assert {name for name, weight in model.named_parameters() if weight.requires_grad} == head


def test_nothing_is_frozen_unless_asked_for() -> None:
    model = make_classifier("bert")
    freeze_layers(model, "none")
    assert all(weight.requires_grad for weight in model.parameters())


@pytest.mark.parametrize("what", [3, -1])
def test_more_layers_than_there_are_cannot_be_frozen(what: int) -> None:
    with pytest.raises(UsageError, match="the model has 2"):
        freeze_layers(make_classifier("gpt2"), what)


@pytest.mark.parametrize("make", [make_gpt2, make_bert, make_transformer])
def test_blocks_are_the_layers_with_the_lowest_first_and_hold_their_weights(
    make: Callable[[], PreTrainedModel],
) -> None:
    model = make()
    layers, n_layers = get_layer_ids(model)
    blocks = list_blocks(model)
    assert len(blocks) == n_layers == 2
    for number, block in enumerate(blocks):
        own = {id(weight) for weight in block.parameters()}
        assert own == {id(weight) for name, weight in model.named_parameters() if layers[name] == number}


@pytest.mark.parametrize(
    "model",
    [make_recurrent(), AlbertModel(AlbertConfig(embedding_size=4, **SMALL))],
    ids=lambda model: model.config.model_type,
)
def test_model_without_separate_layers_is_refused_with_the_setting(model: PreTrainedModel) -> None:
    assert list_blocks(model) == []
    for change, setting in ((checkpoint_layers, "train.gradient_checkpointing"), (compile_layers, "train.compile")):
        with pytest.raises(UsageError, match="no list of separate layers") as caught:
            change(model)
        assert caught.value.problems[0].where == setting


def test_checkpointed_layers_keep_less_and_give_the_same_gradient() -> None:
    ids = torch.arange(16)[None]
    gradients, n_kept = [], []
    for is_checkpointed in (False, True):
        model = make_gpt2()
        if is_checkpointed:
            checkpoint_layers(model)
        kept: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, kept=kept: kept.append(x.numel()) or x, lambda x: x):
            loss = model(ids, labels=ids).loss
            n_kept.append(sum(kept))
        loss.backward()
        gradients.append({name: weight.grad for name, weight in model.named_parameters()})
    assert n_kept[1] < n_kept[0] / 2
    for name, gradient in gradients[0].items():
        assert torch.allclose(gradient, gradients[1][name], atol=1e-7), name


def test_head_is_the_pooler_and_everything_outside_of_the_base_model() -> None:
    model = make_classifier("bert")
    assert {name for name, _ in model.named_parameters() if is_head(model, name)} == BERT_HEAD


needs_peft = pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="the extra `lora` is not installed")
FAMILIES = ["bert", "gpt2"]
HEADS = {
    "bert": {"classifier.weight", "classifier.bias", "bert.pooler.dense.weight", "bert.pooler.dense.bias"},
    "gpt2": {"score.weight"},
}
IDS = torch.arange(5, 29).reshape(2, 12)


def make_eval_classifier(family: str) -> PreTrainedModel:
    if family == "bert":
        return make_bert(BertForSequenceClassification, num_labels=3).eval()
    torch.manual_seed(0)
    config = make_gpt2().config
    config.num_labels = 3
    return GPT2ForSequenceClassification(config).eval()


def move_additions(model: PreTrainedModel) -> None:
    """Move the updates, which start at zero, as training would."""
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.5)


@needs_peft
@pytest.mark.parametrize("family", FAMILIES)
def test_lora_trains_only_its_updates_and_the_head(family: str) -> None:
    model = make_eval_classifier(family)
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


@needs_peft
@pytest.mark.parametrize("family", FAMILIES)
def test_lora_updates_start_at_zero_and_depend_on_the_seed(family: str) -> None:
    before = make_eval_classifier(family)(input_ids=IDS).logits
    models = [make_eval_classifier(family) for _ in range(3)]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        add_lora(model, 4, 8, seed)
        torch.testing.assert_close(model(input_ids=IDS).logits, before)
    sums = [sum(w.sum().item() for n, w in model.named_parameters() if "lora_A" in n) for model in models]
    assert sums[0] == sums[1] != sums[2]


@needs_peft
@pytest.mark.parametrize("family", FAMILIES)
def test_lora_updates_are_scaled_by_alpha_over_rank(family: str) -> None:
    model = make_eval_classifier(family)
    path = "bert.encoder.layer.1.attention.self.query" if family == "bert" else "transformer.h.1.attn.c_attn"
    before = model.get_submodule(path).weight.clone()
    add_lora(model, 4, 12, 0)
    move_additions(model)
    down, up = (model.get_parameter(f"{path}.{part}.default.weight") for part in ("lora_A", "lora_B"))
    addition = 12 / 4 * (up @ down)
    merge_lora(model)
    expected = before + (addition if family == "bert" else addition.T)
    torch.testing.assert_close(model.get_submodule(path).weight, expected)


@needs_peft
@pytest.mark.parametrize("family", FAMILIES)
def test_merged_model_is_plain_and_has_the_same_outputs(tmp_path: Path, family: str) -> None:
    model = make_eval_classifier(family)
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


@needs_peft
@pytest.mark.parametrize("family", FAMILIES)
def test_checkpoint_restores_lora_updates(tmp_path: Path, family: str) -> None:
    model = make_eval_classifier(family)
    add_lora(model, 4, 8, 0)
    move_additions(model)
    other = make_eval_classifier(family)
    add_lora(other, 4, 8, 5)
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other(input_ids=IDS).logits, model(input_ids=IDS).logits)


@needs_peft
def test_lora_adapts_all_linear_layers_but_the_head_of_an_architecture_that_peft_does_not_know() -> None:
    config = DistilBertConfig(dim=8, n_layers=1, n_heads=2, hidden_dim=8, vocab_size=60)
    model = AutoModelForSequenceClassification.from_config(config)
    add_lora(model, 4, 8, 0)
    adapted = {name.partition(".lora_")[0] for name, _ in model.named_parameters() if "lora_" in name}
    assert {name.rpartition(".")[2] for name in adapted} == {"q_lin", "k_lin", "v_lin", "out_lin", "lin1", "lin2"}


@needs_peft
def test_missing_peft_is_reported_with_a_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentFault, match="peft is not installed"):
        require_peft()


@needs_peft
def test_lora_adapts_the_modules_that_are_named_or_says_which_there_are() -> None:
    model = make_bert(BertForSequenceClassification)
    add_lora(model, 2, 4, 0, targets=["output.dense"])
    adapted = {name.partition(".lora_")[0] for name, _ in model.named_parameters() if "lora_" in name}
    assert adapted and all(name.endswith("output.dense") for name in adapted)
    with pytest.raises(UsageError, match="dense, key, query, value"):
        add_lora(make_bert(BertForSequenceClassification), 2, 4, 0, targets=["qkv"])
