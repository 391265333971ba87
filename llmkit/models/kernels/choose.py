"""The quickest way on this device to compute what a model computes; nothing of it is saved with the model."""

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.activations import FastGELUActivation, NewGELUActivation

from llmkit.models.dropout import choose_dropout
from llmkit.models.kernels.attention import choose_attention
from llmkit.models.kernels.padding_free import leave_out_padding


def choose_kernels(model: PreTrainedModel, precision: str, device: torch.device) -> None:
    """Products, padding, attention, dropout and activations for a model that runs in `precision` on `device`, in place.
    What fp32 means to products is the process's: TF32 rounds what is multiplied to ten bits."""
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    leave_out_padding(model, device)
    choose_attention(model, precision, device)
    choose_dropout(model, device)
    choose_activations(model)


def choose_activations(model: nn.Module) -> None:
    """GPT-2's GELU (Hendrycks and Gimpel 2016, with the tanh) in one kernel where transformers has a chain of eight: on
    CPUs a training step is 1.7 times as fast. The formula is the same; the last digit of fp32 may differ."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) in (NewGELUActivation, FastGELUActivation):
                setattr(module, name, nn.GELU(approximate="tanh"))
