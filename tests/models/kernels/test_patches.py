"""Dropout and attention that replace those of torch and transformers compute the same."""

import json
from pathlib import Path

import pytest
import torch
from tiny import make_bert, make_gpt2
from torch import nn

from llmkit.models.kernels.optimized import optimized
from llmkit.models.kernels.patches import FP32_ATTENTION, FastDropout, use_fast_dropout, use_fp32_attention


@pytest.mark.parametrize("rate", [0.03, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fast_dropout_drops_the_given_share_and_rescales_the_rest(rate: float, dtype: torch.dtype) -> None:
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


def test_dropout_of_neighbouring_units_is_independent() -> None:
    torch.manual_seed(0)
    dropped = (FastDropout(0.1)(torch.ones(4_000_000)) == 0).double()
    for distance in (1, 2, 3, 4, 1000):
        both = (dropped[:-distance] * dropped[distance:]).mean().item()
        assert both == pytest.approx(0.01, abs=5e-4)
    assert [dropped[place::4].mean().item() for place in range(4)] == pytest.approx([0.1] * 4, abs=2e-3)


def test_same_seed_drops_the_same_units_and_evaluation_none() -> None:
    dropout = FastDropout(0.3)
    values = torch.randn(10, 10)
    results = []
    for _ in range(2):
        torch.manual_seed(5)
        results.append(dropout(values))
    assert torch.equal(*results)
    assert not torch.equal(results[0], dropout(values))
    assert torch.equal(dropout.eval()(values), values)


def test_rate_next_to_one_drops_nearly_all_units() -> None:
    assert (FastDropout(0.999999999)(torch.ones(1000)) == 0).double().mean() > 0.99


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


CPU = torch.device("cpu")


@pytest.fixture
def without_amx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": False})


def test_fp32_attention_is_only_for_bf16_on_cpus_without_amx(monkeypatch: pytest.MonkeyPatch) -> None:
    for has_amx, precision, chosen in ((False, "bf16", True), (False, "fp32", False), (True, "bf16", False)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda has_amx=has_amx: {"amx_bf16": has_amx})
        model = make_gpt2()
        optimized(model, precision, CPU)
        assert (model.config._attn_implementation == FP32_ATTENTION) == chosen


@pytest.mark.parametrize("padded", [False, True])
def test_fp32_attention_changes_nothing_in_fp32_and_little_in_bf16(without_amx: None, padded: bool) -> None:
    ids = torch.randint(5, 100, (3, 20), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    if padded:
        mask[1, 12:] = 0
    for make in (make_bert, lambda: make_gpt2(vocab_size=100, n_positions=20)):
        plain, other = make().eval(), make().eval()
        use_fp32_attention(other)
        assert other.config._attn_implementation == FP32_ATTENTION
        real = mask.bool()
        with torch.no_grad():
            exact, same = (model(input_ids=ids, attention_mask=mask)[0][real] for model in (plain, other))
            with torch.autocast("cpu", torch.bfloat16):
                near = other(input_ids=ids, attention_mask=mask)[0][real]
        torch.testing.assert_close(same, exact)
        torch.testing.assert_close(near.float(), exact, rtol=0.05, atol=0.01)


def test_saved_model_does_not_record_the_change(without_amx: None, tmp_path: Path) -> None:
    model = make_bert()
    use_fp32_attention(model)
    model.save_pretrained(tmp_path)
    assert "llmkit" not in (tmp_path / "config.json").read_text()
    assert type(model).from_pretrained(tmp_path).config._attn_implementation == "sdpa"
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "bert"
