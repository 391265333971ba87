"""Build the network that a recipe names, and tell from a configuration what it can do."""

from typing import Any

import torch
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from llmkit.architectures import ARCHITECTURES
from llmkit.architectures.base import EncoderHeads, NetworkShape
from llmkit.config.model import Model
from llmkit.models.configurations import RecurrentConfig, TransformerConfig
from llmkit.models.initialise import initialise

LARGE_VOCABULARY = 4096
"""Tokens; the logits of fewer are small beside what the layers keep."""


def make_config(section: Model, tokenizer: PreTrainedTokenizerBase, block_size: int) -> PreTrainedConfig:
    """The configuration of a new network: the size's shape, the section's own fields on top, ids from the tokenizer."""
    architecture, shape = ARCHITECTURES[section.family], section.shape
    names = [f"{name}_token_id" for name in ("bos", "eos", "pad", "cls", "sep")]
    n_head = shape.get("n_head", 1)
    fields = architecture.config_fields(
        NetworkShape(
            n_layer=shape["n_layer"],
            n_head=n_head,
            n_kv_head=shape.get("n_kv_head", n_head),
            n_embd=shape["n_embd"],
            embedding_size=section.embedding_size or shape["n_embd"],
            n_positions=section.n_positions or block_size,
            dropout=section.dropout,
            attention_dropout=section.attention_dropout,
            tie_embeddings=section.tie_embeddings,
            adaptive_cutoffs=section.adaptive_cutoffs or None,
            vocab_size=len(tokenizer),
            **{name: getattr(tokenizer, name) for name in names},
        )
    )
    config: PreTrainedConfig = AutoConfig.for_model(architecture.model_type, **fields)
    return config


def build_causal(section: Model, tokenizer: PreTrainedTokenizerBase, block_size: int, seed: int) -> PreTrainedModel:
    """A new causal language model with weights that depend on `seed` alone."""
    config = make_config(section, tokenizer, block_size)
    torch.manual_seed(seed)
    network_class: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    model: PreTrainedModel = network_class(config)
    initialise(model, section, seed)
    return model


def family_of(config: PreTrainedConfig) -> str:
    """What a recipe calls the architecture; the model type where it is none of ours."""
    if isinstance(config, RecurrentConfig):
        return config.cell
    return "transformer" if isinstance(config, TransformerConfig) else str(config.model_type)


def encoder_heads(config: PreTrainedConfig) -> EncoderHeads | None:
    """How an encoder that llmkit trains on masked tokens is put together; None for all others."""
    architecture = ARCHITECTURES.get(family_of(config))
    return architecture.heads if architecture else None


def is_recurrent(config: PreTrainedConfig) -> bool:
    """Whether the model reads with a state that it can be given again."""
    return isinstance(config, RecurrentConfig)


def sums_its_loss(config: PreTrainedConfig) -> bool:
    """Whether the model gives the loss without ever having all logits; see output_layer.py."""
    return isinstance(config, RecurrentConfig | TransformerConfig)


def has_plain_output(config: PreTrainedConfig) -> bool:
    """Whether the logits are what `lm_head` makes of the body's last hidden state, so that they can be had in parts."""
    architecture = ARCHITECTURES.get(family_of(config))
    return sums_its_loss(config) or (architecture is not None and architecture.plain_output)


def trains_in_parts(config: PreTrainedConfig, n_tokens: int, *, on_cpu: bool) -> bool:
    """Whether training never has all logits: on CPUs, where GPT-2's loss takes a quarter less time so with a large
    vocabulary (docs/log.md), and little memory; on GPUs that is not measured."""
    return sums_its_loss(config) or (has_plain_output(config) and on_cpu and n_tokens >= LARGE_VOCABULARY)
