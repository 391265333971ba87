"""The Transformer of Vaswani et al.: sizes, and the fields that come from recipe and tokenizer."""

import pytest
import torch
from tiny import make_token_ids

from llmkit.config.model import Model
from llmkit.models.configurations import TransformerConfig
from llmkit.models.families import build_causal, make_config


def test_base_has_the_weights_of_a_decoder_without_cross_attention() -> None:
    """Table 3: 6 layers of 4 d^2 for attention and 8 d^2 for the feed-forward network, and one embedding."""
    with torch.device("meta"):
        model = build_causal(Model(family="transformer", size="base"), make_token_ids(1000), 64, 0)
    n_matrices = sum(weight.numel() for weight in model.parameters() if weight.ndim == 2)
    assert n_matrices == pytest.approx(6 * 12 * 512**2 + 1000 * 512, rel=1e-6)


def test_configuration_takes_the_recipes_fields_and_the_tokenizers_ids() -> None:
    section = Model(family="transformer", n_embd=64, n_head=8, n_positions=99, dropout=0.2, attention_dropout=0.3)
    config = make_config(section, make_token_ids(), 16)
    assert isinstance(config, TransformerConfig)
    assert (config.hidden_size, config.num_attention_heads, config.max_position_embeddings) == (64, 8, 99)
    assert (config.dropout, config.attention_dropout, config.vocab_size) == (0.2, 0.3, 97)
    assert make_config(Model(family="transformer"), make_token_ids(), 16).max_position_embeddings == 16
