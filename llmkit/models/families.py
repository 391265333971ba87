"""Build the network that a recipe's model section describes, and read a network's properties from its configuration."""

from typing import Any

import torch
from torch import nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.pytorch_utils import Conv1D

from llmkit.architectures import ARCHITECTURES
from llmkit.architectures.base import EncoderHeads, NetworkShape
from llmkit.config.model import Model
from llmkit.core.console import show_size
from llmkit.core.devices import pick_device
from llmkit.core.errors import UsageError
from llmkit.core.machine import read_memory
from llmkit.models.configurations import RecurrentConfig, TransformerConfig
from llmkit.tokens.tokenizer import count_ids

NUMBERS_PER_WIDTH = 12
"""Parameters of a layer divided by the square of its width: 4 for attention, 8 for the MLP."""
LARGE_VOCABULARY = 4096
"""Vocabulary size in tokens. Below it, logits take little memory compared with the layers' activations."""


def make_config(section: Model, tokenizer: PreTrainedTokenizerBase, block_size: int) -> PreTrainedConfig:
    """Return the configuration of a new network: shape from the section, ids and vocabulary size from the tokenizer."""
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
            vocab_size=count_ids(tokenizer),
            **{name: getattr(tokenizer, name) for name in names},
        )
    )
    config: PreTrainedConfig = AutoConfig.for_model(architecture.model_type, **fields)
    return config


def build_causal(section: Model, tokenizer: PreTrainedTokenizerBase, block_size: int, seed: int) -> PreTrainedModel:
    """Return a new causal language model; its weights depend only on the section, the vocabulary size and `seed`."""
    config = make_config(section, tokenizer, block_size)
    network_class: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    require_memory(network_class, config, section)
    torch.manual_seed(seed)
    model: PreTrainedModel = network_class(config)
    _init_weights(model, section, seed)
    return model


def require_memory(network_class: Any, config: PreTrainedConfig, section: Model) -> None:
    """Check that this machine has memory for a new network, before it is allocated; does nothing on the meta device.

    Without a GPU the gradients need memory too. The optimizer's moments are checked when the run is planned.

    Raises:
        UsageError: the weights, their gradients and the buffers need more memory; the error gives both sizes.
    """
    total, shape = read_memory(), section.shape
    n_positions = int(getattr(config, "max_position_embeddings", 0))
    rows = NUMBERS_PER_WIDTH * shape["n_layer"] * shape["n_embd"] + int(config.vocab_size) + n_positions
    n_bytes = 4 * rows * shape["n_embd"] + n_positions**2  # approximate; includes a causal mask
    n_copies = 2 if pick_device().type == "cpu" else 1
    if total is None or n_copies * n_bytes < total / 2 or torch.get_default_device().type == "meta":
        return
    with torch.device("meta"):
        network = network_class(config)
    weights = sum(weight.numel() for weight in network.parameters())
    n_bytes = n_copies * 4 * weights + sum(buffer.nbytes for buffer in network.buffers())
    if n_bytes > total:
        what = (
            f"the model has {weights:,} parameters and needs {show_size(n_bytes)}; this machine has {show_size(total)}"
        )
        hint = "use lower values; `llmkit plan --gpu` estimates the memory on other machines"
        raise UsageError(what, where="model.n_layer, model.n_embd, model.n_positions", hint=hint)


def family_of(config: PreTrainedConfig) -> str:
    """Return the `model.family` of a configuration, or its model type if llmkit has no such family."""
    if isinstance(config, RecurrentConfig):
        return config.cell
    return "transformer" if isinstance(config, TransformerConfig) else str(config.model_type)


def encoder_heads(config: PreTrainedConfig) -> EncoderHeads | None:
    """Return the heads of an encoder that llmkit trains on masked tokens; None for other models."""
    architecture = ARCHITECTURES.get(family_of(config))
    return architecture.heads if architecture else None


def is_recurrent(config: PreTrainedConfig) -> bool:
    """Whether the model is one of llmkit's recurrent networks, which carry a state."""
    return isinstance(config, RecurrentConfig)


def has_chunked_loss(config: PreTrainedConfig) -> bool:
    """Whether the model's forward computes the loss in chunks of logits; see output_layer.py."""
    return isinstance(config, RecurrentConfig | TransformerConfig)


def has_plain_lm_head(config: PreTrainedConfig) -> bool:
    """Whether the logits equal `lm_head(last_hidden_state)` and can be computed in chunks."""
    architecture = ARCHITECTURES.get(family_of(config))
    return has_chunked_loss(config) or (architecture is not None and architecture.plain_lm_head)


def trains_with_chunked_loss(config: PreTrainedConfig, n_tokens: int, *, on_cpu: bool) -> bool:
    """Whether training computes the loss in chunks of logits.

    On a CPU with a large vocabulary, chunks make GPT-2's loss a quarter faster (docs/log.md) and save memory. GPUs were
    not measured.
    """
    return has_chunked_loss(config) or (has_plain_lm_head(config) and on_cpu and n_tokens >= LARGE_VOCABULARY)


@torch.no_grad()
def _init_weights(model: PreTrainedModel, section: Model, seed: int) -> None:
    """Initialize all matrices in place with the section's distribution; `auto` leaves them unchanged.

    The distribution is normal, uniform in a fixed range, Xavier (Glorot and Bengio 2010) or He (He et al. 2015). Each
    gate of a recurrent cell counts as one matrix. Vectors keep the initialization of their architecture.
    """
    if section.init == "auto":
        return
    torch.manual_seed(seed)
    recurrent = {
        id(weight) for module in model.modules() if isinstance(module, nn.RNNBase) for weight in module.parameters()
    }
    transposed = {id(module.weight) for module in model.modules() if isinstance(module, Conv1D)}  # GPT-2's layers
    for weight in model.parameters():
        if weight.ndim < 2:
            continue
        for part in weight.split(model.config.hidden_size) if id(weight) in recurrent else [weight]:
            if section.init == "normal":
                nn.init.normal_(part, std=section.init_range)
            elif section.init == "uniform":
                nn.init.uniform_(part, -section.init_range, section.init_range)
            elif section.init == "xavier":
                nn.init.xavier_uniform_(part)
            else:
                nn.init.kaiming_uniform_(part.t() if id(weight) in transposed else part, nonlinearity="relu")
