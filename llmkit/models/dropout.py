"""Dropout whose random numbers are cheap on CPUs.

torch draws one number of its serial generator for each element, which took a tenth of a fine-tuning step (docs/log.md).
Here each number of 64 bits decides four elements, by 16 bits each. So a rate is met to one in 65,536, and what is kept
is scaled by the rate that is met: the expected value is exact.
"""

import torch
from torch import Tensor, nn

_LEVELS = 1 << 16


class CheapDropout(nn.Dropout):
    """`nn.Dropout` with another stream of random numbers, from the same generator and the same seed."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or self.p == 0.0 or input.device.type != "cpu":
            return super().forward(input)
        n_dropped = round(self.p * _LEVELS)
        bits = torch.empty(-(-input.numel() // 4), dtype=torch.int64).random_(-(1 << 63), None)
        kept = bits.view(torch.int16)[: input.numel()].view(input.shape) >= n_dropped - _LEVELS // 2
        return input * kept.to(input.dtype).mul_(_LEVELS / (_LEVELS - n_dropped))


def choose_dropout(model: nn.Module, device: torch.device) -> None:
    """On a CPU, let all dropout of the model be cheap, in place; nothing of it is saved."""
    for module in model.modules():
        if device.type == "cpu" and type(module) is nn.Dropout and module.p < 1:
            module.__class__ = CheapDropout
