"""GRU and LSTM: the sizes of the paper, and the fields that come from recipe and tokenizer."""

from typing import Any

import pytest
import torch
from tiny import make_token_ids

from llmkit.config.model import Model
from llmkit.models.configurations import RecurrentConfig
from llmkit.models.families import build_causal, make_config


@pytest.mark.parametrize(("size", "millions"), [("medium", 19.8), ("large", 66.0)])
def test_lstm_has_the_parameters_that_the_paper_says(size: Any, millions: float) -> None:
    """Zaremba et al. 2014: about 20 M and 66 M over the 10,000 words of the Penn Treebank, with an untied output."""
    section = Model(family="lstm", size=size, tie_embeddings=False)
    with torch.device("meta"):
        model = build_causal(section, make_token_ids(10_000), 35, 0)
    assert sum(weight.numel() for weight in model.parameters()) / 1e6 == pytest.approx(millions, rel=0.01)


def test_configuration_takes_the_recipes_fields_and_the_tokenizers_ids() -> None:
    section = Model(family="gru", n_layer=3, n_embd=64, embedding_size=32, tie_embeddings=False, adaptive_cutoffs=[20])
    config = make_config(section, make_token_ids(bos=None), 16)
    assert isinstance(config, RecurrentConfig)
    assert (config.cell, config.num_hidden_layers, config.hidden_size, config.embedding_size) == ("gru", 3, 64, 32)
    assert (config.tie_word_embeddings, config.adaptive_cutoffs) == (False, [20])
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (None, 5, 6)
    assert make_config(Model(family="lstm"), make_token_ids(), 16).adaptive_cutoffs is None
