"""Sum losses so that the way a batch was cut does not show."""

import torch
from torch import Tensor


def sum_wide(losses: Tensor) -> Tensor:
    """The sum in fp64: in fp32 its last digits would depend on the cut. MPS has no float64."""
    return losses.sum(dtype=torch.float32 if losses.device.type == "mps" else torch.float64)
