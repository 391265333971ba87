"""What a classifier learns from labelled rows, and how. Nothing about the network's shape or the optimizer."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PositiveFloat, model_validator

from llmkit.config.section import Section


def _as_word(key: object) -> object:
    return str(key) if type(key) in (int, float) else key


LabelName = Annotated[str, BeforeValidator(_as_word)]
"""YAML reads the label 0 as a number."""


class Augment(Section):
    """Small changes to the words of a training text, drawn anew each epoch; Wei and Zou 2019 call it EDA."""

    delete: float = Field(default=0.0, ge=0, lt=1, description="Share of the words that are left out.")
    swap: float = Field(default=0.0, ge=0, lt=1, description="Share of the words that change place with the next one.")
    mask: float = Field(default=0.0, ge=0, lt=1, description="Share of the words behind the model's own mask token.")


class Cls(Section):
    """Columns, labels, losses and what of the model learns."""

    labels: Literal["auto", "single_label", "multi_label", "regression"] = Field(
        default="auto",
        description="A row has one label, any number of labels, or a number; auto: multi_label where cells are lists "
        "or `separator` is set, else single_label. Regression is never guessed.",
    )
    text: str | None = Field(default=None, description="The column with the text; guessed and said unless given.")
    pair: str | None = Field(default=None, description="The column with the second text, where there are two.")
    label: str | None = Field(default=None, description="The column with the label.")
    header: Literal["auto"] | bool = Field(
        default="auto",
        description="Whether a .csv or .tsv begins with the names of its columns; else 1, 2, ...",
    )
    separator: str | None = Field(
        default=None, min_length=1, description="What stands between the labels of one cell, such as |."
    )
    unseen_labels: Literal["refuse", "ignore"] = Field(
        default="refuse", description="Rows with labels that training never saw: an error, or left out and counted."
    )
    validation: float = Field(default=0.1, ge=0, lt=1, description="Share of each label held out, unless a file is.")
    test: float = Field(default=0.0, ge=0, lt=1, description="Share of each label for a test after training.")
    split_seed: int = Field(default=0, ge=0, description="Another seed holds other rows out.")

    long_texts: Literal["truncate", "windows"] = Field(
        default="truncate",
        description="Beyond block_size: cut off, or read in windows whose scores are averaged.",
    )
    stride: int = Field(default=32, ge=0, description="Tokens that two neighbouring windows share.")
    max_windows: int = Field(default=16, ge=1, description="Of one text; what lies behind them is cut off.")

    class_weights: Literal["none", "balanced"] | dict[LabelName, PositiveFloat] = Field(
        default="none", description="balanced: rows / (labels * rows with this label); or a weight for each label."
    )
    focal_gamma: float = Field(default=0.0, ge=0, description="Focal loss (Lin et al. 2017): less of what is easy.")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="Share of the truth given to all labels alike.")
    freeze: Literal["none", "embeddings", "encoder"] | int = Field(
        default="none", description="What keeps its weights: a number means the embeddings and so many lowest layers."
    )
    lora_rank: int = Field(default=0, ge=0, description="Above 0, train low-rank additions only (extra: lora).")
    lora_alpha: int = Field(default=16, gt=0, description="The additions are scaled by lora_alpha / lora_rank.")
    augment: Augment = Augment()
    metric: str = Field(
        default="auto",
        description="What early stopping and the choice of the best weights go by; auto: f1_macro, "
        "average_precision_micro for several labels, mse for regression.",
    )
    from_scratch: bool = Field(
        default=False, description="Keep the shape and tokenizer of --model only: what was pretraining worth?"
    )

    @model_validator(mode="after")
    def _leaves_something_to_train_on(self) -> "Cls":
        if self.validation + self.test >= 1:
            raise ValueError("validation and test together leave nothing to train on")
        return self

    @model_validator(mode="after")
    def _one_way_to_learn_less(self) -> "Cls":
        if self.lora_rank and self.freeze != "none":
            raise ValueError("lora_rank freezes all but the head and its additions; leave freeze out")
        return self

    @model_validator(mode="after")
    def _loss_is_one_that_regression_has(self) -> "Cls":
        given = [name for name in ("focal_gamma", "label_smoothing") if getattr(self, name)]
        given += ["class_weights"] if self.class_weights != "none" else []
        if self.labels == "regression" and given:
            raise ValueError(f"{given[0]} is for labels, and regression has none")
        return self
