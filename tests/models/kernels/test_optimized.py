"""Faster models give the same results, can be restored, and are left unchanged if a change does not apply."""

import copy
import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import make_bert, make_gpt2, make_recurrent, make_transformer
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
)
from transformers.activations import ACT2FN

from llmkit.models.kernels import optimized as room
from llmkit.models.kernels import patches
from llmkit.models.kernels.optimized import ATTENTION, DROPOUT, GELU, PADDING, TESTED, optimized, restore
from llmkit.models.kernels.padding_free import PADDING_FREE
from llmkit.models.kernels.patches import FP32_ATTENTION, FastDropout

CPU = torch.device("cpu")
IDS = torch.randint(5, 50, (3, 16), generator=torch.Generator().manual_seed(1))
LENGTHS = torch.tensor([16, 9, 4])
MASK = (torch.arange(16) < LENGTHS[:, None]).long()
IDS[torch.arange(3), LENGTHS - 1] = 3  # T5 and BART want an end of text
TINY = {
    "vocab_size": 50, "hidden_size": 32, "d_model": 32, "dim": 32, "n_embd": 32, "embedding_size": 32, "num_layers": 2,
    "num_hidden_layers": 2, "n_layer": 2, "n_layers": 2, "encoder_layers": 2, "decoder_layers": 2,
    "num_attention_heads": 4, "n_head": 4, "n_heads": 4, "num_heads": 4, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 64, "d_inner": 64, "hidden_dim": 64,
    "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "ffn_dim": 64, "d_ff": 64, "d_kv": 8, "head_dim": 8,
    "word_embed_proj_dim": 32, "max_position_embeddings": 40, "n_positions": 40, "pad_token_id": 1, "bos_token_id": 2,
    "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3, "decoder_start_token_id": 2, "initializer_range": 0.2,
    "local_attention": 8, "num_labels": 3,
}  # fmt: skip
"""Every family's own names for its shape; each takes those that it knows."""


@pytest.fixture(autouse=True)
def _says_again_and_has_no_amx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": False})
    room._log_once.cache_clear()
    patches.check_gelus.cache_clear()


def make_family(kind: str) -> PreTrainedModel:
    """A tiny classifier, or for our own families a language model, with every kind of dropout at 0.1."""
    if kind == "llmkit_recurrent":
        return make_recurrent(dropout=0.1)
    if kind == "llmkit_transformer":
        return make_transformer(dropout=0.1)
    known = AutoConfig.for_model(kind)
    names = {*known.to_dict(), *getattr(known, "attribute_map", {}), "num_labels", "decoder_start_token_id"}
    config = AutoConfig.for_model(kind, **{name: value for name, value in TINY.items() if name in names})
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForSequenceClassification.from_config(config)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.1
    return model


def read(model: PreTrainedModel, *, bf16: bool = False) -> tuple[Tensor, dict[str, Tensor]]:
    """Scores of a padded batch, and the gradients of something that depends on all of them."""
    inputs = {"input_ids": IDS} if model.config.model_type.startswith("llmkit") else {}
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        scores = model(**(inputs or {"input_ids": torch.where(MASK > 0, IDS, 1), "attention_mask": MASK})).logits
    scores.float().square().sum().backward()
    return scores.detach(), {n: weight.grad for n, weight in model.named_parameters() if weight.grad is not None}


def parts(model: PreTrainedModel) -> dict[str, Any]:
    """Everything that a change may touch: modules, their types, forwards and hooks, and the configuration."""
    found: dict[str, Any] = {"config": model.config.to_dict() | {"attention": model.config._attn_implementation}}
    for name, module in model.named_modules():
        hooks = (dict(module._forward_pre_hooks), dict(module._forward_hooks))
        kept = {key: value for key, value in module.__dict__.items() if not key.startswith("_")}
        found[name] = (id(module), type(module), module.forward, hooks, kept, list(module._modules))
    return found


