"""Muon (Jordan et al., 2024): momentum with orthogonalized updates, for the hidden matrices of a model.

The update is the same as in torch.optim.Muon, which always multiplies in bf16. Here the caller chooses the precision,
because a CPU without bf16 instructions multiplies in bf16 a hundred times more slowly than in fp32. Matrices of the
same shape are multiplied in batches. optimizer.py selects the hidden matrices.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

A, B, C = 3.4445, -4.7750, 2.0315
"""Coefficients of the quintic iteration (https://kellerjordan.github.io/posts/muon/)."""
ITERATIONS = 5
EPSILON = 1e-7
MAX_BATCH_BYTES = 64 << 20
"""Maximum bytes, in fp32, of the matrices in one batched product; more takes memory and is not faster."""


class Muon(Optimizer):
    """Muon with Nesterov momentum and decoupled weight decay over 2-D weights.

    The learning rate is multiplied by sqrt(max(1, rows / columns)), as in torch. `dtype` is the precision of the
    products: torch.bfloat16 gives torch.optim.Muon's update up to rounding, torch.float32 is more precise.

    Raises:
        ValueError: a weight is not a matrix.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.1,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.dtype = dtype
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.ndim != 2:
                    raise ValueError(f"Muon is for matrices, not for a weight of shape {tuple(weight.shape)}")

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]  # torch's gives the closure's loss
        """Update all weights that have a gradient. A closure is not supported."""
        by_shape: dict[tuple[int, int], list[tuple[Tensor, dict[str, Any]]]] = {}
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    rows, columns = sorted(weight.shape)
                    by_shape.setdefault((rows, columns), []).append((weight, group))
        for (rows, columns), entries in by_shape.items():
            size = max(1, MAX_BATCH_BYTES // (4 * rows * columns))
            for begin in range(0, len(entries), size):
                batch = entries[begin : begin + size]
                momenta = (self._add_momentum(weight, group["momentum"]) for weight, group in batch)
                wide = [each.mT if each.shape[0] > each.shape[1] else each for each in momenta]
                updates = orthogonalize(torch.stack(wide).to(self.dtype))
                for (weight, group), update in zip(batch, updates, strict=True):
                    height, width = weight.shape
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    rate = group["lr"] * math.sqrt(max(1.0, height / width))
                    weight.add_(update.mT if height > width else update, alpha=-rate)

    def _add_momentum(self, weight: Tensor, momentum: float) -> Tensor:
        """Update the momentum of a weight; returns the weight's update before orthogonalization."""
        assert weight.grad is not None
        state = self.state[weight]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(weight.grad)
        buffer: Tensor = state["momentum_buffer"]
        buffer.lerp_(weight.grad, 1 - momentum)
        return weight.grad.lerp(buffer, momentum)


def orthogonalize(matrices: Tensor) -> Tensor:
    """Run five Newton-Schulz iterations X <- aX + (b XX^T + c (XX^T)^2) X towards the nearest semi-orthogonal matrices.

    `matrices` are (n, rows, columns) with rows <= columns, in the precision of the products. The result has the same
    shape and precision.
    """
    norms = torch.linalg.vector_norm(matrices, dim=(-2, -1), keepdim=True)
    x: Tensor = matrices / norms.clamp(min=EPSILON)
    rows, columns = x.shape[-2:]
    if x.dtype == torch.float32 and columns >= 2 * rows:
        return _orthogonalize_wide(x)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=B, alpha=C)
        x = torch.baddbmm(x, polynomial, x, beta=A)
    return x


def _orthogonalize_wide(x: Tensor) -> Tensor:
    """Run the same iterations on the small Gram matrix G = XX^T: with P = aI + bG + cG^2, each iteration is X <- PX and
    G <- PGP, so only the first and the last product involve X. With four columns per row, this halves the work.

    Only for fp32: in bf16 the rounding errors of G would grow from one iteration to the next.
    """
    gram = x @ x.mT
    total = torch.empty(0)
    for iteration in range(ITERATIONS):
        polynomial = torch.baddbmm(gram, gram, gram, beta=B, alpha=C)
        polynomial.diagonal(dim1=-2, dim2=-1).add_(A)
        total = polynomial @ total if iteration else polynomial
        if iteration < ITERATIONS - 1:
            gram = polynomial @ (gram @ polynomial)
    update: Tensor = total @ x
    return update
