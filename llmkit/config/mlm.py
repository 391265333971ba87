"""What BERT's objective asks of a model. Nothing about the network or the optimizer."""

from typing import Literal

from pydantic import Field

from llmkit.config.section import Section


class Mlm(Section):
    """Masked tokens, and how two segments belong together."""

    mlm_probability: float = Field(default=0.15, gt=0, lt=1, description="Share of the tokens to mask.")
    whole_words: bool = Field(default=True, description="Mask all tokens of a word or none; false: single tokens.")
    sentence_objective: Literal["nsp", "sop", "none"] = Field(
        default="nsp",
        description="nsp: is the second segment the next one (BERT); sop: which of two neighbours comes first "
        "(ALBERT); none: no pairs, full sentences (RoBERTa).",
    )
    short_share: float = Field(default=0.1, ge=0, le=1, description="Pairs of a random shorter length.")
