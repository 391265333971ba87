"""Layers of a model: which one a weight belongs to, and how to checkpoint, compile and freeze them."""

import re
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from llmkit.core.errors import UsageError

_LAYER = re.compile(r"\.(?:layers?|h|blocks?)\.(\d+)\.")
"""transformers' names of numbered layers in encoders and decoders."""
_EMBEDDING = re.compile(r"emb|\.wte\.|\.wpe\.")


def get_layer_ids(model: nn.Module) -> tuple[dict[str, int], int]:
    """The layer id of each weight by name, and the number of layers: embeddings have id -1, heads `n_layers`."""
    layers = {name: int(found[1]) for name, _ in model.named_parameters() if (found := _LAYER.search(name))}
    n_layers = 1 + max(layers.values(), default=-1)
    for name, _ in model.named_parameters():
        layers.setdefault(name, -1 if _EMBEDDING.search(name) else n_layers)
    return layers, n_layers


def list_blocks(model: nn.Module) -> list[nn.Module]:
    """The model's layers in order. Empty if layers share weights (ALBERT), if torch runs each as one module (GRU,
    LSTM), or if they are not one list."""
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
    """`list_blocks`, or a UsageError if it is empty."""
    blocks = list_blocks(model)
    if not blocks:
        hint = f"set {setting} to {instead}"
        raise UsageError("this model has no list of separate layers", where=setting, hint=hint)
    return blocks


def is_head(model: PreTrainedModel, name: str) -> bool:
    """Whether a weight belongs to the head or the pooler; a masked language model may have no pooler."""
    return "pooler" in name or not name.startswith(model.base_model_prefix + ".")


def freeze_layers(model: PreTrainedModel, what: str | int) -> None:
    """Freeze `none`, `embeddings`, `encoder` (all but the head), or the embeddings and this many of the lowest layers.

    Raises:
        UsageError: the model has fewer layers.
    """
    if what == "none":
        return
    layers, n_layers = get_layer_ids(model)
    n_frozen = {"embeddings": 0, "encoder": n_layers}.get(what, 0) if isinstance(what, str) else what
    if not 0 <= n_frozen <= n_layers:
        hint = f"set it to {n_layers} or less, or to encoder"
        raise UsageError(f"{what} layers cannot be frozen: the model has {n_layers}", where="cls.freeze", hint=hint)
    for name, weight in model.named_parameters():
        last_norm = what == "encoder" and not is_head(model, name)
        weight.requires_grad = layers[name] >= n_frozen and not last_norm
