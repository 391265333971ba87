"""Which network is trained. Nothing about data, optimizer or training length."""

from typing import Literal

from pydantic import Field, model_validator

from llmkit.config.section import Section

SIZES: dict[str, dict[str, dict[str, int]]] = {
    "gpt2": {
        "tiny": {"n_layer": 4, "n_head": 4, "n_embd": 128},
        "mini": {"n_layer": 6, "n_head": 6, "n_embd": 384},
        "small": {"n_layer": 12, "n_head": 12, "n_embd": 768},
        "medium": {"n_layer": 24, "n_head": 16, "n_embd": 1024},
        "large": {"n_layer": 36, "n_head": 20, "n_embd": 1280},
        "xl": {"n_layer": 48, "n_head": 25, "n_embd": 1600},
    },
    # Google's miniatures (Turc et al. 2019, table 1) and the two of Devlin et al. 2018, section 3.
    "bert": {
        "tiny": {"n_layer": 2, "n_head": 2, "n_embd": 128},
        "mini": {"n_layer": 4, "n_head": 4, "n_embd": 256},
        "small": {"n_layer": 4, "n_head": 8, "n_embd": 512},
        "medium": {"n_layer": 8, "n_head": 8, "n_embd": 512},
        "base": {"n_layer": 12, "n_head": 12, "n_embd": 768},
        "large": {"n_layer": 24, "n_head": 16, "n_embd": 1024},
    },
}


class Model(Section):
    """A network by `family` and `size`, or by its own fields, which beat the size's."""

    family: Literal["gpt2", "bert"] = Field(
        default="gpt2", description="The architecture; with objective mlm it is bert unless given."
    )
    size: Literal["tiny", "mini", "small", "medium", "base", "large", "xl"] = Field(
        default="tiny", description="gpt2: tiny 4x128, mini 6x384, small is the 124M model. bert: Google's sizes."
    )
    n_layer: int | None = Field(default=None, ge=1, description="Transformer blocks.")
    n_head: int | None = Field(default=None, ge=1, description="Attention heads.")
    n_embd: int | None = Field(default=None, ge=1, description="Width of the residual stream.")
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
    def _heads_divide_the_width(self) -> "Model":
        shape = self.shape
        if shape["n_embd"] % shape["n_head"]:
            raise ValueError(f"n_embd {shape['n_embd']} is not a multiple of n_head {shape['n_head']}")
        return self

    @property
    def shape(self) -> dict[str, int]:
        """The size's n_layer, n_head and n_embd, with the own fields on top."""
        own = {"n_layer": self.n_layer, "n_head": self.n_head, "n_embd": self.n_embd}
        return SIZES[self.family][self.size] | {name: value for name, value in own.items() if value is not None}
