"""GPT-2: sizes, initial weights, and the fields that come from the tokenizer."""

import math
from typing import Any

import pytest
import torch
from tiny import make_token_ids as tokenizer
from transformers import GPT2LMHeadModel

from llmkit.architectures.gpt2 import SIZES
from llmkit.config.model import Model
from llmkit.models.families import build_causal, make_config


@pytest.mark.parametrize(
    ("size", "millions"), [("small", 124.44), ("medium", 354.82), ("large", 774.03), ("xl", 1557.61)]
)
def test_sizes_are_those_of_gpt2(size: Any, millions: float) -> None:
    with torch.device("meta"):
        model = GPT2LMHeadModel(make_config(Model(size=size), tokenizer(50257), 1024))
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)


def test_own_fields_beat_the_size() -> None:
    config = make_config(Model(size="tiny", n_embd=64, n_positions=99), tokenizer(), 32)
    assert (config.n_embd, config.n_layer, config.n_positions) == (64, SIZES["tiny"]["n_layer"], 99)
    assert (config.vocab_size, config.bos_token_id, config.eos_token_id, config.pad_token_id) == (97, 5, 5, 6)
    assert make_config(Model(), tokenizer(bos=None), 32).bos_token_id == 5


def test_weights_start_as_the_paper_says() -> None:
    model = build_causal(Model(n_layer=6, n_embd=128), tokenizer(), 64, seed=0)
    for name, weight in model.named_parameters():
        expected = 0.02 / math.sqrt(2 * 6) if name.endswith("c_proj.weight") else 0.02
        if weight.ndim == 2:
            assert weight.std().item() == pytest.approx(expected, rel=0.05), name
            assert abs(weight.mean().item()) < expected / 20, name
        elif "ln_" in name and name.endswith("weight"):
            assert (weight == 1).all(), name
        else:
            assert (weight == 0).all(), name


def test_weights_depend_on_the_seed_alone() -> None:
    one, same, other = (build_causal(Model(), tokenizer(), 32, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["transformer.wte.weight"], other["transformer.wte.weight"])


def test_fused_activation_has_gpt2s_formula() -> None:
    x = torch.linspace(-6, 6, 1001, dtype=torch.float64)
    formula = 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    act = GPT2LMHeadModel(make_config(Model(), tokenizer(), 8)).transformer.h[0].mlp.act
    torch.testing.assert_close(act(x), formula)
