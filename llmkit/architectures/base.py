"""What llmkit must know of an architecture to build, train, plan and speed it up; one file in this folder each.

These files import no torch: recipes are checked against them before torch loads. The networks are transformers' own, or
those of models/recurrent.py and models/transformer.py.
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
"""Inner widths are multiples of it, which suits matrix products."""

ATTENTION_FIELDS = ("n_head", "n_positions", "attention_dropout")
"""Fields of the recipe's model section that every architecture with attention reads."""
OUTPUT_FIELDS = ("tie_embeddings", "init")
"""Those that every causal language model reads."""


@dataclass(frozen=True, slots=True)
class NetworkShape:
    """What a recipe and its tokenizer ask of a network. Token ids are None where the tokenizer lacks the token."""

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
    """How an encoder for masked tokens is put together."""

    parts: dict[str, str]
    """Beginnings of parameter names, and what they belong to in words; the more special first."""
    token_head: str
    """How the names begin of what only masked tokens go through, beside the output layer."""
    token_logits: "Callable[[PreTrainedModel, Tensor], Tensor]"
    """What the head for masked tokens makes of hidden states: (tokens, width) to (tokens, vocabulary)."""
    pair_logits: "Callable[[PreTrainedModel, Any], Tensor] | None" = None
    """What the head for pairs makes of the encoder's output: (sequences, 2). None without such a head."""
    once_per_sequence: tuple[str, ...] = ()
    """How the names begin of what reads one token of a sequence."""
    rescale_embeddings: "Callable[[PreTrainedModel], None] | None" = None
    """Rescales long embeddings without changing the model's outputs; None if the architecture does not allow it."""


ENCODER = "weights of the encoder"
TOKEN_HEAD = "the head for masked tokens"
PAIR_HEAD = "the head for pairs"


@dataclass(frozen=True, slots=True)
class Architecture:
    """One line of `ARCHITECTURES`."""

    family: str
    """What a recipe calls it."""
    task: str
    """The task of pretraining that trains it."""
    model_type: str
    """What transformers calls it."""
    config_fields: Callable[[NetworkShape], dict[str, Any]]
    """The fields of its configuration in transformers."""
    sizes: Sizes
    """By `model.size`: n_layer, n_embd, n_head, n_kv_head."""
    reads: tuple[str, ...]
    """Fields of the recipe's model section that it reads and some others do not."""
    activation_bytes: tuple[int, int, int, int]
    """Per token, layer and unit of width: in fp32, under autocast, on top where attention alone is in fp32, and outside
    of all layers. Counted with hooks on what autograd keeps (tests/training/test_batches.py)."""
    kernels: tuple[str, ...] = (ATTENTION, DROPOUT, GELU)
    """The changes of models/kernels/optimized.py that it is tested with."""
    heads: EncoderHeads | None = None
    """Of an encoder for masked tokens."""
    even_width: bool = False
    """Whether `n_embd` must be even: sines and cosines come in pairs."""
    even_heads: bool = False
    """Whether a head must have an even width: rotary positions turn pairs."""
    carries_state: bool = False
    """Whether it remembers the block before."""
    plain_output: bool = False
    """Whether its logits are what `lm_head` makes of the last hidden state, and nothing else."""

    @property
    def reads_pairs(self) -> bool:
        """Whether it has a head for pairs of segments, and token types for them."""
        return self.heads is not None and self.heads.pair_logits is not None


def round_inner_width(width: float) -> int:
    """The nearest multiple of `INNER_MULTIPLE`, at least one."""
    return max(1, round(width / INNER_MULTIPLE)) * INNER_MULTIPLE
