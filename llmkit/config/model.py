"""Which network is trained. Nothing about data, optimizer or training length."""

from itertools import pairwise
from typing import Literal

from pydantic import Field, model_validator

from llmkit.config.section import Section

_RECURRENT = {
    "tiny": {"n_layer": 1, "n_embd": 128},
    "small": {"n_layer": 2, "n_embd": 200},
    "medium": {"n_layer": 2, "n_embd": 650},
    "large": {"n_layer": 2, "n_embd": 1500},
}
_BERT = {
    "tiny": {"n_layer": 2, "n_head": 2, "n_embd": 128},
    "mini": {"n_layer": 4, "n_head": 4, "n_embd": 256},
    "small": {"n_layer": 4, "n_head": 8, "n_embd": 512},
    "medium": {"n_layer": 8, "n_head": 8, "n_embd": 512},
    "base": {"n_layer": 12, "n_head": 12, "n_embd": 768},
    "large": {"n_layer": 24, "n_head": 16, "n_embd": 1024},
}
SIZES: dict[str, dict[str, dict[str, int]]] = {
    "gpt2": {
        "tiny": {"n_layer": 4, "n_head": 4, "n_embd": 128},
        "mini": {"n_layer": 6, "n_head": 6, "n_embd": 384},
        "small": {"n_layer": 12, "n_head": 12, "n_embd": 768},
        "medium": {"n_layer": 24, "n_head": 16, "n_embd": 1024},
        "large": {"n_layer": 36, "n_head": 20, "n_embd": 1280},
        "xl": {"n_layer": 48, "n_head": 25, "n_embd": 1600},
    },
    # As wide and deep as GPT-2's, with about as many weights.
    "llama": {
        "tiny": {"n_layer": 4, "n_head": 4, "n_kv_head": 2, "n_embd": 128},
        "mini": {"n_layer": 6, "n_head": 6, "n_kv_head": 2, "n_embd": 384},
        "small": {"n_layer": 12, "n_head": 12, "n_kv_head": 4, "n_embd": 768},
        "medium": {"n_layer": 24, "n_head": 16, "n_kv_head": 4, "n_embd": 1024},
        "large": {"n_layer": 36, "n_head": 20, "n_kv_head": 5, "n_embd": 1280},
        "xl": {"n_layer": 48, "n_head": 25, "n_kv_head": 5, "n_embd": 1600},
    },
    # Google's miniatures (Turc et al. 2019, table 1) and the two of Devlin et al. 2018, section 3.
    "bert": _BERT,
    # As wide and deep as BERT's, with about as many weights.
    "modernbert": _BERT,
    # Zaremba et al. 2014, section 4.1.
    "gru": _RECURRENT,
    "lstm": _RECURRENT,
    # base and large are the two of Vaswani et al. 2017, table 3.
    "transformer": {
        "tiny": {"n_layer": 2, "n_head": 4, "n_embd": 128},
        "small": {"n_layer": 4, "n_head": 4, "n_embd": 256},
        "base": {"n_layer": 6, "n_head": 8, "n_embd": 512},
        "large": {"n_layer": 6, "n_head": 16, "n_embd": 1024},
    },
}
READ_BY: dict[str, tuple[str, ...]] = {
    "n_head": ("gpt2", "llama", "bert", "modernbert", "transformer"),
    "n_kv_head": ("llama",),
    "n_positions": ("gpt2", "llama", "bert", "modernbert", "transformer"),
    "dropout": ("gpt2", "bert", "modernbert", "gru", "lstm", "transformer"),
    "attention_dropout": ("gpt2", "llama", "bert", "modernbert", "transformer"),
    "embedding_size": ("gru", "lstm"),
    "tie_embeddings": ("gpt2", "llama", "gru", "lstm", "transformer"),
    "init": ("gpt2", "llama", "gru", "lstm", "transformer"),
    "adaptive_cutoffs": ("gru", "lstm", "transformer"),
}
"""The families that read a field which not all of them do."""
ROTARY = ("llama", "modernbert")
"""The families whose positions turn pairs of a head's units."""


