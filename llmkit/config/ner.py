"""The section ner: how tagged words are read, and how a tagger is trained."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from llmkit.config.section import Section


class Ner(Section):
    """Columns, words and tags of the data, loss, and which weights are trained."""

    format: Literal["auto", "conll", "table"] = Field(
        default="auto", description="Format of the files; auto: by the suffix, else by the first lines."
    )
    tokens: str | None = Field(default=None, description="Column with the words of a row, or with one word per row.")
    tags: str | None = Field(default=None, description="Column with the tags of the words.")
    sentence: str | None = Field(
        default=None, description="Column with the number of the sentence, for tables with one word per row."
    )
    text: str | None = Field(default=None, description="Column with the text, for rows with character offsets.")
    spans: str | None = Field(
        default=None, description="Column with a list of entities with start, end (characters) and label."
    )
    header: Literal["auto"] | bool = Field(
        default="auto", description="Whether the first line of a .csv or .tsv is a header."
    )
    token_column: int | None = Field(
        default=None, ge=-1000, le=1000, description="CoNLL: column of the words; 1 is the first, -1 the last."
    )
    tag_column: int | None = Field(
        default=None, ge=-1000, le=1000, description="CoNLL: column of the tags; 1 is the first, -1 the last."
    )
    scheme: Literal["auto", "BIO", "IOB1", "BIOES", "BMES", "IO"] = Field(
        default="auto", description="Scheme of the tags; auto: recognized from all tags of the train file. The model "
        "learns BIO tags in any case.",
    )  # fmt: skip
    words: Literal["auto", "spaces", "punctuation", "characters"] = Field(
        default="auto",
        description="How texts are split into words: at spaces; also around punctuation and Chinese characters; or "
        "into characters. auto: recognized from the words of the train file; punctuation if it has texts.",
    )
    unseen_labels: Literal["refuse", "ignore"] = Field(
        default="refuse",
        description="Entities whose type is not in the train file; refuse: error; ignore: count and read as O.",
    )
    validation: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="Fraction of the rows held out for validation, stratified by the rarest type; unused with a "
        "validation file.",
    )
    test: float = Field(
        default=0.0, ge=0, lt=1, description="Fraction of the rows held out for the test after training."
    )
    split_seed: int = Field(default=0, ge=0, lt=2**32, description="Random seed of the held-out rows.")
    stride: int | None = Field(
        default=None,
        ge=0,
        le=10**6,
        description="Number of tokens that adjacent windows of a long text share; a word is tagged in the window in "
        "which it has the most context. Default: a quarter of the block_size, up to 64.",
    )
    decoding: Literal["greedy", "constrained"] = Field(
        default="greedy",
        description="greedy: the most probable tag of each word; constrained: the most probable sequence in which no "
        "I- tag follows O or another type.",
    )
    class_weights: Literal["none", "balanced"] | dict[str, Annotated[float, Field(gt=0, le=10**6)]] = Field(
        default="none",
        description="Weight of the tags in the loss, by type of entity or O; balanced: n_words / (n_tags * words with "
        "the tag).",
    )
    freeze: Literal["none", "embeddings", "encoder"] | Annotated[int, Field(ge=0, le=1_000)] = Field(
        default="none", description="Weights to freeze; a number n: the embeddings and the n lowest layers."
    )
    lora_rank: int = Field(default=0, ge=0, le=10**4, description="Rank of LoRA; 0: train all weights (extra: lora).")
    lora_alpha: int = Field(default=16, gt=0, le=10**6, description="Scale of LoRA updates: lora_alpha / lora_rank.")
    lora_target_modules: list[str] = Field(
        default=[], description="Modules that LoRA adapts, by the ends of their names; default: as in peft."
    )
    metric: str = Field(
        default="entity_f1", description="Metric for early stopping and the best checkpoint, such as entity_f1 or loss."
    )
    baseline: bool = Field(
        default=True, description="Also score the most frequent tag of each word in the train rows, as a baseline."
    )
    from_scratch: bool = Field(
        default=False,
        description="Start from random weights in the architecture of --model, as a baseline without pretraining.",
    )

    @model_validator(mode="after")
    def _train_split_is_not_empty(self) -> "Ner":
        if self.validation + self.test >= 1:
            raise ValueError("validation and test leave nothing for training; their sum must be below 1")
        return self

    @model_validator(mode="after")
    def _lora_settings_fit(self) -> "Ner":
        if self.lora_rank and self.freeze != "none":
            raise ValueError("lora_rank trains only LoRA's weights and the head; remove freeze")
        if self.lora_target_modules and not self.lora_rank:
            raise ValueError("lora_target_modules needs lora_rank above 0")
        return self
