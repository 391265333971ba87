"""Llama as transformers has it (Touvron et al. 2023): rotary positions, RMSNorm, SwiGLU, shared keys and values.

A size has about the weights of the GPT-2 of that name: the inner width is chosen so that a layer has GPT-2's 12 d^2.
Matrices start normal with standard deviation 0.02, norms at 1; there are no biases.
"""

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from llmkit.config.model import Model
from llmkit.models.initialise import initialise

INNER_MULTIPLE = 32
"""Inner widths are multiples of it, which products of matrices like."""


def build_llama(section: Model, tokenizer: PreTrainedTokenizerBase, block_size: int, seed: int) -> LlamaForCausalLM:
    """A new Llama with weights that depend on `seed` alone."""
    torch.manual_seed(seed)
    model = LlamaForCausalLM(llama_config(section, tokenizer, block_size))
    initialise(model, section, seed)
    return model


def llama_config(section: Model, tokenizer: PreTrainedTokenizerBase, block_size: int) -> LlamaConfig:
    """The size's shape, the section's own fields on top, ids from the tokenizer."""
    eos = tokenizer.eos_token_id
    shape = section.shape
    width, n_head, n_kv_head = shape["n_embd"], shape["n_head"], shape["n_kv_head"]
    # Queries and output take 2 d^2, keys and values 2 d d_kv, and SwiGLU three matrices of d times the inner width.
    inner = (10 * width - 2 * width * n_kv_head // n_head) / 3
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=max(1, round(inner / INNER_MULTIPLE)) * INNER_MULTIPLE,
        num_hidden_layers=shape["n_layer"],
        num_attention_heads=n_head,
        num_key_value_heads=n_kv_head,
        max_position_embeddings=section.n_positions or block_size,
        attention_dropout=section.attention_dropout,
        tie_word_embeddings=section.tie_embeddings,
        initializer_range=0.02,
        bos_token_id=eos if tokenizer.bos_token_id is None else tokenizer.bos_token_id,
        eos_token_id=eos,
        pad_token_id=tokenizer.pad_token_id,
    )
