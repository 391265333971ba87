"""Low-rank additions to a model's matrices (Hu et al., LoRA, 2021), through peft, and their merging in the end.

While training, the model is itself with adapters inside, so checkpoints and resuming need nothing special. What is
exported is merged: a plain model that needs neither peft nor llmkit.
"""

import importlib.util
from typing import Any, cast

import torch
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from llmkit.core.errors import EnvironmentFault, UsageError
from llmkit.models.layers import is_head

TARGETS = {"modernbert": ["Wqkv"]}
"""The matrices that are added to, by `model_type`, where peft has none of its own: those of attention's inputs."""


def require_peft() -> None:
    """Raises EnvironmentFault where peft is not installed."""
    if importlib.util.find_spec("peft") is None:
        hint = "pip install 'llmkit[lora]', or set cls.lora_rank to 0"
        raise EnvironmentFault("peft is not installed", where="cls.lora_rank", hint=hint)


def add_lora(model: PreTrainedModel, rank: int, alpha: int, seed: int) -> None:
    """Freeze the model but for its head, and give its attention trainable additions of `rank`.

    Raises:
        EnvironmentFault: peft is not installed.
        UsageError: peft does not know which matrices of this architecture to add to.
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
    """Put the additions into the matrices they belong to, in place."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in list(model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            cast(Any, module).merge(safe_merge=True)
            parent = model.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], module.get_base_layer())
    if hasattr(model, "peft_config"):
        del model.peft_config


def _is_transposed(model: PreTrainedModel) -> bool:
    """GPT-2 keeps its matrices in Conv1D, inputs first."""
    return any(isinstance(module, Conv1D) for module in model.modules())
