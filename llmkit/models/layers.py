"""Which layer of a model a weight belongs to, and keeping layers as they are."""

import re
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from llmkit.core.errors import UsageError

_LAYER = re.compile(r"\.(?:layers?|h|blocks?)\.(\d+)\.")
"""How transformers numbers the layers of encoders and decoders."""
_BELOW = re.compile(r"emb|\.wte\.|\.wpe\.")


def number_layers(model: nn.Module) -> tuple[dict[str, int], int]:
    """The layer of each weight, by its name, and how many layers there are: -1 is below the first layer, and what is
    above the last one has their number."""
    layers = {name: int(found[1]) for name, _ in model.named_parameters() if (found := _LAYER.search(name))}
    n_layers = 1 + max(layers.values(), default=-1)
    for name, _ in model.named_parameters():
        layers.setdefault(name, -1 if _BELOW.search(name) else n_layers)
    return layers, n_layers


def list_blocks(model: nn.Module) -> list[nn.Module]:
    """The model's layers, the lowest first; none where they share weights (ALBERT), where torch runs each in one piece
    (GRU, LSTM), or where they are not one list."""
    lists = [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and name.rpartition(".")[2] in ("layer", "layers", "h", "blocks")
    ]
    return [block for block in lists[0] if not isinstance(block, nn.RNNBase | nn.ModuleList)] if lists else []


def checkpoint_layers(model: nn.Module) -> None:
    """Have each layer keep its input alone, and go forward again when its gradient is due (Chen et al. 2016)."""
    for block in _need_blocks(model, "train.gradient_checkpointing", "false"):
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)


def compile_layers(model: nn.Module) -> None:
    """Have torch compile the layers, which are alike and so take the time of one."""
    for block in _need_blocks(model, "train.compile", "none or whole"):
        block.compile()


def _need_blocks(model: nn.Module, setting: str, instead: str) -> list[nn.Module]:
    """Raises UsageError where there are none."""
    blocks = list_blocks(model)
    if not blocks:
        hint = f"set {setting} to {instead}"
        raise UsageError("this model has no layers that could be taken one by one", where=setting, hint=hint)
    return blocks


def is_head(model: PreTrainedModel, name: str) -> bool:
    """Whether a weight belongs to the head: with the pooler, which a model of masked tokens may not even have."""
    return "pooler" in name or not name.startswith(model.base_model_prefix + ".")


def freeze_layers(model: PreTrainedModel, what: str | int) -> None:
    """`none`, `embeddings`, `encoder` (all but the head), or the embeddings and so many of the lowest layers.

    Raises:
        UsageError: the model has fewer layers.
    """
    if what == "none":
        return
    layers, n_layers = number_layers(model)
    n_frozen = {"embeddings": 0, "encoder": n_layers}.get(what, 0) if isinstance(what, str) else what
    if not 0 <= n_frozen <= n_layers:
        hint = f"set it to {n_layers} or less, or to encoder"
        raise UsageError(f"{what} layers cannot be frozen: the model has {n_layers}", where="cls.freeze", hint=hint)
    for name, weight in model.named_parameters():
        last_norm = what == "encoder" and not is_head(model, name)
        weight.requires_grad = layers[name] >= n_frozen and not last_norm