class Model(Section):
    """A network by `family` and `size`, or by its own fields, which beat the size's."""

    family: Literal["gpt2", "llama", "bert", "modernbert", "gru", "lstm", "transformer"] = Field(
        default="gpt2", description="The architecture; with objective mlm it is bert unless given."
    )
    size: Literal["tiny", "mini", "small", "medium", "base", "large", "xl"] = Field(
        default="tiny",
        description="gpt2, llama: tiny 4x128, mini 6x384, small 12x768. bert, modernbert: Google's BERT's. "
        "gru, lstm: small 2x200.",
    )
    n_layer: int | None = Field(default=None, ge=1, description="Transformer blocks, or recurrent layers.")
    n_head: int | None = Field(default=None, ge=1, description="Attention heads.")
    n_kv_head: int | None = Field(
        default=None, ge=1, description="llama: heads of keys and values, each shared by as many queries' heads."
    )
    n_embd: int | None = Field(
        default=None, ge=1, description="Width of the residual stream, or of the recurrent state."
    )
    embedding_size: int | None = Field(default=None, ge=1, description="gru, lstm: default: as n_embd.")
    tie_embeddings: bool = Field(default=True, description="The output layer is the embedding.")
    adaptive_cutoffs: list[int] = Field(
        default=[],
        description="An adaptive softmax instead of a full one: its classes end at these ids, as [2000, 10000].",
    )
    init: Literal["auto", "normal", "uniform", "xavier", "he"] = Field(
        default="auto", description="How matrices begin; auto: as each family's paper has it."
    )
    init_range: float = Field(default=0.1, gt=0, description="normal: standard deviation; uniform: largest value.")
    n_positions: int | None = Field(
        default=None, ge=1, description="Longest context; default: the block size in training."
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="On embeddings and residuals; 0 for pretraining.")
    attention_dropout: float = Field(default=0.0, ge=0, lt=1, description="Above 0, attention on CPU is slow.")
    resize_embeddings: bool = Field(
        default=False, description="With --model: grow the vocabulary to the tokenizer's instead of refusing."
    )

    @model_validator(mode="after")
    def _family_has_the_size(self) -> "Model":
        sizes = SIZES[self.family]
        if self.size not in sizes:
            raise ValueError(f"there is no {self.family} of size {self.size}, only {', '.join(sizes)}")
        return self

    @model_validator(mode="after")
    def _family_reads_the_fields(self) -> "Model":
        for name, families in READ_BY.items():
            changed = getattr(self, name) != type(self).model_fields[name].get_default()
            if changed and self.family not in families:
                raise ValueError(f"{name} is for {', '.join(families)}, not for {self.family}")
        return self

    @model_validator(mode="after")
    def _widths_fit(self) -> "Model":
        width, heads = self.shape["n_embd"], self.shape.get("n_head", 1)
        if self.family == "transformer" and width % 2:
            raise ValueError(f"n_embd {width} is odd: sines and cosines come in pairs")
        if width % heads:
            raise ValueError(f"n_embd {width} is not a multiple of n_head {heads}")
        if self.family in ROTARY and width // heads % 2:
            raise ValueError(f"a head is n_embd / n_head = {width // heads} wide: rotary positions turn pairs")
        if heads % (kv_heads := self.shape.get("n_kv_head", 1)):
            raise ValueError(f"n_head {heads} is not a multiple of n_kv_head {kv_heads}")
        if self.tie_embeddings and self.embedding_size not in (None, width):
            raise ValueError(
                f"a tied output layer needs embedding_size {self.embedding_size} to be n_embd {width}; "
                "set tie_embeddings to false"
            )
        return self

    @model_validator(mode="after")
    def _range_is_used(self) -> "Model":
        if self.init not in ("normal", "uniform") and self.init_range != type(self).model_fields["init_range"].default:
            raise ValueError("init_range is for init normal and uniform")
        return self

    @model_validator(mode="after")
    def _cutoffs_ascend(self) -> "Model":
        if any(low >= high for low, high in pairwise([0, *self.adaptive_cutoffs])):
            raise ValueError(f"adaptive_cutoffs {self.adaptive_cutoffs} must ascend from 1")
        return self

    @property
    def shape(self) -> dict[str, int]:
        """The size's n_layer, n_embd and head counts, overridden by the section's own fields. If the size's n_kv_head
        does not divide n_head, n_kv_head is n_head."""
        size = SIZES[self.family][self.size]
        own = {"n_layer": self.n_layer, "n_head": self.n_head, "n_kv_head": self.n_kv_head, "n_embd": self.n_embd}
        shape = size | {name: value for name, value in own.items() if value is not None}
        if self.n_kv_head is None and "n_kv_head" in size and shape["n_head"] % size["n_kv_head"]:
            shape["n_kv_head"] = shape["n_head"]
        return shape
