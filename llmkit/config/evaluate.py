"""How a finished model is scored, and how its report is written."""

from typing import Literal

from pydantic import Field

from llmkit.config.section import Section


class Evaluate(Section):
    """Over the whole split, weighted by tokens."""

    split: Literal["train", "validation", "test"] = Field(default="validation", description="Of a prepared folder.")
    block_size: int | None = Field(default=None, ge=2, description="Context in tokens; default: the model's longest.")
    stride: int | None = Field(
        default=None, ge=1, description="Tokens scored a window, the rest is context; default: the block size."
    )
    batch_size: int = Field(default=16, ge=1, description="Windows at once; does not change a result.")
    seed: int = Field(default=0, ge=0, description="Masks and pairs of a BERT follow from it: keep it, to compare.")
    pseudo_perplexity: int = Field(
        default=0, ge=0, description="BERT: guess so many tokens of each document one at a time (slow); 0: none."
    )
    precision: Literal["fp32", "bf16"] = Field(default="fp32", description="fp32 is exact; bf16 is faster.")


class Report(Section):
    """What report.html shows."""

    title: str | None = Field(default=None, description="Default: the run folder's name.")
