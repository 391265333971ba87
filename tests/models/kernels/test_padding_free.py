"""Encoders without padding: the same results and gradients with any head, at less cost."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tiny import make_bert, make_gpt2
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    PreTrainedModel,
)

from llmkit.models.kernels import padding_free
from llmkit.models.kernels.optimized import PADDING, TESTED, optimized
from llmkit.models.kernels.padding_free import PADDING_FREE, encoder_inputs, find_token_indices
from llmkit.models.layers import checkpoint_layers, list_blocks

CPU = torch.device("cpu")
LENGTHS = (7, 20, 3, 20, 7, 1)
N_TOKENS = sum(LENGTHS)
MODERNBERT = {
    "local_attention": 8, "layer_types": ["full_attention", "sliding_attention"], "bos_token_id": 2, "eos_token_id": 3,
    "cls_token_id": 2, "sep_token_id": 3, "classifier_pooling": "mean",
}  # fmt: skip
"""Tokens that are more than four apart do not see each other in its second layer."""


def make_batch() -> dict[str, Tensor]:
    mask = (torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]).long()
    ids = torch.randint(5, 100, mask.shape, generator=torch.Generator().manual_seed(0))
    return {"input_ids": torch.where(mask > 0, ids, 1), "attention_mask": mask}


def make_classifier(family: str) -> PreTrainedModel:
    """Tiny, with three labels and without dropout, whose random numbers depend on the shapes."""
    config = AutoConfig.for_model(
        family, vocab_size=100, hidden_size=32, embedding_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=40, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        num_labels=3, pad_token_id=1, initializer_range=0.2, **(MODERNBERT if family == "modernbert" else {}),
    )  # fmt: skip
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForSequenceClassification.from_config(config)
    return model


def read(model: PreTrainedModel, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Scores, and the gradients of something that depends on all of them."""
    scores = model(**batch).logits
    scores.square().sum().backward()
    return scores, {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("family", [kind for kind, patches in TESTED.items() if PADDING in patches])
@pytest.mark.parametrize("how", ["plain", "with indices", "checkpointed", "kernel", "padded"])
def test_scores_and_gradients_are_those_of_the_padded_batch(
    family: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, free = make_classifier(family), make_classifier(family)
    optimized(free, "fp32", CPU)
    shapes = watch_layers(free)
    if how == "checkpointed":
        checkpoint_layers(free)
    if how == "kernel":
        as_on_a_gpu(monkeypatch)
    if how == "padded":
        monkeypatch.setattr(padding_free, "_can_pack", lambda *_: False)
    expected, gradients = read(usual, make_batch())
    batch = make_batch()
    scores, own = read(
        free, batch | {"token_indices": find_token_indices(batch["attention_mask"])} if how == "with indices" else batch
    )
    torch.testing.assert_close(scores, expected)
    assert own.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(own[name], gradient, rtol=1e-4, atol=1e-5, msg=name)
    assert set(shapes) == {(len(LENGTHS), max(LENGTHS), 32) if how == "padded" else (1, N_TOKENS, 32)}


def watch_layers(model: PreTrainedModel) -> list[tuple[int, ...]]:
    """The shapes of what goes into each layer, to be filled."""
    shapes: list[tuple[int, ...]] = []
    for layer in list_blocks(model):
        layer.register_forward_pre_hook(lambda _, inputs: shapes.append(tuple(inputs[0].shape)))
    return shapes


def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention by the ends of sequences, by the formula."""
    monkeypatch.setattr(padding_free, "_group_by_length", lambda _: [])
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", attend_by_formula)


def attend_by_formula(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    ends: Tensor,
    _: Tensor,
    longest: int,
    __: int,
    scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1),
) -> Tensor:
    assert ends.dtype == torch.int32, "what flash attention takes"
    number = torch.bucketize(torch.arange(len(query)), ends[1:], right=True)
    assert number.bincount().max() <= longest
    scores = torch.einsum("qhd,khd->hqk", query, key) * (scale or query.shape[-1] ** -0.5)
    apart = (torch.arange(len(query))[:, None] - torch.arange(len(query))).abs()
    hidden = (number[:, None] != number) | ((apart > window_size[0]) & (window_size[0] >= 0))
    scores = scores.masked_fill(hidden, float("-inf"))
    return torch.einsum("hqk,khd->qhd", scores.softmax(-1), value)


def test_hidden_states_of_padding_are_zero_and_the_others_in_place() -> None:
    batch, usual, free = make_batch(), make_bert().eval(), make_bert().eval()
    optimized(free, "fp32", CPU)
    real = batch["attention_mask"].bool()
    with torch.no_grad():
        expected, read = (model.base_model(**batch).last_hidden_state for model in (usual, free))
    torch.testing.assert_close(read[real], expected[real])
    assert not read[~real].any()


def test_token_indices_may_come_with_the_batch() -> None:
    indices = find_token_indices(make_batch()["attention_mask"])
    assert sorted(indices.tolist()) == make_batch()["attention_mask"].flatten().nonzero()[:, 0].tolist()
    assert indices[: 1 + 3].tolist() == [100, 40, 41, 42]  # the shortest first
    batch = make_batch() | {"token_indices": indices}
    usual, free = make_bert().eval(), make_bert().eval()
    optimized(free, "fp32", CPU)
    assert "token_indices" not in encoder_inputs(usual, batch) and "token_indices" in encoder_inputs(free, batch)
    with torch.no_grad():
        without = free(**make_batch()).prediction_logits
        torch.testing.assert_close(free(**encoder_inputs(free, batch)).prediction_logits, without, rtol=0, atol=0)


def test_bf16_differs_only_by_rounding() -> None:
    usual, free = make_classifier("bert").eval(), make_classifier("bert").eval()
    optimized(free, "bf16", CPU)
    assert free.config._attn_implementation == PADDING_FREE
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        near = free(**make_batch()).logits
    with torch.no_grad():
        torch.testing.assert_close(near.float(), usual(**make_batch()).logits, rtol=0.05, atol=0.03)


def test_dropout_of_attention_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[Any] = []

    def watch(*inputs: Tensor, dropout_p: float, scale: float | None) -> Tensor:
        rates.append(dropout_p)
        return usual(*inputs, dropout_p=dropout_p, scale=scale)

    usual = F.scaled_dot_product_attention
    monkeypatch.setattr(F, "scaled_dot_product_attention", watch)
    model = make_classifier("bert").train()
    optimized(model, "fp32", CPU)
    for layer in model.base_model.get_submodule("encoder.layer").children():
        layer.get_submodule("attention.self.dropout").p = 0.25
    model(**make_batch())
    assert set(rates) == {0.25}


@pytest.mark.parametrize("where", ["right", "left", "between"])
def test_modernbert_keeps_its_positions_and_windows(where: str) -> None:
    batch, usual, free = make_batch(), make_classifier("modernbert").eval(), make_classifier("modernbert").eval()
    if where == "left":
        batch = {name: tensor.flip(1) for name, tensor in batch.items()}
    if where == "between":
        batch["attention_mask"][1, 4:9] = 0
    optimized(free, "fp32", CPU)
    shapes = watch_layers(free)
    real = batch["attention_mask"].bool()
    with torch.no_grad():
        for more in ({}, {"position_ids": torch.arange(20)[None] * 2}, {"attention_mask": torch.ones_like(real)}):
            inputs = {**batch, **more}
            expected, read = (model.base_model(**inputs).last_hidden_state[real] for model in (usual, free))
            torch.testing.assert_close(read, expected)
        inputs = {"input_ids": batch["input_ids"]}
        expected, read = (model.base_model(**inputs).last_hidden_state for model in (usual, free))
        torch.testing.assert_close(read, expected)
        without, expected = (model.base_model(**batch, return_dict=False)[0][real] for model in (free, usual))
        torch.testing.assert_close(without, expected)
    assert (shapes[0][0] == 1) == (where != "between"), "where tokens are farther apart than in the row"


def test_padding_may_be_anywhere() -> None:
    batch, usual, free = make_batch(), make_bert().eval(), make_bert().eval()
    batch["attention_mask"][0] = batch["attention_mask"][0].flip(0)
    batch["attention_mask"][1, 4:9] = 0
    optimized(free, "fp32", CPU)
    real = batch["attention_mask"].bool()
    with torch.no_grad():
        expected, read = (model.base_model(**batch).last_hidden_state[real] for model in (usual, free))
        own = {"attention_mask": real[:, None, None]}  # a mask of the caller's own, for each pair of tokens
        last, other = (model.base_model(**batch | own).last_hidden_state[real] for model in (usual, free))
    torch.testing.assert_close(read, expected)
    torch.testing.assert_close(other, last)


@pytest.mark.parametrize("change", [{}, {"is_decoder": True}, {"chunk_size_feed_forward": 5}, {"attn": "eager"}])
def test_models_with_other_attention_stay_unchanged(change: dict[str, Any]) -> None:
    config = make_classifier("bert").config
    config.update({name: value for name, value in change.items() if name != "attn"})
    attention = change.get("attn", "sdpa")
    bert = AutoModelForSequenceClassification.from_config(config, attn_implementation=attention)
    for model, expected in ((bert, attention if change else PADDING_FREE), (make_gpt2(), "sdpa")):
        optimized(model, "fp32", CPU)
        assert model.config._attn_implementation == expected


def test_model_made_from_the_configuration_of_another_reads_right() -> None:
    first, usual = make_classifier("bert"), make_classifier("bert").eval()
    optimized(first, "fp32", CPU)
    second = type(first)(first.config).eval()
    second.load_state_dict(usual.state_dict())
    optimized(second, "fp32", CPU)
    with torch.no_grad():
        torch.testing.assert_close(second(**make_batch()).logits, usual(**make_batch()).logits)


@pytest.mark.parametrize(
    ("autocast", "training", "rate", "packs"),
    [(True, True, 0.0, True), (True, False, 0.1, True), (True, True, 0.1, False), (False, True, 0.0, False)],
)
def test_gpu_packs_in_bf16_where_nothing_is_dropped(
    autocast: bool, training: bool, rate: float, packs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = make_classifier("bert").base_model.get_submodule("encoder").train(training)
    encoder.config.attention_probs_dropout_prob = rate
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind: autocast)
    assert padding_free._can_pack(encoder, torch.device("cuda")) == packs
    assert padding_free._can_pack(encoder, CPU)


@pytest.mark.parametrize("agrees", [True, False])
def test_gpu_without_the_kernel_leaves_the_model_as_it_is(agrees: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        padding_free, "varlen_attention_works", lambda _, width, window: agrees and (width, window) == (8, None)
    )
    model = make_classifier("bert")
    optimized(model, "fp32", torch.device("cuda"))
    assert model.config._attn_implementation == (PADDING_FREE if agrees else "sdpa")


def test_unpadding_twice_equals_unpadding_once() -> None:
    model = make_bert()
    optimized(model, "fp32", CPU)
    optimized(model, "fp32", CPU)
    assert len(model.base_model.get_submodule("encoder")._forward_pre_hooks) == 1


def test_saved_model_does_not_record_the_change(tmp_path: Path) -> None:
    model = make_bert()
    optimized(model, "fp32", CPU)
    model.save_pretrained(tmp_path)
    assert "llmkit" not in json.dumps(json.loads((tmp_path / "config.json").read_text()))


@pytest.mark.parametrize("fault", ["none", "missing", "wrong"])
def test_kernel_is_tested_before_it_is_used(
    fault: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def attend(*inputs: Any, **more: Any) -> Tensor:
        return attend_by_formula(*inputs, **more) * (1.5 if fault == "wrong" else 1)

    if fault != "missing":  # torch has none for CPUs
        monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", attend)
    padding_free.varlen_attention_works.cache_clear()
    before = torch.random.get_rng_state()
    with torch.no_grad():
        assert padding_free.varlen_attention_works(CPU, 16) == (fault == "none")
        assert padding_free.varlen_attention_works(CPU, 16, 64) == (fault == "none")
    assert torch.equal(torch.random.get_rng_state(), before), "the random state of training does not change"
    padding_free.varlen_attention_works.cache_clear()
    output = capsys.readouterr().err
    assert ("stay padded" in output) == (fault != "none")
