"""Matrix products that sum in another order, as on another CPU, with another library or another batch.

    python -m pytest --reorder-sums

The order on a CPU depends on its instructions, on the shapes of the operands and on where they lie in memory. Here each
product is the sum of two, cut at a place that depends on shapes and addresses. Two computations that agree bit for bit
on the machine at hand, though nothing promises it, then differ as they may elsewhere; equal computations stay equal.
Processes that a test starts by itself, other than through several.py, are left as they are.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_ops = torch.ops.aten


class SumOrder(TorchDispatchMode):
    """Within it every product of matrices in fp32 or fp64 is the sum of two products."""

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if op is _ops.mm.default and (cut := _find_cut(*args)):
            left, right = args
            return op(left[:, :cut], right[:cut]) + op(left[:, cut:], right[cut:])
        if op is _ops.addmm.default and not kwargs and (cut := _find_cut(*args[1:])):
            bias, left, right = args
            return _ops.mm.default(left[:, :cut], right[:cut]) + _ops.mm.default(left[:, cut:], right[cut:]) + bias
        if op is _ops.bmm.default and (cut := _find_cut(*args)):
            left, right = args
            return op(left[..., :cut], right[:, :cut]) + op(left[..., cut:], right[:, cut:])
        return op(*args, **kwargs)


def _find_cut(left: Tensor, right: Tensor) -> int:
    """Where the inner dimension is cut; 0 where it is not."""
    if left.dtype not in (torch.float32, torch.float64) or left.device.type != "cpu" or left.shape[-1] < 2:
        return 0
    number = 0
    for each in (*left.shape, *right.shape, left.data_ptr() % 64, right.data_ptr() % 64):
        number = number * 31 + int(each)
    return 1 + number % (left.shape[-1] - 1)
