"""The architectures that `pretrain-clm` builds, by the recipe's `model.family`."""

from collections.abc import Callable

from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from llmkit.config.model import Model
from llmkit.models.configurations import RecurrentConfig, TransformerConfig
from llmkit.models.gpt2 import build_gpt2
from llmkit.models.llama import build_llama
from llmkit.models.recurrent import build_recurrent
from llmkit.models.transformer import build_transformer

PLAIN = ("gpt2", "llama")
"""Of transformers' models, those whose `lm_head` reads the body's last hidden state and nothing else."""
LARGE_VOCABULARY = 4096
"""Tokens; the logits of fewer are small beside what the layers keep."""

BUILDERS: dict[str, Callable[[Model, PreTrainedTokenizerBase, int, int], PreTrainedModel]] = {
    "gpt2": build_gpt2,
    "llama": build_llama,
    "gru": build_recurrent,
    "lstm": build_recurrent,
    "transformer": build_transformer,
}


def family_of(config: PreTrainedConfig) -> str:
    """What a recipe calls the architecture; the model type where it is none of ours."""
    if isinstance(config, RecurrentConfig):
        return config.cell
    return "transformer" if isinstance(config, TransformerConfig) else str(config.model_type)


def is_recurrent(config: PreTrainedConfig) -> bool:
    """Whether the model reads with a state that it can be given again."""
    return isinstance(config, RecurrentConfig)


def sums_its_loss(config: PreTrainedConfig) -> bool:
    """Whether the model gives the loss without ever having all logits; see output_layer.py."""
    return isinstance(config, RecurrentConfig | TransformerConfig)


def has_plain_output(config: PreTrainedConfig) -> bool:
    """Whether the logits are what `lm_head` makes of the body's last hidden state, so that they can be had in parts."""
    return sums_its_loss(config) or config.model_type in PLAIN


def trains_in_parts(config: PreTrainedConfig, n_tokens: int, *, on_cpu: bool) -> bool:
    """Whether training never has all logits: on CPUs, where GPT-2's loss takes a quarter less time so with a large
    vocabulary (docs/log.md), and little memory; on GPUs that is not measured."""
    return sums_its_loss(config) or (has_plain_output(config) and on_cpu and n_tokens >= LARGE_VOCABULARY)
