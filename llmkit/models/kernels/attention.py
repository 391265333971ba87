"""Custom attention functions for transformers' models, and attention in fp32 for CPUs without AMX.

On such CPUs, torch's attention is slower in bf16 than in fp32 (docs/log.md), while all other operations are faster in
bf16. fp32 is also more accurate.
"""

import importlib
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from llmkit.models.kernels.modules import ReplacedAttribute, Undo

SDPA = "sdpa"
FP32_ATTENTION = "llmkit_sdpa_fp32"
REQUIRED_NAMES = (
    ("transformers.modeling_utils", "ALL_ATTENTION_FUNCTIONS"),
    ("transformers.masking_utils", "ALL_MASK_ATTENTION_FUNCTIONS"),
    ("transformers.masking_utils", "sdpa_mask"),
    ("transformers.integrations.sdpa_attention", "sdpa_attention_forward"),
)
"""Modules and names of transformers that registering an attention function needs."""

AttentionFunction = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Takes queries, keys and values."""


def attention_fp32(attend: AttentionFunction, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Call `attend` in fp32 if bf16 would be slower; the result has the query's type."""
    if query.dtype != torch.bfloat16 or query.device.type != "cpu" or has_amx():
        return attend(query, key, value)
    with torch.autocast("cpu", enabled=False):
        return attend(query.float(), key.float(), value.float()).to(query.dtype)


def has_amx() -> bool:
    """Whether this CPU has AMX tiles for bf16 matrix products."""
    return bool(torch.cpu.get_capabilities().get("amx_bf16", False))


def check_attention(model: PreTrainedModel) -> str | None:
    """What registering an attention function needs and this model or this transformers lacks, or None."""
    for module, name in REQUIRED_NAMES:
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
    """Let the model use the attention function `attend` and the mask function `mask`; returns how to undo it."""
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(name, attend)
    ALL_MASK_ATTENTION_FUNCTIONS.register(name, mask)
    configs = {id(part.config): part.config for part in model.modules() if isinstance(part, PreTrainedModel)}
    before = [(config, config._attn_implementation) for config in configs.values()]
    model.set_attn_implementation(name)
    # A model built from the configuration of an optimized one starts with the custom function. Only configurations are
    # kept: a reference to the model would be a cycle, which delays freeing its memory.
    return [ReplacedAttribute(config, "_attn_implementation", SDPA if _is_ours(old) else old) for config, old in before]


def use_fp32_attention(model: PreTrainedModel) -> Sequence[Undo]:
    """Run the model's attention in fp32 where the model runs in bf16; returns how to undo it."""
    from transformers.masking_utils import sdpa_mask

    return set_attention(model, FP32_ATTENTION, _fp32_attention(), sdpa_mask)


def _is_ours(attention: str | None) -> bool:
    return attention is not None and attention.startswith("llmkit_")


@cache
def _fp32_attention() -> Callable[..., tuple[Tensor, None]]:
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    def forward(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
    ) -> tuple[Tensor, None]:
        def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)[0]

        return attention_fp32(attend, query, key, value), None

    return forward
