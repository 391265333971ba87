"""The Transformer of Vaswani et al. 2017 as a causal language model; the network is in models/transformer.py."""

from typing import Any

from llmkit.architectures.base import ATTENTION_FIELDS, OUTPUT_FIELDS, Architecture, NetworkShape


def _config_fields(shape: NetworkShape) -> dict[str, Any]:
    return {
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.n_embd,
        "num_hidden_layers": shape.n_layer,
        "num_attention_heads": shape.n_head,
        "max_position_embeddings": shape.n_positions,
        "dropout": shape.dropout,
        "attention_dropout": shape.attention_dropout,
        "tie_word_embeddings": shape.tie_embeddings,
        "adaptive_cutoffs": shape.adaptive_cutoffs,
        "bos_token_id": shape.bos_token_id,
        "eos_token_id": shape.eos_token_id,
        "pad_token_id": shape.pad_token_id,
    }


TRANSFORMER = Architecture(
    family="transformer",
    task="clm",
    model_type="llmkit_transformer",
    config_fields=_config_fields,
    # base and large as in table 3 of the paper.
    sizes={
        "tiny": {"n_layer": 2, "n_head": 4, "n_embd": 128},
        "small": {"n_layer": 4, "n_head": 4, "n_embd": 256},
        "base": {"n_layer": 6, "n_head": 8, "n_embd": 512},
        "large": {"n_layer": 6, "n_head": 16, "n_embd": 1024},
    },
    reads=(*ATTENTION_FIELDS, *OUTPUT_FIELDS, "dropout", "adaptive_cutoffs"),
    activation_bytes=(48, 32, 10, 8),
    even_width=True,
)
