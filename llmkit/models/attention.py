"""Attention in fp32 inside a model that runs in bf16, for CPUs without AMX.

There torch's bf16 attention takes longer than its fp32 one (docs/log.md), while everything else of a layer gains by
bf16. More exact it is, too.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

FP32_ATTENTION = "llmkit_sdpa_fp32"


def _attend_in_fp32(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **more: Any
) -> tuple[Tensor, None]:
    with torch.autocast("cpu", enabled=False):
        attended, _ = sdpa_attention_forward(module, query.float(), key.float(), value.float(), attention_mask, **more)
    return attended.to(query.dtype), None


ALL_ATTENTION_FUNCTIONS.register(FP32_ATTENTION, _attend_in_fp32)
ALL_MASK_ATTENTION_FUNCTIONS.register(FP32_ATTENTION, sdpa_mask)


def choose_attention(model: PreTrainedModel, precision: str, device: torch.device) -> None:
    """Let the model attend in fp32 where it trains in bf16 on a CPU without AMX; nothing of it is saved."""
    slow = precision == "bf16" and device.type == "cpu" and not torch.cpu.get_capabilities().get("amx_bf16", False)
    if slow and model.config._attn_implementation == "sdpa":
        model.set_attn_implementation(FP32_ATTENTION)
