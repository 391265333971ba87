"""Attention in fp32 inside a model that runs in bf16, for CPUs without AMX.

There torch's bf16 attention takes longer than its fp32 one (docs/log.md), while everything else of a layer gains by
bf16. More exact it is, too.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

FP32_ATTENTION = "llmkit_sdpa_fp32"

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Of queries, keys and values."""


def attend_exactly(attend: Attend, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """What `attend` gives, in fp32 where bf16 would take longer; of the query's type."""
    if query.dtype != torch.bfloat16 or query.device.type != "cpu" or _has_amx():
        return attend(query, key, value)
    with torch.autocast("cpu", enabled=False):
        return attend(query.float(), key.float(), value.float()).to(query.dtype)


def _has_amx() -> bool:
    """Whether this CPU multiplies matrices of bf16 in tiles."""
    return bool(torch.cpu.get_capabilities().get("amx_bf16", False))


def _attend_in_fp32(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **more: Any
) -> tuple[Tensor, None]:
    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **more)[0]

    return attend_exactly(attend, query, key, value), None


ALL_ATTENTION_FUNCTIONS.register(FP32_ATTENTION, _attend_in_fp32)
ALL_MASK_ATTENTION_FUNCTIONS.register(FP32_ATTENTION, sdpa_mask)


def choose_attention(model: PreTrainedModel, precision: str, device: torch.device) -> None:
    """Let the model attend in fp32 where it trains in bf16 on a CPU without AMX; nothing of it is saved."""
    slow = precision == "bf16" and device.type == "cpu" and not _has_amx()
    if slow and model.config._attn_implementation == "sdpa":
        model.set_attn_implementation(FP32_ATTENTION)
