"""Attention in fp32 under bf16: the same model, chosen only where it is faster, never saved."""

import json
from pathlib import Path

import pytest
import torch
from tiny import make_bert, make_gpt2

from llmkit.models.kernels.attention import FP32_ATTENTION, use_fp32_attention
from llmkit.models.kernels.optimized import optimized

CPU = torch.device("cpu")


@pytest.fixture
def without_amx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": False})


def test_it_is_for_bf16_on_cpus_without_amx_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for has_amx, precision, chosen in ((False, "bf16", True), (False, "fp32", False), (True, "bf16", False)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda has_amx=has_amx: {"amx_bf16": has_amx})
        model = make_gpt2()
        optimized(model, precision, CPU)
        assert (model.config._attn_implementation == FP32_ATTENTION) == chosen


@pytest.mark.parametrize("padded", [False, True])
def test_in_fp32_nothing_changes_and_in_bf16_little(without_amx: None, padded: bool) -> None:
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


def test_the_saved_model_knows_nothing_of_it(without_amx: None, tmp_path: Path) -> None:
    model = make_bert()
    use_fp32_attention(model)
    model.save_pretrained(tmp_path)
    assert "llmkit" not in (tmp_path / "config.json").read_text()
    assert type(model).from_pretrained(tmp_path).config._attn_implementation == "sdpa"
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "bert"
