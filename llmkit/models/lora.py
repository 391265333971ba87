"""LoRA: low-rank updates of a model's matrices (Hu et al. 2021), added with peft and merged after training.

peft's adapters are injected into the model itself, so checkpoints and resuming need no special handling. The exported
model is merged: it needs neither peft nor llmkit.
"""

import importlib.util
from typing import Any, cast

import torch
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from llmkit.core.errors import EnvironmentFault, UsageError
from llmkit.models.layers import is_head

TARGETS = {"modernbert": ["Wqkv"]}
"""By `model_type`, the matrices to adapt where peft has no default: the input projections of attention."""


def require_peft() -> None:
    """Check that peft is installed.

    Raises:
        EnvironmentFault: it is not.
    """
    if importlib.util.find_spec("peft") is None:
        hint = "pip install 'llmkit[lora]', or set cls.lora_rank to 0"
        raise EnvironmentFault("peft is not installed", where="cls.lora_rank", hint=hint)


def add_lora(model: PreTrainedModel, rank: int, alpha: int, seed: int) -> None:
    """Freeze all weights except the head, and add trainable updates of `rank` to attention, scaled by `alpha` / `rank`.

    Raises:
        EnvironmentFault: peft is not installed.
        UsageError: peft has no default matrices for this architecture.
    """
    require_peft()
    import peft

    torch.manual_seed(seed)
    config = peft.LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=0.0, fan_in_fan_out=_is_transposed(model),
        target_modules=TARGETS.get(str(model.config.model_type)),
    )  # fmt: skip
    try:
        peft.inject_adapter_in_model(config, model)
    except ValueError as error:
        hint = "set cls.lora_rank to 0, and freeze layers with cls.freeze"
        raise UsageError(f"no LoRA for {model.config.model_type}: {error}", where="cls.lora_rank", hint=hint) from None
    for name, weight in model.named_parameters():
        weight.requires_grad = "lora_" in name or is_head(model, name)


def merge_lora(model: PreTrainedModel) -> None:
    """Add the updates to their matrices and remove the adapters, in place."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in list(model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            cast(Any, module).merge(safe_merge=True)
            parent = model.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], module.get_base_layer())
    if hasattr(model, "peft_config"):
        del model.peft_config


def _is_transposed(model: PreTrainedModel) -> bool:
    """GPT-2's Conv1D stores its matrices as (inputs, outputs)."""
    return any(isinstance(module, Conv1D) for module in model.modules())
