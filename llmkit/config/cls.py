"""The section cls: columns, labels and loss of a classifier."""

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from llmkit.config.section import Section


def _number_to_text(key: object) -> object:
    return str(key) if type(key) in (int, float) else key


def _read_label_map(given: object) -> object:
    """Convert pairs such as `0=neg,1=pos`, or the path of a YAML or JSON file, to a mapping."""
    if not isinstance(given, str):
        return given
    if Path(given).is_file():
        try:
            return yaml.safe_load(Path(given).read_text(encoding="utf-8-sig"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ValueError(f"{given} is not a YAML or JSON file: {error}") from error
    pairs = [part.partition("=") for part in given.split(",")]
    if not all(old.strip() and equals and new.strip() for old, equals, new in pairs):
        ascii_marks = "; = and , must be ASCII characters" if set(given) & set("＝，：、") else ""
        raise ValueError(f"it must be pairs such as 0=neg,1=pos, or a YAML or JSON file with such pairs{ascii_marks}")
    return {old.strip(): new.strip() for old, _, new in pairs}


def _to_list(given: object) -> object:
    return [given] if isinstance(given, str) else given


def _check_function(name: str) -> str:
    """Return `FILE.py:FUNCTION` with an absolute path."""
    file, _, function = name.rpartition(":")
    if not file.endswith(".py") or not function.isidentifier():
        raise ValueError(f"{name!r} does not name a function of a Python file; write it as my_metrics.py:kappa")
    return f"{Path(file).expanduser().absolute()}:{function}"


FunctionName = Annotated[str, AfterValidator(_check_function)]
"""A function of a Python file, as `FILE.py:FUNCTION`."""
LabelName = Annotated[str, BeforeValidator(_number_to_text)]
"""A label as text; YAML reads 0 as a number."""


class Augment(Section):
    """Random changes to the words of training texts, different in each epoch (EDA, Wei and Zou 2019)."""

    delete: float = Field(default=0.0, ge=0, lt=1, description="Fraction of the words to delete.")
    swap: float = Field(default=0.0, ge=0, lt=1, description="Fraction of the words to swap with the next one.")
    mask: float = Field(default=0.0, ge=0, lt=1, description="Fraction of the words to replace with the mask token.")


class Cls(Section):
    """Columns, labels, loss, and which weights are trained."""

    labels: Literal["auto", "single_label", "multi_label", "regression"] = Field(
        default="auto",
        description="Labels per row: one, several, or a number; auto: multi_label if cells are lists or `separator` "
        "is set, else single_label, never regression.",
    )
    text: str | None = Field(default=None, description="Column of the text; default: detected and reported.")
    pair: str | None = Field(default=None, description="Column of the second text, for pairs of texts.")
    label: str | None = Field(default=None, description="Column of the label; default: detected and reported.")
    header: Literal["auto"] | bool = Field(
        default="auto",
        description="Whether the first line of a .csv or .tsv is a header; columns without a header are 1, 2, ...",
    )
    separator: str | None = Field(
        default=None, min_length=1, description="Separator between the labels of a cell, such as |."
    )
    label_map: Annotated[dict[LabelName, LabelName], BeforeValidator(_read_label_map)] = Field(
        default={},
        description="New names of labels in files and in a model, such as {0: neg, 1: pos}. In a model, 0 also means "
        "LABEL_0. Labels with the same new name are merged.",
    )
    unseen_labels: Literal["refuse", "ignore"] = Field(
        default="refuse",
        description="Held-out rows whose label is not in the train split; refuse: error; ignore: skip and count.",
    )
    validation: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="Fraction of the rows held out for validation, stratified by label; unused with a validation file.",
    )
    test: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Fraction of the rows held out for the test after training, stratified by label.",
    )
    split_seed: int = Field(default=0, ge=0, lt=2**32, description="Random seed of the held-out rows.")

    long_texts: Literal["truncate", "windows"] = Field(
        default="truncate",
        description="For texts longer than block_size: truncate, or average the scores of overlapping windows.",
    )
    stride: int = Field(default=32, ge=0, le=10**7, description="Number of tokens that adjacent windows share.")
    max_windows: int = Field(
        default=16, ge=1, le=10**6, description="Maximum number of windows per text; the rest of the text is truncated."
    )

    class_weights: Literal["none", "balanced"] | dict[LabelName, Annotated[float, Field(gt=0, le=10**6)]] = Field(
        default="none",
        description="Weight of each label in the loss; balanced: n_rows / (n_labels * rows of the label).",
    )
    focal_gamma: float = Field(
        default=0.0, ge=0, le=100, description="Gamma of the focal loss (Lin et al. 2017); 0: cross-entropy."
    )
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="Fraction of the target distributed over all labels."
    )
    freeze: Literal["none", "embeddings", "encoder"] | Annotated[int, Field(ge=0, le=1_000)] = Field(
        default="none", description="Weights to freeze; a number n: the embeddings and the n lowest layers."
    )
    pooler: Literal["auto", "keep", "identity"] = Field(
        default="auto",
        description="Initial weights of the dense layer between the first token and a new head (BERT, ALBERT). keep: "
        "the pretrained weights; auto: identity for models of width 256 or less that predict labels, else keep.",
    )
    lora_rank: int = Field(default=0, ge=0, le=10**4, description="Rank of LoRA; 0: train all weights (extra: lora).")
    lora_alpha: int = Field(default=16, gt=0, le=10**6, description="Scale of LoRA updates: lora_alpha / lora_rank.")
    lora_target_modules: list[str] = Field(
        default=[],
        description="Modules that LoRA adapts, by the ends of their names, such as [query, value]; default: as in peft "
        "for the architecture, else all linear layers outside of the head.",
    )
    augment: Augment = Augment()
    positive_label: LabelName | None = Field(
        default=None,
        description="Label whose F1 is reported as f1_positive. If there are two labels, it is predicted if its "
        "probability exceeds a threshold, which is tuned on the validation rows and saved with the model.",
    )
    metric: str = Field(
        default="auto",
        description="Metric for early stopping and the best checkpoint. auto: f1_positive if positive_label is set, "
        "average_precision_micro for multi_label, mse for regression, else f1_macro.",
    )
    metrics: Annotated[list[FunctionName], BeforeValidator(_to_list, json_schema_input_type=str | list[str])] = Field(
        default=[],
        description="Custom metrics: functions in Python files, such as my_metrics.py:kappa, that take (labels, "
        "predictions) or (labels, predictions, probabilities) and return a number. Paths are relative to the recipe.",
    )
    baseline: bool = Field(
        default=True,
        description="Also train a linear model over word and character n-grams on the same rows, which takes seconds, "
        "and report its metrics.",
    )
    from_scratch: bool = Field(
        default=False,
        description="Start from random weights in the architecture of --model, as a baseline without pretraining.",
    )

    @model_validator(mode="after")
    def _train_split_is_not_empty(self) -> "Cls":
        if self.validation + self.test >= 1:
            raise ValueError("validation and test leave nothing for training; their sum must be below 1")
        return self

    @model_validator(mode="after")
    def _lora_excludes_freeze(self) -> "Cls":
        if self.lora_rank and self.freeze != "none":
            raise ValueError("lora_rank trains only LoRA's weights and the head; remove freeze")
        return self

    @model_validator(mode="after")
    def _targets_need_lora(self) -> "Cls":
        if self.lora_target_modules and not self.lora_rank:
            raise ValueError("lora_target_modules needs lora_rank above 0")
        return self

    @model_validator(mode="after")
    def _regression_has_no_label_loss(self) -> "Cls":
        given = [name for name in ("focal_gamma", "label_smoothing") if getattr(self, name)]
        given += ["class_weights"] if self.class_weights != "none" else []
        if self.labels == "regression" and given:
            raise ValueError(f"{given[0]} applies only to classification, not to regression; remove it")
        return self
