"""Which network is trained. Nothing about data, optimizer or training length."""

from typing import Literal

from pydantic import Field, model_validator

from llmkit.config.section import Section

SIZES: dict[str, dict[str, int]] = {
    "tiny": {"n_layer": 4, "n_head": 4, "n_embd": 128},
    "mini": {"n_layer": 6, "n_head": 6, "n_embd": 384},
    "small": {"n_layer": 12, "n_head": 12, "n_embd": 768},
    "medium": {"n_layer": 24, "n_head": 16, "n_embd": 1024},
    "large": {"n_layer": 36, "n_head": 20, "n_embd": 1280},
    "xl": {"n_layer": 48, "n_head": 25, "n_embd": 1600},
}


class Model(Section):
    """A GPT-2 by `size`, or by its own fields, which beat the size's."""

    family: Literal["gpt2"] = Field(default="gpt2", description="The architecture.")
    size: Literal["tiny", "mini", "small", "medium", "large", "xl"] = Field(
        default="tiny", description="tiny 4x128, mini 6x384, then GPT-2's own: small is the 124M model."
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
    def _heads_divide_the_width(self) -> "Model":
        shape = self.shape
        if shape["n_embd"] % shape["n_head"]:
            raise ValueError(f"n_embd {shape['n_embd']} is not a multiple of n_head {shape['n_head']}")
        return self

    @property
    def shape(self) -> dict[str, int]:
        """The size's n_layer, n_head and n_embd, with the own fields on top."""
        own = {"n_layer": self.n_layer, "n_head": self.n_head, "n_embd": self.n_embd}
        return SIZES[self.size] | {name: value for name, value in own.items() if value is not None}
