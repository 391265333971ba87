"""Attention functions of our own inside transformers' models, and the one for CPUs without AMX.

There torch's bf16 attention takes longer than its fp32 one (docs/log.md), while everything else of a layer gains by
bf16. More exact it is, too.
"""

import importlib
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from llmkit.models.kernels.modules import Replaced, Undo

USUAL = "sdpa"
FP32_ATTENTION = "llmkit_sdpa_fp32"
NEEDED = (
    ("transformers.modeling_utils", "ALL_ATTENTION_FUNCTIONS"),
    ("transformers.masking_utils", "ALL_MASK_ATTENTION_FUNCTIONS"),
    ("transformers.masking_utils", "sdpa_mask"),
    ("transformers.integrations.sdpa_attention", "sdpa_attention_forward"),
)
"""Modules and names of transformers that its models look attention functions up by."""

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Of queries, keys and values."""


def attention_fp32(attend: Attend, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """What `attend` gives, in fp32 where bf16 would take longer; of the query's type."""
    if query.dtype != torch.bfloat16 or query.device.type != "cpu" or has_amx():
        return attend(query, key, value)
    with torch.autocast("cpu", enabled=False):
        return attend(query.float(), key.float(), value.float()).to(query.dtype)


def has_amx() -> bool:
    """Whether this CPU multiplies matrices of bf16 in tiles."""
    return bool(torch.cpu.get_capabilities().get("amx_bf16", False))


def check_attention(model: PreTrainedModel) -> str | None:
    """What attention functions of our own need of transformers and this model lacks, if anything."""
    for module, name in NEEDED:
        try:
            found = getattr(importlib.import_module(module), name, None)
        except ImportError:
            return f"there is no {module}"
        if found is None:
            return f"{module} has no {name}"
        if name.startswith("ALL_") and not hasattr(found, "register"):
            return f"{name} has no register"
    if not hasattr(model, "set_attn_implementation"):
        return f"{type(model).__name__} has no set_attn_implementation"
    return None


def set_attention(
    model: PreTrainedModel, name: str, attend: Callable[..., Any], mask: Callable[..., Any]
) -> list[Undo]:
    """Have the model attend by `attend`, which gets what `mask` makes of a padding mask. Nothing of it is saved."""
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(name, attend)
    ALL_MASK_ATTENTION_FUNCTIONS.register(name, mask)
    configs = {id(part.config): part.config for part in model.modules() if isinstance(part, PreTrainedModel)}
    before = [(config, config._attn_implementation) for config in configs.values()]
    model.set_attn_implementation(name)
    # A model that was built from the configuration of an optimized one begins with that one's function. The model
    # itself is not held: it would hold itself, and its memory would wait for the garbage collector.
    return [Replaced(config, "_attn_implementation", USUAL if _is_ours(old) else old) for config, old in before]


def attend_in_fp32(model: PreTrainedModel) -> Sequence[Undo]:
    """Let the model attend in fp32 where it runs in bf16."""
    from transformers.masking_utils import sdpa_mask

    return set_attention(model, FP32_ATTENTION, _fp32_attention(), sdpa_mask)


def _is_ours(attention: str | None) -> bool:
    return attention is not None and attention.startswith("llmkit_")


@cache
def _fp32_attention() -> Callable[..., tuple[Tensor, None]]:
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    def attend_in_fp32(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **more: Any
    ) -> tuple[Tensor, None]:
        def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            return sdpa_attention_forward(module, query, key, value, attention_mask, **more)[0]

        return attention_fp32(attend, query, key, value), None

    return attend_in_fp32
