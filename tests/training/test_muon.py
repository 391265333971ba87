"""Muon's updates beside torch's own, and beside the published iteration in double precision."""

import pytest
import torch
from torch import Tensor, nn

from llmkit.training.muon import Muon, orthogonalize

SHAPES = [(24, 24), (24, 72), (96, 24), (24, 96), (24, 72), (8, 40)]


def iterate_in_double(matrix: Tensor) -> Tensor:
    """The five published iterations, one product after the other (https://kellerjordan.github.io/posts/muon/)."""
    x = matrix.double()
    x = x / x.norm()
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x


@pytest.mark.parametrize("rank", [2, 16])
@pytest.mark.parametrize("columns", [16, 31, 32, 64])
def test_fp32_products_give_the_published_iteration(columns: int, rank: int) -> None:
    torch.manual_seed(columns)
    matrices = torch.randn(3, 16, rank) @ torch.randn(3, rank, columns)
    expected = torch.stack([iterate_in_double(matrix) for matrix in matrices])
    assert (orthogonalize(matrices).double() - expected).abs().max() < 2e-4


def take_steps(optimizer_of: type, dtype: torch.dtype | None, n_steps: int = 6) -> list[Tensor]:
    torch.manual_seed(0)
    weights = [nn.Parameter(torch.randn(shape) / 8) for shape in SHAPES]
    settings = {"lr": 0.02, "momentum": 0.9, "weight_decay": 0.1} | ({"dtype": dtype} if dtype else {})
    optimizer = optimizer_of(weights, **settings)
    for step in range(n_steps):
        torch.manual_seed(step + 1)
        for weight in weights:
            weight.grad = torch.randn_like(weight)
        optimizer.step()
    return [weight.detach() for weight in weights]


def test_bf16_products_move_weights_as_torch_does() -> None:
    ours, theirs = take_steps(Muon, torch.bfloat16), take_steps(torch.optim.Muon, None)
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine - other).abs().max() < 6 * 0.02 * 2 * 2**-7  # steps, rate, sqrt(4), bf16's rounding


def test_fp32_products_move_weights_as_bf16_products_to_their_rounding() -> None:
    ours, theirs = take_steps(Muon, torch.float32), take_steps(torch.optim.Muon, None)
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine - other).norm() < 0.02 * other.norm()
        assert not torch.equal(mine, other)


def test_matrices_of_one_batch_are_independent(monkeypatch: pytest.MonkeyPatch) -> None:
    together = take_steps(Muon, torch.float32)
    monkeypatch.setattr("llmkit.training.muon.MAX_BATCH_BYTES", 1)  # each matrix by itself
    for mine, alone in zip(together, take_steps(Muon, torch.float32), strict=True):
        torch.testing.assert_close(mine, alone, rtol=1e-5, atol=1e-6)


def test_state_of_torch_can_be_loaded() -> None:
    weight = nn.Parameter(torch.ones(4, 8))
    theirs = torch.optim.Muon([weight], lr=0.1)
    weight.grad = torch.randn(4, 8)
    theirs.step()
    ours = Muon([weight], lr=0.1)
    ours.load_state_dict(theirs.state_dict())
    assert torch.equal(ours.state[weight]["momentum_buffer"], theirs.state[weight]["momentum_buffer"])
    ours.step()


def test_a_vector_is_refused() -> None:
    with pytest.raises(ValueError, match="matrices"):
        Muon([nn.Parameter(torch.ones(4))], lr=0.1)
