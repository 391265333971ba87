"""Which layer a weight belongs to, and that freezing keeps exactly the weights it names."""

from collections.abc import Callable

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

from llmkit.core.errors import UsageError
from llmkit.models.layers import (
    checkpoint_layers,
    compile_layers,
    freeze_layers,
    get_layer_ids,
    is_head,
    list_blocks,
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
def test_frozen_are_the_embeddings_and_the_lowest_layers(family: str, what: str | int, n_frozen: int) -> None:
    model = make_classifier(family)
    freeze_layers(model, what)
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert trained == {name for name, _ in model.named_parameters() if place_of(family, name) >= n_frozen}


BERT_HEAD = {"classifier.weight", "classifier.bias", "bert.pooler.dense.weight", "bert.pooler.dense.bias"}


@pytest.mark.parametrize(("family", "head"), [("bert", BERT_HEAD), ("gpt2", {"score.weight"})])
def test_frozen_encoder_leaves_the_head_alone_to_train(family: str, head: set[str]) -> None:
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
def test_model_whose_layers_are_not_apart_is_refused_with_the_setting_to_leave_out(model: PreTrainedModel) -> None:
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


def test_pooler_and_what_stands_outside_of_the_base_model_is_the_head() -> None:
    model = make_classifier("bert")
    assert {name for name, _ in model.named_parameters() if is_head(model, name)} == BERT_HEAD
