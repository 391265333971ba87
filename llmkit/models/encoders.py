"""What sets one family of encoders for masked tokens apart from the others; each has it in a file of its own."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from llmkit.config.model import Model

ENCODER = "weights of the encoder"
TOKEN_HEAD = "the head for masked tokens"
PAIR_HEAD = "the head for pairs"


@dataclass(frozen=True)
class EncoderFamily:
    """One line of `MASKED` in models/masked.py."""

    masked: type[PreTrainedModel]
    """Encoder and head for masked tokens."""
    make_config: Callable[[Model, PreTrainedTokenizerBase, int], PreTrainedConfig]
    """Builds the configuration from the recipe's model section, a tokenizer and the block size."""
    token_logits: Callable[[PreTrainedModel, Tensor], Tensor]
    """What the head for masked tokens makes of hidden states: (tokens, width) to (tokens, vocabulary)."""
    parts: dict[str, str]
    """Beginnings of parameter names, and what they belong to in words; the more special first."""
    token_head: str
    """How the names of what only masked tokens go through begin, beside the output layer."""
    paired: type[PreTrainedModel] | None = None
    """The same with a head for pairs; None where the family has none."""
    pair_logits: Callable[[PreTrainedModel, Any], Tensor] | None = None
    """What the head for pairs makes of the encoder's output: (sequences, 2)."""
    once_per_sequence: tuple[str, ...] = ()
    """How the names of what reads one token of a sequence begin."""
    rescale_embeddings: Callable[[PreTrainedModel], None] | None = None
    """Rescales long embeddings without changing the model's outputs; None if the family does not allow it."""
