"""What BERT's objective asks of a model. Nothing about the network or the optimizer."""

from typing import Literal

from pydantic import Field

from llmkit.config.section import Section


class Mlm(Section):
    """Masked tokens, and how two segments belong together."""

    mask_share: float = Field(default=0.15, gt=0, lt=1, description="Of the tokens of a sequence, to be guessed.")
    whole_words: bool = Field(default=True, description="Mask all tokens of a word or none; false: single tokens.")
    nsp: Literal[True, False, "order"] = Field(
        default=True,
        description="true: is the second segment the next one; false: no pairs, full sentences (RoBERTa); "
        "order: which of two neighbours comes first (ALBERT).",
    )
    short_share: float = Field(default=0.1, ge=0, le=1, description="Pairs of a random shorter length.")
