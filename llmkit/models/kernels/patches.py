"""Reversible replacements for dropout, GELU and attention of torch and transformers that run faster.

torch's CPU dropout draws one random number per element, which took a tenth of a fine-tuning step (docs/log.md).
FastDropout uses 16 random bits per element, so the probability is rounded to a multiple of 1/65,536. The scale uses the
rounded probability, so the expected value is exact.

On CPUs without AMX, torch's attention is slower in bf16 than in fp32 (docs/log.md), although all other operations are
faster. In fp32, attention is also more accurate.
"""

import importlib
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

_LEVELS = 1 << 16
UNFUSED_GELUS = ("NewGELUActivation", "FastGELUActivation")
"""Classes of `transformers.activations` that compute GPT-2's GELU as eight separate operations."""


class Undo(Protocol):
    """Undoes one change; has the interface of torch's hook handles."""

    def remove(self) -> None: ...


class ReplacedAttribute(NamedTuple):
    """A replaced attribute. It holds only data, so copies of the model copy it too."""

    owner: Any
    name: str
    old: Any

    def remove(self) -> None:
        if isinstance(self.old, nn.Module):
            self.old.train(getattr(self.owner, self.name).training)
        setattr(self.owner, self.name, self.old)


def replace(owner: Any, name: str, new: Any) -> ReplacedAttribute:
    """Set an attribute; the returned object can restore the old value."""
    replaced = ReplacedAttribute(owner, name, getattr(owner, name))
    setattr(owner, name, new)
    return replaced


class FastDropout(nn.Dropout):
    """`nn.Dropout` that draws a quarter as many random numbers, from the same generator and seed."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or self.p == 0.0 or input.device.type != "cpu":
            return super().forward(input)
        n_dropped = min(round(self.p * _LEVELS), _LEVELS - 1)
        bits = torch.empty(-(-input.numel() // 4), dtype=torch.int64).random_(-(1 << 63), None)
        kept = bits.view(torch.int16)[: input.numel()].view(input.shape) >= n_dropped - _LEVELS // 2
        return input * kept.to(input.dtype).mul_(_LEVELS / (_LEVELS - n_dropped))


def find_dropouts(model: nn.Module) -> list[nn.Module]:
    """Return the `nn.Dropout` modules that `use_fast_dropout` replaces."""
    return [module for module in model.modules() if type(module) is nn.Dropout and module.p < 1]


def use_fast_dropout(model: nn.Module) -> Sequence[Undo]:
    """Replace the `nn.Dropout` modules of the model with `FastDropout`, in place; returns the changes to undo."""
    return [replace(module, "__class__", FastDropout) for module in find_dropouts(model)]


def find_unfused_gelus(model: nn.Module) -> list[tuple[nn.Module, str]]:
    """Return (module, attribute name) of each tanh GELU (Hendrycks and Gimpel 2016) that is not one fused kernel."""
    unfused = _unfused_gelu_types()
    return [
        (module, name)
        for module in model.modules()
        for name, child in module.named_children()
        if type(child) in unfused
    ]


def fuse_gelus(model: nn.Module) -> Sequence[Undo]:
    """Replace each unfused GELU with one kernel; returns the changes to undo.

    A training step of GPT-2 on a CPU is 1.7 times as fast. The formula is the same; the last digit of fp32 may differ.
    """
    return [replace(module, name, nn.GELU(approximate="tanh")) for module, name in find_unfused_gelus(model)]


@cache
def check_gelus() -> str | None:
    """Return a message if the unfused GELUs of transformers do not compute torch's tanh GELU, else None."""
    inputs = torch.linspace(-6, 6, 49, dtype=torch.float64)
    expected = nn.functional.gelu(inputs, approximate="tanh")
    for kind in _unfused_gelu_types():
        if not torch.allclose(kind()(inputs), expected, rtol=1e-5, atol=1e-6):
            return f"{kind.__name__} is not the GELU with tanh"
    return None


def _unfused_gelu_types() -> tuple[type[nn.Module], ...]:
    from transformers import activations

    return tuple(getattr(activations, name) for name in UNFUSED_GELUS if hasattr(activations, name))


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
    """Call `attend` in fp32 if bf16 would be slower; the result has the dtype of the query."""
    if query.dtype != torch.bfloat16 or query.device.type != "cpu" or has_amx():
        return attend(query, key, value)
    with torch.autocast("cpu", enabled=False):
        return attend(query.float(), key.float(), value.float()).to(query.dtype)


def has_amx() -> bool:
    """Whether this CPU has AMX tiles for bf16 matrix products."""
    return bool(torch.cpu.get_capabilities().get("amx_bf16", False))


def check_attention(model: PreTrainedModel) -> str | None:
    """Return the interface for attention functions that this model or transformers lacks, or None."""
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
    """Make the model use the attention function `attend` and the mask function `mask`; returns the changes to undo."""
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(name, attend)
    ALL_MASK_ATTENTION_FUNCTIONS.register(name, mask)
    configs = {id(part.config): part.config for part in model.modules() if isinstance(part, PreTrainedModel)}
    before = [(config, config._attn_implementation) for config in configs.values()]
    model.set_attn_implementation(name)
    # A model built from the configuration of an optimized one starts with the custom function; undoing sets SDPA. Only
    # configurations are stored: a reference to the model would be a cycle, which delays freeing its memory.
    return [
        ReplacedAttribute(config, "_attn_implementation", SDPA if str(old).startswith("llmkit_") else old)
        for config, old in before
    ]


def use_fp32_attention(model: PreTrainedModel) -> Sequence[Undo]:
    """Run attention in fp32 if the model runs in bf16; returns the changes to undo."""
    from transformers.masking_utils import sdpa_mask

    return set_attention(model, FP32_ATTENTION, _fp32_attention(), sdpa_mask)


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
