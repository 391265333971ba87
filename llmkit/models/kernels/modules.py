"""Modules that compute the same formula faster, put in place of torch's and transformers', and how to take them out.

Dropout: torch draws one number of its serial generator for each element, which took a tenth of a fine-tuning step
(docs/log.md). Here each number of 64 bits decides four elements, by 16 bits each. So a rate is met to one in 65,536,
and what is kept is scaled by the rate that is met: the expected value is exact.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

_LEVELS = 1 << 16
CHAINS = ("NewGELUActivation", "FastGELUActivation")
"""Of `transformers.activations`: GPT-2's GELU as a chain of eight operations."""


class Undo(Protocol):
    """What takes one change back, as torch's handle of a hook does."""

    def remove(self) -> None: ...


class Replaced(NamedTuple):
    """An attribute that was replaced. Plain data, so that it is copied with the model that holds it."""

    owner: Any
    name: str
    old: Any

    def remove(self) -> None:
        if isinstance(self.old, nn.Module):
            self.old.train(getattr(self.owner, self.name).training)
        setattr(self.owner, self.name, self.old)


def replace(owner: Any, name: str, new: Any) -> Replaced:
    """Set an attribute; what comes back can set the old one again."""
    replaced = Replaced(owner, name, getattr(owner, name))
    setattr(owner, name, new)
    return replaced


class CheapDropout(nn.Dropout):
    """`nn.Dropout` with another stream of random numbers, from the same generator and the same seed."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or self.p == 0.0 or input.device.type != "cpu":
            return super().forward(input)
        n_dropped = round(self.p * _LEVELS)
        bits = torch.empty(-(-input.numel() // 4), dtype=torch.int64).random_(-(1 << 63), None)
        kept = bits.view(torch.int16)[: input.numel()].view(input.shape) >= n_dropped - _LEVELS // 2
        return input * kept.to(input.dtype).mul_(_LEVELS / (_LEVELS - n_dropped))


def find_dropouts(model: nn.Module) -> list[nn.Module]:
    """Modules of torch's own dropout that `cheapen_dropouts` would change."""
    return [module for module in model.modules() if type(module) is nn.Dropout and module.p < 1]


def cheapen_dropouts(model: nn.Module) -> Sequence[Undo]:
    """Let all dropout of the model be cheap, in place; on a CPU it is faster."""
    return [replace(module, "__class__", CheapDropout) for module in find_dropouts(model)]


def find_gelu_chains(model: nn.Module) -> list[tuple[nn.Module, str]]:
    """(module, attribute name) of each tanh GELU (Hendrycks and Gimpel 2016) that is a chain of operations."""
    chains = _chain_types()
    return [
        (module, name) for module in model.modules() for name, child in module.named_children() if type(child) in chains
    ]


def fuse_gelus(model: nn.Module) -> Sequence[Undo]:
    """One kernel in place of each chain: on CPUs a training step of GPT-2 is 1.7 times as fast. The formula is the
    same; the last digit of fp32 may differ."""
    return [replace(module, name, nn.GELU(approximate="tanh")) for module, name in find_gelu_chains(model)]


@cache
def check_gelus() -> str | None:
    """What is wrong with this transformers' chains, if anything: they must compute what torch's GELU with tanh does."""
    inputs = torch.linspace(-6, 6, 49, dtype=torch.float64)
    expected = nn.functional.gelu(inputs, approximate="tanh")
    for kind in _chain_types():
        if not torch.allclose(kind()(inputs), expected, rtol=1e-5, atol=1e-6):
            return f"{kind.__name__} is not the GELU with tanh"
    return None


def _chain_types() -> tuple[type[nn.Module], ...]:
    from transformers import activations

    return tuple(getattr(activations, name) for name in CHAINS if hasattr(activations, name))
