"""Cheap dropout is dropout."""

import pytest
import torch
from tiny import make_bert
from torch import nn

from llmkit.models.kernels.modules import FastDropout, use_fast_dropout


@pytest.mark.parametrize("rate", [0.03, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_as_many_are_dropped_as_said_and_the_rest_makes_up_for_them(rate: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    values = torch.ones(999, 1003, dtype=dtype, requires_grad=True)
    result = FastDropout(rate)(values)
    assert result.dtype == dtype
    assert (result == 0).double().mean().item() == pytest.approx(rate, abs=2e-3)
    assert result.double().mean().item() == pytest.approx(1, rel=1e-2)
    assert len(result.unique()) == 2
    result.sum().backward()
    assert values.grad is not None
    assert torch.equal(values.grad, result.detach())  # what is dropped learns nothing


def test_neighbours_are_dropped_independently() -> None:
    torch.manual_seed(0)
    dropped = (FastDropout(0.1)(torch.ones(4_000_000)) == 0).double()
    for distance in (1, 2, 3, 4, 1000):
        both = (dropped[:-distance] * dropped[distance:]).mean().item()
        assert both == pytest.approx(0.01, abs=5e-4)
    assert [dropped[place::4].mean().item() for place in range(4)] == pytest.approx([0.1] * 4, abs=2e-3)


def test_same_seed_drops_the_same_and_evaluation_nothing() -> None:
    dropout = FastDropout(0.3)
    values = torch.randn(10, 10)
    results = []
    for _ in range(2):
        torch.manual_seed(5)
        results.append(dropout(values))
    assert torch.equal(*results)
    assert not torch.equal(results[0], dropout(values))
    assert torch.equal(dropout.eval()(values), values)


def test_model_keeps_its_rates_and_its_weights() -> None:
    model = make_bert(dropout=0.2)
    before = {
        name: (type(module), module.p) for name, module in model.named_modules() if isinstance(module, nn.Dropout)
    }
    keys = list(model.state_dict())
    use_fast_dropout(model)
    after = {name: module for name, module in model.named_modules() if isinstance(module, nn.Dropout)}
    assert {name: module.p for name, module in after.items()} == {name: rate for name, (_, rate) in before.items()}
    assert {type(module) for module in after.values()} == {FastDropout}
    assert list(model.state_dict()) == keys
