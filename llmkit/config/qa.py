"""The section qa: columns of questions, windows, answers of a model that answers questions from a context."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from llmkit.config.section import Section


class Qa(Section):
    """Columns, windows, answers, and which weights are trained."""

    question: str | None = Field(default=None, description="Column of the question; default: detected and reported.")
    context: str | None = Field(default=None, description="Column of the context; default: detected and reported.")
    answer: str | None = Field(
        default=None,
        description="Column of the answer or of a list of answers; default: detected and reported.",
    )
    answer_start: str | None = Field(
        default=None,
        description="Column of the answer's start in the context, in characters; default: detected, else searched for.",
    )
    separator: str | None = Field(
        default=None, min_length=1, description="Separator between the answers of a cell, such as |."
    )
    unanswerable: Literal["auto"] | bool = Field(
        default="auto",
        description="Whether the model may leave a question without an answer; auto: if some train questions have "
        "no answer. false: such questions are left out of training.",
    )
    language: Literal["auto", "en", "zh"] = Field(
        default="auto",
        description="Rules of exact match and F1; en: words, as SQuAD; zh: characters, as CMRC 2018; auto: by the "
        "questions.",
    )
    validation: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="Fraction of the articles or contexts held out for validation; unused with a validation file.",
    )
    test: float = Field(
        default=0.0, ge=0, lt=1, description="Fraction of the articles or contexts held out for the test."
    )
    split_seed: int = Field(default=0, ge=0, lt=2**32, description="Random seed of the held-out contexts.")

    stride: int | None = Field(
        default=None,
        ge=0,
        le=10**7,
        description="Number of context tokens that adjacent windows share. Default: 128, at most a third of "
        "block_size.",
    )
    max_question_length: int | None = Field(
        default=None,
        ge=1,
        le=10**6,
        description="Maximum number of tokens of a question; the rest is cut. Default: 64, at most a quarter of "
        "block_size.",
    )
    max_answer_length: int | None = Field(
        default=None,
        ge=1,
        le=10**6,
        description="Maximum number of tokens of an answer; default: 30, or more if 1% of the train answers are "
        "longer.",
    )
    no_answer_threshold: float | None = Field(
        default=None,
        ge=-(10**6),
        le=10**6,
        allow_inf_nan=False,
        description="A question gets no answer if the score of no answer exceeds that of the best answer by more than "
        "this; default: tuned on the validation questions and saved with the model.",
    )
    n_best: int = Field(
        default=5, ge=1, le=1_000, description="Number of answers in the column n_best of `predict --probabilities`."
    )

    freeze: Literal["none", "embeddings", "encoder"] | Annotated[int, Field(ge=0, le=1_000)] = Field(
        default="none", description="Weights to freeze; a number n: the embeddings and the n lowest layers."
    )
    lora_rank: int = Field(default=0, ge=0, le=10**4, description="Rank of LoRA; 0: train all weights (extra: lora).")
    lora_alpha: int = Field(default=16, gt=0, le=10**6, description="Scale of LoRA updates: lora_alpha / lora_rank.")
    lora_target_modules: list[str] = Field(
        default=[],
        description="Modules that LoRA adapts, by the ends of their names, such as [query, value]; default: as in peft "
        "for the architecture, else all linear layers outside of the head.",
    )
    metric: Literal["auto", "answer_f1", "exact_match", "loss"] = Field(
        default="auto", description="Metric for early stopping and the best checkpoint; auto: answer_f1."
    )
    baseline: bool = Field(
        default=True,
        description="Also score answers chosen by word overlap (Richardson et al. 2013) on the held-out questions.",
    )
    from_scratch: bool = Field(
        default=False,
        description="Start from random weights in the architecture of --model, as a baseline without pretraining.",
    )

    @model_validator(mode="after")
    def _train_split_is_not_empty(self) -> "Qa":
        if self.validation + self.test >= 1:
            raise ValueError("validation and test leave nothing for training; their sum must be below 1")
        return self

    @model_validator(mode="after")
    def _lora_excludes_freeze(self) -> "Qa":
        if self.lora_rank and self.freeze != "none":
            raise ValueError("lora_rank trains only LoRA's weights and the head; remove freeze")
        return self

    @model_validator(mode="after")
    def _targets_need_lora(self) -> "Qa":
        if self.lora_target_modules and not self.lora_rank:
            raise ValueError("lora_target_modules needs lora_rank above 0")
        return self

    @model_validator(mode="after")
    def _threshold_needs_unanswerable(self) -> "Qa":
        if self.unanswerable is False and self.no_answer_threshold is not None:
            raise ValueError("no_answer_threshold is not read with unanswerable: false; remove it")
        return self
