"""Llama: sizes as in GPT-2, initial weights, and the fields that come from the tokenizer."""

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from tiny import make_token_ids as tokenizer
from transformers import GPT2LMHeadModel, LlamaForCausalLM

from llmkit.config.model import Model
from llmkit.models.families import build_causal, make_config


@pytest.mark.parametrize("size", ["tiny", "mini", "small", "medium", "large", "xl"])
def test_size_has_about_the_weights_of_the_gpt2_of_its_name(size: Any) -> None:
    with torch.device("meta"):
        llama = LlamaForCausalLM(make_config(Model(family="llama", size=size), tokenizer(50257), 1024))
        gpt2 = GPT2LMHeadModel(make_config(Model(size=size), tokenizer(50257), 1024))
    n_llama, n_gpt2 = (sum(weight.numel() for weight in model.parameters()) for model in (llama, gpt2))
    assert n_llama == pytest.approx(n_gpt2, rel=0.03)


def test_own_fields_beat_the_size() -> None:
    section = Model(family="llama", n_embd=64, n_head=8, n_kv_head=1, n_positions=99, tie_embeddings=False)
    config = make_config(section, tokenizer(), 32)
    assert (config.hidden_size, config.num_attention_heads, config.num_key_value_heads) == (64, 8, 1)
    assert (config.max_position_embeddings, config.tie_word_embeddings, config.vocab_size) == (99, False, 97)
    assert config.intermediate_size % 32 == 0
    assert Model(family="llama", n_head=1, n_embd=64).shape["n_kv_head"] == 1, "the size's 2 do not divide it"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"n_head": 4, "n_kv_head": 3}, "n_head 4 is not a multiple of n_kv_head 3"),
        ({"n_embd": 12, "n_head": 4}, "rotary positions need an even width"),
        ({"dropout": 0.1}, "dropout applies only to gpt2, bert, modernbert, gru, lstm, transformer, not to llama"),
    ],
)
def test_shape_that_cannot_be_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Model(family="llama", **fields)
    with pytest.raises(ValidationError, match="n_kv_head applies only to llama, not to gpt2"):
        Model(n_kv_head=2)


def test_weights_start_normal_and_depend_on_the_seed_alone() -> None:
    one, same, other = (build_causal(Model(family="llama"), tokenizer(), 32, seed) for seed in (1, 1, 2))
    for name, weight in one.named_parameters():
        assert torch.equal(weight, same.get_parameter(name))
        if weight.ndim == 2:
            assert weight.std().item() == pytest.approx(0.02, rel=0.1), name
            assert not torch.equal(weight, other.get_parameter(name))
        else:
            assert (weight == 1).all(), name
    assert one.lm_head.weight is one.model.embed_tokens.weight
