"""Llama (Touvron et al. 2023) from transformers: rotary positions, RMSNorm, SwiGLU, grouped-query attention.

Each size has about as many weights as GPT-2's: the feed-forward width is chosen so that a layer has 12 n_embd^2
weights, as in GPT-2. Matrices are initialized from a normal distribution with standard deviation 0.02, norms with 1;
there are no biases.
"""

from typing import Any

from llmkit.architectures import gpt2
from llmkit.architectures.base import ATTENTION_FIELDS, OUTPUT_FIELDS, Architecture, NetworkShape, round_inner_width


def _config_fields(shape: NetworkShape) -> dict[str, Any]:
    # Queries and output take 2 d^2, keys and values 2 d d_kv, and SwiGLU three matrices of d times the inner width.
    inner = (10 * shape.n_embd - 2 * shape.n_embd * shape.n_kv_head // shape.n_head) / 3
    return {
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.n_embd,
        "intermediate_size": round_inner_width(inner),
        "num_hidden_layers": shape.n_layer,
        "num_attention_heads": shape.n_head,
        "num_key_value_heads": shape.n_kv_head,
        "max_position_embeddings": shape.n_positions,
        "attention_dropout": shape.attention_dropout,
        "tie_word_embeddings": shape.tie_embeddings,
        "initializer_range": 0.02,
        "bos_token_id": shape.eos_token_id if shape.bos_token_id is None else shape.bos_token_id,
        "eos_token_id": shape.eos_token_id,
        "pad_token_id": shape.pad_token_id,
    }


LLAMA = Architecture(
    family="llama",
    task="clm",
    model_type="llama",
    config_fields=_config_fields,
    sizes={
        size: shape | {"n_kv_head": n_kv_head}
        for (size, shape), n_kv_head in zip(gpt2.SIZES.items(), (2, 2, 4, 4, 5, 5), strict=True)
    },
    reads=(*ATTENTION_FIELDS, *OUTPUT_FIELDS, "n_kv_head"),
    activation_bytes=(84, 56, 0, 8),
    even_heads=True,
    plain_lm_head=True,
)
