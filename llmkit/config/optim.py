"""Optimizer and learning-rate schedule."""

from typing import Any, Literal

from pydantic import Field, model_validator

from llmkit.config.section import Section

SGD: dict[str, Any] = {
    "learning_rate": 20.0,
    "weight_decay": 0.0,
    "max_grad_norm": 0.25,
    "schedule": "plateau",
    "warmup_steps": 0,
}
"""Defaults of SGD, from PyTorch's word_language_model example."""


class Optim(Section):
    """Optimizer: AdamW, Muon (hidden matrices; AdamW for other weights), or the classic Adam and SGD."""

    name: Literal["adamw", "muon", "adam", "sgd"] = Field(
        default="adamw",
        description="muon: Muon for hidden matrices, AdamW for the rest; sgd: learning rate 20, reduced on plateaus.",
    )
    learning_rate: float | None = Field(
        default=1e-3,
        gt=0,
        le=1_000,
        description="Peak learning rate, reached after warmup; null: from the model's width (fine-tuning only).",
    )
    muon_learning_rate: float = Field(
        default=0.02, gt=0, le=1_000, description="Peak learning rate of Muon, for the hidden matrices."
    )
    muon_momentum: float = Field(default=0.95, ge=0, lt=1, description="Nesterov momentum of Muon.")
    weight_decay: float = Field(
        default=0.1, ge=0, le=1_000, description="Weight decay of matrices; biases and norms have none."
    )
    adam_beta1: float = Field(default=0.9, ge=0, lt=1, description="Decay rate of the first moment.")
    adam_beta2: float = Field(default=0.99, ge=0, lt=1, description="Decay rate of the second moment.")
    adam_epsilon: float = Field(
        default=1e-8, gt=0, le=1, description="Epsilon, added to the denominator of Adam's update."
    )
    layer_decay: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Factor by which the learning rate decreases from each layer to the one below; 1: no decrease.",
    )
    max_grad_norm: float = Field(
        default=1.0, ge=0, le=10**9, description="Maximum global norm of the gradient; 0: no clipping."
    )
    momentum: float = Field(default=0.0, ge=0, lt=1, description="Momentum of sgd.")
    schedule: Literal["cosine", "linear", "constant", "wsd", "plateau"] = Field(
        default="cosine",
        description="wsd: warmup, stable, decay over the last `decay_steps`; plateau: multiply by `plateau_factor` "
        "after each evaluation without improvement.",
    )
    plateau_factor: float = Field(
        default=0.25,
        gt=0,
        lt=1,
        description="schedule plateau: factor that multiplies the learning rate at each plateau.",
    )
    warmup_steps: float = Field(
        default=0.05, ge=0, le=10**9, description="Optimizer steps of warmup; below 1: a fraction of all steps."
    )
    decay_steps: float = Field(
        default=0.2, ge=0, le=10**9, description="Optimizer steps of wsd's decay; below 1: a fraction of all steps."
    )
    min_learning_rate_ratio: float = Field(
        default=0.0, ge=0, le=1, description="Final learning rate as a fraction of the peak."
    )

    @model_validator(mode="after")
    def _every_setting_is_read(self) -> "Optim":
        fields = type(self).model_fields
        if self.momentum and self.name != "sgd":
            raise ValueError("momentum applies only to sgd; for other optimizers set adam_beta1 or muon_momentum")
        if self.plateau_factor != fields["plateau_factor"].default and self.schedule != "plateau":
            raise ValueError("plateau_factor applies only to schedule plateau; remove it")
        if self.min_learning_rate_ratio and self.schedule in ("plateau", "constant"):
            raise ValueError(
                f"min_learning_rate_ratio has no effect, as schedule {self.schedule} has no decay; remove it"
            )
        return self

    @model_validator(mode="before")
    @classmethod
    def _fill_in_for_sgd(cls, values: Any) -> Any:
        return SGD | values if isinstance(values, dict) and values.get("name") == "sgd" else values
