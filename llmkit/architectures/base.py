"""What llmkit must know of an architecture to build, train, plan and optimize its models; one file per architecture.

These files do not import torch: llmkit checks recipes before it loads torch. The networks come from transformers,
models/recurrent.py and models/transformer.py.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

Sizes = dict[str, dict[str, int]]

PADDING, ATTENTION, DROPOUT, GELU = "padding-free layers", "attention in fp32", "fast dropout", "fused GELU"
"""Names of the changes in models/kernels/optimized.py."""

INNER_MULTIPLE = 32
"""Feed-forward widths are multiples of this number, which makes matrix products faster."""

ATTENTION_FIELDS = ("n_head", "n_positions", "attention_dropout")
"""Fields of the recipe's model section that every architecture with attention uses."""
OUTPUT_FIELDS = ("tie_embeddings", "init")
"""Fields that every causal language model uses."""


@dataclass(frozen=True, slots=True)
class NetworkShape:
    """Settings of a network from recipe and tokenizer. A token id is None if the tokenizer lacks the token."""

    n_layer: int
    n_head: int
    n_kv_head: int
    n_embd: int
    embedding_size: int
    n_positions: int
    dropout: float
    attention_dropout: float
    tie_embeddings: bool
    adaptive_cutoffs: list[int] | None
    vocab_size: int
    bos_token_id: int | None
    eos_token_id: int | None
    pad_token_id: int | None
    cls_token_id: int | None
    sep_token_id: int | None


@dataclass(frozen=True, slots=True)
class EncoderHeads:
    """The heads of an encoder for masked language modelling."""

    prefixes: dict[str, str]
    """Descriptions of the model's parts by the prefix of their parameter names; more specific prefixes come first."""
    token_head: str
    """Prefix of the parameters through which only masked tokens pass, apart from the output layer."""
    token_logits: "Callable[[PreTrainedModel, Tensor], Tensor]"
    """Computes logits (tokens, vocabulary) from hidden states (tokens, width)."""
    pair_logits: "Callable[[PreTrainedModel, Any], Tensor] | None" = None
    """Computes logits (sequences, 2) from the encoder's output; None without a head for pairs."""
    once_per_sequence: tuple[str, ...] = ()
    """Prefixes of the parameters that only one token per sequence passes through."""
    rescale_embeddings: "Callable[[PreTrainedModel], None] | None" = None
    """Scales down embeddings that grew in training; the model's outputs stay the same. None if that is impossible."""


ENCODER = "weights of the encoder"
TOKEN_HEAD = "the head for masked tokens"
PAIR_HEAD = "the head for pairs"


@dataclass(frozen=True, slots=True)
class Architecture:
    """An entry of `ARCHITECTURES`."""

    family: str
    """Name in recipes."""
    task: str
    """The pretraining task that trains the architecture."""
    model_type: str
    """`model_type` of the transformers configuration."""
    config_fields: Callable[[NetworkShape], dict[str, Any]]
    """Returns the fields of the transformers configuration."""
    sizes: Sizes
    """n_layer, n_embd, n_head and n_kv_head by `model.size`."""
    reads: tuple[str, ...]
    """Fields of the recipe's model section that this architecture uses, except those that all architectures use."""
    activation_bytes: tuple[int, int, int, int]
    """Activation bytes per token and unit of width: of a layer in fp32, of a layer under autocast, added to a layer
    under autocast if its attention is in fp32, and outside of the layers. Counted from the tensors that autograd saves
    (tests/training/test_batches.py)."""
    kernels: tuple[str, ...] = (ATTENTION, DROPOUT, GELU)
    """The changes of models/kernels/optimized.py that are tested with this architecture."""
    heads: EncoderHeads | None = None
    """Heads of an encoder for masked language modelling; None for other architectures."""
    even_width: bool = False
    """Whether `n_embd` must be even, as sinusoidal positions require."""
    even_heads: bool = False
    """Whether the width of a head must be even, as rotary positions require."""
    carries_state: bool = False
    """Whether the model can carry its recurrent state from block to block."""
    plain_lm_head: bool = False
    """Whether the logits are `lm_head(last_hidden_state)`."""

    @property
    def reads_pairs(self) -> bool:
        """Whether the architecture has a head for pairs of segments, and token types."""
        return self.heads is not None and self.heads.pair_logits is not None


def round_inner_width(width: float) -> int:
    """Return the nearest multiple of `INNER_MULTIPLE`, at least one multiple."""
    return max(1, round(width / INNER_MULTIPLE)) * INNER_MULTIPLE
