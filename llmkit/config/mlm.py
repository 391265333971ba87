"""The section mlm: masked language modelling."""

from typing import Literal

from pydantic import Field

from llmkit.config.section import Section


class Mlm(Section):
    """Masking, and the objective over pairs of segments."""

    mlm_probability: float = Field(default=0.15, gt=0, lt=1, description="Fraction of the tokens to mask.")
    whole_words: bool = Field(default=True, description="Mask all tokens of a word together; false: single tokens.")
    sentence_objective: Literal["nsp", "sop", "none"] = Field(
        default="nsp",
        description="nsp: predict whether the second segment follows the first (BERT); sop: predict the order of "
        "segments (ALBERT); none: no pairs, full sentences (RoBERTa).",
    )
    short_share: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="Fraction of pairs whose target length is random, as in BERT; the others fill block_size. Not used "
        "if sentence_objective is none.",
    )
