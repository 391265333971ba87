"""The section model: architecture and size of a new network."""

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from llmkit.architectures import ARCHITECTURES
from llmkit.config.section import Section

NOT_READ_BY_ALL = sorted({name for architecture in ARCHITECTURES.values() for name in architecture.reads})


class Model(Section):
    """A network by `family` and `size`; fields that are set override the values of the size."""

    family: str = Field(default="gpt2", description="Architecture; default: gpt2, or bert for task mlm.")
    size: Literal["tiny", "mini", "small", "medium", "base", "large", "xl"] = Field(
        default="tiny",
        description="Preset of layers x width. gpt2, llama: tiny 4x128, mini 6x384, small 12x768. bert, modernbert: "
        "Google's BERT sizes. gru, lstm: small 2x200.",
    )
    n_layer: int | None = Field(default=None, ge=1, le=1_000, description="Number of layers.")
    n_head: int | None = Field(default=None, ge=1, le=10_000, description="Number of attention heads.")
    n_kv_head: int | None = Field(
        default=None, ge=1, le=10_000, description="llama: number of key and value heads (grouped-query attention)."
    )
    n_embd: int | None = Field(default=None, ge=1, le=10**6, description="Width of the hidden states.")
    embedding_size: int | None = Field(
        default=None, ge=1, le=10**6, description="gru, lstm: width of the embeddings; default: n_embd."
    )
    tie_embeddings: bool = Field(
        default=True, description="Share the weights of the input embeddings and the output layer."
    )
    adaptive_cutoffs: list[Annotated[int, Field(ge=1, le=10**8)]] = Field(
        default=[],
        description="Adaptive softmax with clusters that end at these token ids, such as [2000, 10000].",
    )
    init: Literal["auto", "normal", "uniform", "xavier", "he"] = Field(
        default="auto", description="Initialization of the matrices; auto: as in the architecture's paper."
    )
    init_range: float = Field(
        default=0.1, gt=0, le=100, description="init normal: standard deviation; init uniform: maximum absolute value."
    )
    n_positions: int | None = Field(
        default=None, ge=1, le=10**6, description="Maximum context length; default: train.block_size."
    )
    dropout: float = Field(default=0.0, ge=0, le=0.99, description="Dropout of embeddings and residual connections.")
    attention_dropout: float = Field(
        default=0.0, ge=0, le=0.99, description="Dropout of attention weights; above 0, attention on a CPU is slow."
    )
    resize_embeddings: bool = Field(
        default=False, description="With --model: add embeddings for new tokens instead of refusing a larger tokenizer."
    )

    @field_validator("family")
    @classmethod
    def _family_is_known(cls, value: str) -> str:
        if value not in ARCHITECTURES:
            known = ", ".join(map(repr, ARCHITECTURES))
            raise PydanticCustomError("literal_error", "Input should be {expected}", {"expected": known})
        return value

    @model_validator(mode="after")
    def _family_has_the_size(self) -> "Model":
        sizes = ARCHITECTURES[self.family].sizes
        if self.size not in sizes:
            raise ValueError(f"there is no {self.family} of size {self.size}; sizes: {', '.join(sizes)}")
        return self

    @model_validator(mode="after")
    def _family_reads_the_fields(self) -> "Model":
        for name in NOT_READ_BY_ALL:
            changed = getattr(self, name) != type(self).model_fields[name].get_default()
            if changed and name not in ARCHITECTURES[self.family].reads:
                readers = [family for family, each in ARCHITECTURES.items() if name in each.reads]
                raise ValueError(f"{name} applies only to {', '.join(readers)}, not to {self.family}; remove it")
        return self

    @model_validator(mode="after")
    def _widths_fit(self) -> "Model":
        width, heads = self.shape["n_embd"], self.shape.get("n_head", 1)
        if ARCHITECTURES[self.family].even_width and width % 2:
            raise ValueError(f"n_embd {width} is odd; sinusoidal positions need an even width")
        if width % heads:
            raise ValueError(
                f"n_embd {width} is not a multiple of n_head {heads}; for example {max(1, width // heads) * heads} is"
            )
        if ARCHITECTURES[self.family].even_heads and width // heads % 2:
            raise ValueError(f"a head is n_embd / n_head = {width // heads} wide; rotary positions need an even width")
        if heads % (kv_heads := self.shape.get("n_kv_head", 1)):
            raise ValueError(f"n_head {heads} is not a multiple of n_kv_head {kv_heads}; n_kv_head must divide n_head")
        if self.tie_embeddings and self.embedding_size not in (None, width):
            raise ValueError(
                f"tie_embeddings needs embedding_size {self.embedding_size} to equal n_embd {width}; "
                "set tie_embeddings to false"
            )
        return self

    @model_validator(mode="after")
    def _range_is_used(self) -> "Model":
        if self.init not in ("normal", "uniform") and self.init_range != type(self).model_fields["init_range"].default:
            raise ValueError("init_range applies only to init normal and uniform; change init, or remove it")
        return self

    @model_validator(mode="after")
    def _cutoffs_ascend(self) -> "Model":
        if any(low >= high for low, high in pairwise([0, *self.adaptive_cutoffs])):
            raise ValueError(f"adaptive_cutoffs {self.adaptive_cutoffs} must ascend from 1; for example [2000, 10000]")
        return self

    @property
    def shape(self) -> dict[str, int]:
        """Return n_layer, n_embd and head counts of the size, overridden by the section's own fields.

        If the size's n_kv_head does not divide n_head, n_kv_head is n_head.
        """
        size = ARCHITECTURES[self.family].sizes[self.size]
        own = {"n_layer": self.n_layer, "n_head": self.n_head, "n_kv_head": self.n_kv_head, "n_embd": self.n_embd}
        shape = size | {name: value for name, value in own.items() if value is not None}
        if self.n_kv_head is None and "n_kv_head" in size and shape["n_head"] % size["n_kv_head"]:
            shape["n_kv_head"] = shape["n_head"]
        return shape
