"""Groups, schedules, and Muon beside AdamW."""

import pytest
import torch
from tiny import make_bert, make_gpt2
from transformers import BertForSequenceClassification, GPT2ForSequenceClassification, PreTrainedModel

from llmkit.config.optim import Optim
from llmkit.models.layers import freeze_layers
from llmkit.training.optimizer import build_optimizer, group_weights, layerwise_lr_factors, learning_rate_factor


def test_muon_trains_the_hidden_matrices_only() -> None:
    model = make_gpt2()
    hidden, embeddings, vectors = group_weights(model)
    names = {id(weight): name for name, weight in model.named_parameters()}
    assert sorted(names[id(w)].split(".")[-2] for w in hidden) == sorted(["c_attn", "c_proj", "c_fc", "c_proj"] * 2)
    assert sorted(names[id(w)] for w in embeddings) == ["transformer.wpe.weight", "transformer.wte.weight"]
    assert all(weight.ndim == 1 for weight in vectors)
    assert len(hidden) + len(embeddings) + len(vectors) == len(list(model.parameters()))


def test_vectors_have_no_weight_decay() -> None:
    model = make_gpt2()
    decays = {
        id(w): g["weight_decay"]
        for g in build_optimizer(model, Optim(weight_decay=0.3), "fp32").param_groups
        for w in g["params"]
    }
    assert all(decays[id(weight)] == (0.3 if weight.ndim == 2 else 0.0) for weight in model.parameters())


def test_muon_updates_transposed_weights_of_gpt2_like_linear_ones() -> None:
    model = make_gpt2()
    rates = {
        id(w): g["lr"]
        for g in build_optimizer(model, Optim(name="muon", muon_learning_rate=1.0), "fp32").param_groups
        for w in g["params"]
    }
    block = model.transformer.h[0]
    for module, outputs_per_input in (
        (block.attn.c_attn, 3),
        (block.mlp.c_fc, 4),
        (block.mlp.c_proj, 1),
        (block.attn.c_proj, 1),
    ):
        rows, columns = module.weight.shape
        of_torch = max(1.0, rows / columns) ** 0.5
        assert rates[id(module.weight)] * of_torch == pytest.approx(outputs_per_input**0.5)


def test_optimizer_pair_steps_schedules_and_restores_like_two_separate_optimizers() -> None:
    def take_steps(restore: bool) -> list[torch.Tensor]:
        model = make_gpt2()
        optimizer = build_optimizer(model, Optim(name="muon"), "fp32")
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
        for step in range(4):
            if restore and step == 2:
                state = optimizer.state_dict()
                optimizer = build_optimizer(model, Optim(name="muon"), "fp32")
                optimizer.load_state_dict(state)
                scheduler.optimizer = optimizer
            model(input_ids=torch.tensor([[1, 2, 3]]), labels=torch.tensor([[1, 2, 3]])).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            scheduler.step()
        return [weight.detach() for weight in model.parameters()]

    for straight, restored in zip(take_steps(False), take_steps(True), strict=True):
        assert torch.equal(straight, restored)


def test_schedules_have_their_shapes() -> None:
    def rates(**settings: object) -> list[float]:
        section = Optim.model_validate(settings)
        return [learning_rate_factor(section, step, 100) for step in range(100)]

    cosine = rates(schedule="cosine", warmup_steps=10, min_learning_rate_ratio=0.1)
    assert cosine[0] == pytest.approx(1 / 11)
    assert cosine[9:11] == pytest.approx([10 / 11, 1.0])
    assert cosine[55] == pytest.approx(0.55)
    assert min(cosine[10:]) == pytest.approx(0.1, abs=0.001)
    linear = rates(schedule="linear", warmup_steps=0)
    assert linear[50] == pytest.approx(0.5)
    assert rates(schedule="constant", warmup_steps=0.05)[5:] == [1.0] * 95
    wsd = rates(schedule="wsd", warmup_steps=0, decay_steps=0.2)
    assert wsd[:80] == [1.0] * 80
    assert wsd[90] == pytest.approx(0.5)


def make_classifier(family: str) -> PreTrainedModel:
    if family == "bert":
        return make_bert(BertForSequenceClassification, num_labels=2)
    return GPT2ForSequenceClassification(make_gpt2().config)


EXPONENTS = {
    "bert": {"bert.embeddings": 3, "bert.encoder.layer.0": 2, "bert.encoder.layer.1": 1, "": 0},
    "gpt2": {"transformer.wte": 3, "transformer.wpe": 3, "transformer.h.0": 2, "transformer.h.1": 1, "": 0},
}


@pytest.mark.parametrize("family", ["bert", "gpt2"])
@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_layer_decay_lowers_the_learning_rate_of_each_lower_layer(family: str, name: str) -> None:
    model = make_classifier(family)
    factors = layerwise_lr_factors(model, 0.5)
    section = Optim.model_validate({"name": name, "learning_rate": 1e-3, "muon_learning_rate": 1.0, "layer_decay": 0.5})
    groups = build_optimizer(model, section, "fp32").param_groups
    rates = {id(weight): group["lr"] for group in groups for weight in group["params"]}
    plain = build_optimizer(model, section.model_copy(update={"layer_decay": 1.0}), "fp32").param_groups
    undecayed = {id(weight): group["lr"] for group in plain for weight in group["params"]}
    for path, weight in model.named_parameters():
        exponent = next(n for start, n in EXPONENTS[family].items() if path.startswith(start))
        assert factors[id(weight)] == 0.5**exponent, path
        assert rates[id(weight)] == pytest.approx(undecayed[id(weight)] * 0.5**exponent), path
    assert groups[0]["lr"] == 1e-3  # the one that logs show
    assert len(plain) < len(groups)


@pytest.mark.parametrize("family", ["bert", "gpt2"])
@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_frozen_encoder_leaves_only_the_head_to_the_optimizer(family: str, name: str) -> None:
    model = make_classifier(family)
    freeze_layers(model, "encoder")
    groups = build_optimizer(model, Optim.model_validate({"name": name}), "fp32").param_groups
    trained = {id(weight) for group in groups for weight in group["params"]}
    assert trained == {id(weight) for weight in model.parameters() if weight.requires_grad}
