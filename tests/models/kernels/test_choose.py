"""Quicker kernels of the same formulas: the same figures, and a saved model that knows nothing of them."""

from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel
from transformers.activations import ACT2FN

from llmkit.models.kernels.choose import choose_activations, choose_kernels

CPU = torch.device("cpu")


def make_model(activation: str) -> GPT2LMHeadModel:
    torch.manual_seed(0)
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=50, n_positions=16, n_embd=32, n_layer=2, n_head=2, activation_function=activation)
    ).eval()


@pytest.mark.parametrize("activation", ["gelu_new", "gelu_fast"])
def test_loss_and_gradients_are_those_of_the_chain(activation: str) -> None:
    ids = torch.randint(0, 50, (3, 16), generator=torch.Generator().manual_seed(1))
    plain, quick = make_model(activation), make_model(activation)
    choose_kernels(quick, "fp32", CPU)
    assert all(isinstance(block.mlp.act, nn.GELU) for block in quick.transformer.h)
    losses = [model(input_ids=ids, labels=ids).loss for model in (plain, quick)]
    for loss in losses:
        loss.backward()
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=1e-6)
    for one, other in zip(plain.parameters(), quick.parameters(), strict=True):
        torch.testing.assert_close(other.grad, one.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("activation", ["gelu", "relu", "gelu_pytorch_tanh", "quick_gelu", "gelu_10"])
def test_other_formulas_stay(activation: str) -> None:
    model = make_model(activation)
    choose_activations(model)
    assert [type(block.mlp.act) for block in model.transformer.h] == [type(ACT2FN[activation])] * 2


def test_the_saved_model_is_what_it_was(tmp_path: Path) -> None:
    model = make_model("gelu_new")
    choose_kernels(model, "bf16", CPU)
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert again.config.activation_function == "gelu_new"
    assert list(again.state_dict()) == list(make_model("gelu_new").state_dict())
