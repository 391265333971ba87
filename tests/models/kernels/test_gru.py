"""The GRU layer for CPUs computes what torch's does, forwards and backwards, and its gradient is the right one."""

import pytest
import torch
from torch import Tensor, nn

from llmkit.models.kernels.gru import run_gru


def make(kind: torch.dtype, batch: int = 3, steps: int = 7, width: int = 4, hidden: int = 5) -> tuple[nn.GRU, Tensor]:
    torch.manual_seed(0)
    layer = nn.GRU(width, hidden, batch_first=True, dtype=kind)
    return layer, torch.randn(batch, steps, width, dtype=kind)


def gradients(layer: nn.GRU, inputs: Tensor, before: Tensor | None, *, ours: bool) -> list[Tensor]:
    """Outputs, last state, and the gradient of a loss of both with regard to all there is."""
    leaves = [inputs.clone().requires_grad_(), *([] if before is None else [before.clone().requires_grad_()])]
    state = leaves[1] if before is not None else None
    outputs, after = run_gru(layer, leaves[0], state) if ours else layer(leaves[0], state)
    loss = outputs.square().sum() + (after * torch.arange(1, after.shape[-1] + 1)).sum()
    found = torch.autograd.grad(loss, [*leaves, *layer.parameters()])
    return [outputs.detach(), after.detach(), *found]


@pytest.mark.parametrize("with_state", [False, True])
@pytest.mark.parametrize("steps", [1, 7])
def test_outputs_and_gradients_are_those_of_torch(steps: int, with_state: bool) -> None:
    layer, inputs = make(torch.float64, steps=steps)
    before = torch.randn(1, 3, 5, dtype=torch.float64) if with_state else None
    ours, its = (gradients(layer, inputs, before, ours=mine) for mine in (True, False))
    assert len(ours) == len(its) == 7 + with_state
    for found, expected in zip(ours, its, strict=True):
        assert torch.allclose(found, expected, rtol=1e-10, atol=1e-12)


def test_sequence_in_two_halves_ends_as_the_whole_one() -> None:
    layer, inputs = make(torch.float64)
    whole, last = run_gru(layer, inputs, None)
    first, state = run_gru(layer, inputs[:, :3], None)
    second, end = run_gru(layer, inputs[:, 3:], state)
    assert torch.allclose(torch.cat([first, second], 1), whole)
    assert torch.allclose(end, last)


def test_gradient_is_that_of_small_differences() -> None:
    layer, inputs = make(torch.float64, batch=2, steps=3, width=2, hidden=2)
    before = torch.randn(1, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, h: run_gru(layer, x, h), (inputs.requires_grad_(), before))


def test_outputs_stay_fp32_under_autocast_and_near_the_exact_ones() -> None:
    layer, inputs = make(torch.float32)
    exact, _ = run_gru(layer, inputs, None)
    with torch.autocast("cpu", torch.bfloat16):
        found, state = run_gru(layer, inputs, None)
    assert found.dtype == state.dtype == torch.float32
    assert torch.allclose(found, exact, atol=0.05)
    assert not torch.equal(found, exact), "the large products are in bf16"
