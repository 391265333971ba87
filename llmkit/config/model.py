"""Which network is trained. Nothing about data, optimizer or training length."""

from typing import Literal

from pydantic import Field, model_validator

from llmkit.config.section import Section


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
        if self.n_embd and self.n_head and self.n_embd % self.n_head:
            raise ValueError(f"n_embd {self.n_embd} is not a multiple of n_head {self.n_head}")
        return self
