"""Layers of a model: map weights to layers, and checkpoint, compile, freeze or adapt layers.

LoRA (Hu et al. 2021) adds low-rank updates to the matrices of attention. peft's adapters are injected into the model
itself, so checkpoints and resuming need no special handling. The exported model is merged and needs neither peft nor
llmkit.
"""

import importlib.util
import re
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from llmkit.core.errors import EnvironmentFault, UsageError

_LAYER = re.compile(r"\.(?:layers?|h|blocks?)\.(\d+)\.")
"""transformers' names of numbered layers in encoders and decoders."""
_EMBEDDING = re.compile(r"emb|\.wte\.|\.wpe\.")


def get_layer_ids(model: nn.Module) -> tuple[dict[str, int], int]:
    """Return the layer id of each weight by name, and the number of layers. Embeddings have id -1, heads `n_layers`."""
    layers = {name: int(found[1]) for name, _ in model.named_parameters() if (found := _LAYER.search(name))}
    n_layers = 1 + max(layers.values(), default=-1)
    for name, _ in model.named_parameters():
        layers.setdefault(name, -1 if _EMBEDDING.search(name) else n_layers)
    return layers, n_layers


def list_blocks(model: nn.Module) -> list[nn.Module]:
    """Return the layers of the model's first list of layers, in order; an encoder-decoder has a second list.

    The result is empty if layers share weights (ALBERT), are torch's GRU or LSTM, or are in nested lists (Funnel).
    """
    lists = [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and name.rpartition(".")[2] in ("layer", "layers", "h", "blocks")
    ]
    return [block for block in lists[0] if not isinstance(block, nn.RNNBase | nn.ModuleList)] if lists else []


def checkpoint_layers(model: nn.Module) -> None:
    """Recompute each layer's activations in the backward pass (Chen et al. 2016).

    Raises:
        UsageError: the model has no list of layers.
    """
    for block in _require_blocks(model, "train.gradient_checkpointing", "false"):
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)


def compile_layers(model: nn.Module) -> None:
    """Compile each layer with torch; identical layers share one compilation.

    Raises:
        UsageError: the model has no list of layers.
    """
    for block in _require_blocks(model, "train.compile", "none or whole"):
        block.compile()


def _require_blocks(model: nn.Module, setting: str, instead: str) -> list[nn.Module]:
    """Return `list_blocks`; raises UsageError if it is empty."""
    blocks = list_blocks(model)
    if not blocks:
        hint = f"set {setting} to {instead}"
        raise UsageError("this model has no list of separate layers", where=setting, hint=hint)
    return blocks


def is_head(model: PreTrainedModel, name: str) -> bool:
    """Whether a weight belongs to the head or the pooler; a masked language model may have no pooler."""
    return "pooler" in name or not name.startswith(model.base_model_prefix + ".")


def freeze_layers(model: PreTrainedModel, what: str | int, section: str = "cls") -> None:
    """Freeze `none`, `embeddings`, `encoder` (all but the head), or the embeddings and the `what` lowest layers;
    `section` is the recipe's section with the key `freeze`.

    Raises:
        UsageError: the model has fewer layers.
    """
    if what == "none":
        return
    layers, n_layers = get_layer_ids(model)
    n_frozen = {"embeddings": 0, "encoder": n_layers}.get(what, 0) if isinstance(what, str) else what
    if not 0 <= n_frozen <= n_layers:
        hint = f"set {section}.freeze to {n_layers} or less, or to encoder"
        raise UsageError(
            f"{what} layers cannot be frozen: the model has {n_layers}", where=f"{section}.freeze", hint=hint
        )
    for name, weight in model.named_parameters():
        last_norm = what == "encoder" and not is_head(model, name)
        weight.requires_grad = layers[name] >= n_frozen and not last_norm


TARGETS = {"modernbert": ["Wqkv"]}
"""By `model_type`, the matrices to adapt where peft has no default: the input projections of attention. In other models
without a default, all matrices outside of the head are adapted."""


def require_peft(where: str = "cls.lora_rank") -> None:
    """Check that peft is installed; `where` is the recipe's key that requires it.

    Raises:
        EnvironmentFault: peft is not installed.
    """
    if importlib.util.find_spec("peft") is None:
        hint = f"pip install 'llmkit[lora]', or set {where} to 0"
        raise EnvironmentFault("peft is not installed", where=where, hint=hint)


def list_linear(model: PreTrainedModel) -> list[str]:
    """Return the names of linear layers outside of the head, including convolutions of width 1 (SqueezeBERT)."""
    return [
        name
        for name, module in model.named_modules()
        if not is_head(model, name)
        and (isinstance(module, nn.Linear | Conv1D) or (isinstance(module, nn.Conv1d) and module.kernel_size == (1,)))
    ]


def add_lora(
    model: PreTrainedModel, rank: int, alpha: int, seed: int, *, targets: Sequence[str] = (), section: str = "cls"
) -> None:
    """Freeze all weights except the head, and add trainable updates of `rank`, scaled by `alpha` / `rank`.

    Adapts the modules whose names end with one of `targets`. By default, `targets` come from peft or from `TARGETS` for
    this architecture; if neither has it, all linear layers outside of the head are adapted. `section` is the recipe's
    section with the settings of LoRA.

    Raises:
        EnvironmentFault: peft is not installed.
        UsageError: no module matches.
    """
    where = f"{section}.lora_target_modules" if targets else f"{section}.lora_rank"
    require_peft(where)
    import peft

    torch.manual_seed(seed)
    # GPT-2's Conv1D stores its matrices as (inputs, outputs).
    is_transposed = any(isinstance(module, Conv1D) for module in model.modules())
    kind = str(model.config.model_type)
    known = peft.utils.TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING | TARGETS
    adapted: Any = list(targets) or known.get(kind) or list_linear(model)
    config = peft.LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=0.0, fan_in_fan_out=is_transposed, target_modules=adapted
    )
    try:
        peft.inject_adapter_in_model(config, model)
    except ValueError as error:
        names = sorted({name.rpartition(".")[2] for name in list_linear(model)})
        hint = f"choose from {', '.join(names)}" if targets else f"set {where} to 0, or freeze layers instead"
        raise UsageError(f"no LoRA for {kind}: {error}", where=where, hint=hint) from None
    for name, weight in model.named_parameters():
        weight.requires_grad = "lora_" in name or is_head(model, name)


def merge_lora(model: PreTrainedModel) -> None:
    """Add the LoRA updates to their matrices and remove the adapters, in place."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in list(model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            cast(Any, module).merge(safe_merge=True)
            parent = model.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], module.get_base_layer())
    if hasattr(model, "peft_config"):
        del model.peft_config