@pytest.mark.parametrize("kind", TESTED)
def test_scores_and_gradients_of_each_family_are_the_plain_models(kind: str) -> None:
    plain, quick = make_family(kind).eval(), make_family(kind).eval()
    applied = optimized(quick, "fp32", CPU)
    assert set(applied) <= set(TESTED[kind]) and (PADDING in applied) == (PADDING in TESTED[kind])
    (expected, gradients), (scores, own) = read(plain), read(quick)
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-5)
    assert own.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(own[name], gradient, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize("kind", [kind for kind in TESTED if kind != "deberta"])  # which has no bf16 at all
def test_bf16_of_each_family_is_as_near_as_plain_bf16(kind: str) -> None:
    plain, quick = make_family(kind).eval(), make_family(kind).eval()
    exact, _ = read(plain)
    usual, _ = read(plain, bf16=True)
    optimized(quick, "bf16", CPU)
    near, _ = read(quick, bf16=True)
    scale = exact.abs().max()
    assert (near.float() - exact).abs().max() <= 2 * (usual.float() - exact).abs().max() + 0.02 * scale


@pytest.mark.parametrize("kind", TESTED)
def test_restored_family_is_the_very_same_model(kind: str) -> None:
    model = make_family(kind).train()
    before, precision = parts(model), torch.get_float32_matmul_precision()
    torch.manual_seed(0)
    scores, gradients = read(model)
    optimized(model, "tf32", CPU)
    assert not optimized(model, "bf16", CPU) or parts(model) != before
    optimized(model, "fp32", CPU)
    restore(model)
    assert parts(model) == before and torch.get_float32_matmul_precision() == precision
    restore(model)  # once more does nothing
    assert parts(model) == before
    torch.manual_seed(0)
    again, own = read(model)
    assert torch.equal(again, scores)
    assert own.keys() == gradients.keys() and all(torch.equal(own[name], gradients[name]) for name in own)


def test_changes_depend_on_model_precision_and_device() -> None:
    bert, gpt2 = make_bert(dropout=0.1), make_gpt2(dropout=0.1)
    assert optimized(bert, "bf16", CPU) == (PADDING, DROPOUT)
    assert optimized(gpt2, "bf16", CPU) == (ATTENTION, DROPOUT, GELU)
    assert gpt2.config._attn_implementation == FP32_ATTENTION
    assert optimized(gpt2, "fp32", CPU) == (DROPOUT, GELU)
    assert gpt2.config._attn_implementation == "sdpa"
    assert optimized(gpt2, "fp32", torch.device("cuda")) == (GELU,)
    assert {type(module) for module in gpt2.modules() if isinstance(module, nn.Dropout)} == {nn.Dropout}


def test_copy_of_an_optimized_model_is_restored_by_itself() -> None:
    model = make_bert(dropout=0.1)
    optimized(model, "fp32", CPU)
    trial = copy.deepcopy(model)
    optimized(trial, "fp32", CPU)
    restore(trial)
    assert trial.config._attn_implementation == "sdpa" and not trial.bert.encoder._forward_pre_hooks
    assert not any(isinstance(module, FastDropout) for module in trial.modules())
    assert model.config._attn_implementation == PADDING_FREE and len(model.bert.encoder._forward_pre_hooks) == 1
    assert any(isinstance(module, FastDropout) for module in model.modules())


def test_optimized_model_is_freed_without_the_garbage_collector() -> None:
    for make in (make_bert, make_gpt2, lambda: make_family("modernbert")):
        model = make()
        optimized(model, "bf16", CPU)
        alive = weakref.ref(model)
        gc.collect()
        gc.disable()
        try:
            del model
            assert alive() is None
        finally:
            gc.enable()


def test_activation_keeps_the_mode_that_the_model_has_when_it_is_restored() -> None:
    model = make_gpt2().train()
    optimized(model, "fp32", CPU)
    model.eval()
    restore(model)
    assert not any(module.training for module in model.modules())


FAULTS = [
    ("transformers.masking_utils.sdpa_mask", "padding-free layers (transformers.masking_utils has no sdpa_mask)"),
    ("transformers.models.bert.modeling_bert.BertEncoder.forward", "BertEncoder.forward takes no attention_mask"),
    ("transformers.models.bert.modeling_bert.BertLayer.forward", "BertLayer.forward takes no attention_mask"),
    ("transformers.PreTrainedModel.set_attn_implementation", "has no set_attn_implementation"),
]


@pytest.mark.parametrize(("name", "words"), FAULTS)
def test_other_version_of_transformers_runs_plainly_and_one_line_says_so(
    name: str, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, model = make_bert().eval(), make_bert().eval()
    expected, gradients = read_bert(plain)
    owner, _, attribute = name.rpartition(".")
    if attribute == "forward":
        place, _, kind = owner.rpartition(".")
        layer = getattr(__import__(place, fromlist=[kind]), kind)
        usual = layer.forward

        def forward(self: Any, hidden_states: Tensor, mask: Any = None, *more: Any, **named: Any) -> Any:
            return usual(self, hidden_states, *([named.pop("attention_mask", mask)]), *more, **named)

        monkeypatch.setattr(layer, "forward", forward)
    else:
        monkeypatch.delattr(name)
    monkeypatch.setattr("transformers.__version__", "5.99.0")
    assert PADDING not in optimized(model, "fp32", CPU)
    assert PADDING not in optimized(model, "fp32", CPU)
    monkeypatch.undo()
    scores, own = read_bert(model)
    assert torch.equal(scores, expected) and all(torch.equal(own[key], gradients[key]) for key in gradients)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("bert of transformers 5.99.0 runs without padding-free layers (") and words in line


def read_bert(model: PreTrainedModel) -> tuple[Tensor, dict[str, Tensor]]:
    scores = model(input_ids=IDS, attention_mask=MASK).prediction_logits
    scores.square().sum().backward()
    return scores.detach(), {n: weight.grad for n, weight in model.named_parameters() if weight.grad is not None}


def test_modernbert_with_other_kinds_of_layers_runs_plainly(capsys: pytest.CaptureFixture[str]) -> None:
    model = make_family("modernbert")
    model.config.layer_types = ["full_attention", "chunked_attention"]
    assert PADDING not in optimized(model, "fp32", CPU)
    assert "layers of other types" in capsys.readouterr().err


def test_gelu_with_another_formula_is_not_replaced(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("transformers.activations.NewGELUActivation.forward", lambda self, inputs: inputs.sigmoid())
    model = make_chain("gelu_new")
    assert GELU not in optimized(model, "fp32", CPU)
    assert "fused GELU (NewGELUActivation is not the GELU with tanh)" in capsys.readouterr().err


def test_family_that_was_never_tested_runs_plainly_and_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(room, "TESTED", {kind: made for kind, made in TESTED.items() if kind != "gpt2"})
    model = make_gpt2(dropout=0.1)
    before = parts(model)
    assert optimized(model, "bf16", CPU) == () and parts(model) == before
    (line,) = capsys.readouterr().err.splitlines()
    assert "gpt2 of transformers" in line and "fast dropout (not tested with this type of model)" in line
    bert = make_bert()
    bert.config.model_type = "other"
    optimized(bert, "fp32", torch.device("cuda"))
    assert not capsys.readouterr().err, "nothing is left out that would help"


def make_chain(activation: str) -> GPT2LMHeadModel:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=50, n_positions=16, n_embd=32, n_layer=2, n_head=2, activation_function=activation, pad_token_id=0
    )
    return GPT2LMHeadModel(config).eval()


@pytest.mark.parametrize("activation", ["gelu_new", "gelu_fast"])
def test_fused_gelu_has_the_same_loss_and_gradients(activation: str) -> None:
    plain, quick = make_chain(activation), make_chain(activation)
    optimized(quick, "fp32", CPU)
    assert all(isinstance(block.mlp.act, nn.GELU) for block in quick.transformer.h)
    losses = [model(input_ids=IDS, labels=IDS).loss for model in (plain, quick)]
    for loss in losses:
        loss.backward()
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=1e-6)
    for one, other in zip(plain.parameters(), quick.parameters(), strict=True):
        torch.testing.assert_close(other.grad, one.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("activation", ["gelu", "relu", "gelu_pytorch_tanh", "quick_gelu", "gelu_10"])
def test_other_formulas_are_not_replaced(activation: str) -> None:
    model = make_chain(activation)
    assert optimized(model, "fp32", CPU) == (DROPOUT,)
    assert [type(block.mlp.act) for block in model.transformer.h] == [type(ACT2FN[activation])] * 2


def test_the_saved_model_is_what_it_was(tmp_path: Path) -> None:
    model = make_chain("gelu_new")
    optimized(model, "bf16", CPU)
    model.save_pretrained(tmp_path)
    assert "llmkit" not in (tmp_path / "config.json").read_text()
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert again.config.activation_function == "gelu_new"
    assert list(again.state_dict()) == list(make_chain("gelu_new").state_dict())
