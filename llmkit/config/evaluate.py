"""The sections evaluate and report."""

from typing import Literal

from pydantic import Field

from llmkit.config.section import Section


class Evaluate(Section):
    """Evaluation on a complete split, weighted by tokens."""

    split: Literal["train", "validation", "test"] = Field(
        default="validation", description="Split of the prepared folder."
    )
    block_size: int | None = Field(
        default=None,
        ge=2,
        le=10**7,
        description="Tokens per window; default: the block size of training for classifiers and for a run on its own "
        "data, else the model's longest context.",
    )
    stride: int | None = Field(
        default=None,
        ge=1,
        le=10**7,
        description="Number of tokens scored per window; the other tokens are context; default: block_size.",
    )
    batch_size: int = Field(
        default=16, ge=1, le=10**6, description="Windows per forward pass; does not change the result."
    )
    seed: int = Field(
        default=0,
        ge=0,
        lt=2**32,
        description="Random seed of masks and pairs (mlm); metrics are comparable only with the same seed.",
    )
    pseudo_perplexity: int = Field(
        default=0,
        ge=0,
        le=10**9,
        description="mlm: maximum number of tokens per document to mask one at a time (slow); 0: off.",
    )
    precision: Literal["fp32", "bf16"] = Field(
        default="fp32", description="Precision of evaluation; bf16 is faster and less exact."
    )


class Report(Section):
    """The report."""

    title: str | None = Field(default=None, description="Title; default: the name of the run folder.")
