"""How the optimizer moves. Nothing about the model or the data."""

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
"""Where plain SGD has other defaults: those of the word-level example that PyTorch ships."""


class Optim(Section):
    """AdamW for everything, Muon for the hidden matrices and AdamW for the rest, or the classic Adam and SGD."""

    name: Literal["adamw", "muon", "adam", "sgd"] = Field(
        default="adamw", description="muon: hidden matrices only, AdamW elsewhere; sgd: rate 20, annealed on plateaus."
    )
    learning_rate: float | None = Field(
        default=1e-3, gt=0, description="AdamW's peak value, reached after warmup; null: by the width (fine-tuning)."
    )
    muon_learning_rate: float = Field(default=0.02, gt=0, description="Muon's peak value, for the hidden matrices.")
    muon_momentum: float = Field(default=0.95, ge=0, lt=1, description="Nesterov momentum of Muon.")
    weight_decay: float = Field(default=0.1, ge=0, description="On matrices only, never on biases and norms.")
    adam_beta1: float = Field(default=0.9, ge=0, lt=1, description="Decay of the mean of the gradient.")
    adam_beta2: float = Field(default=0.99, ge=0, lt=1, description="Decay of the mean of the squared gradient.")
    adam_epsilon: float = Field(default=1e-8, gt=0, description="Added to the denominator of the update.")
    layer_decay: float = Field(
        default=1.0, gt=0, le=1, description="Each layer's rate is so many times that of the layer above it."
    )
    max_grad_norm: float = Field(default=1.0, ge=0, description="Clip the gradient's global norm; 0 never clips.")
    momentum: float = Field(default=0.0, ge=0, lt=1, description="sgd only.")
    schedule: Literal["cosine", "linear", "constant", "wsd", "plateau"] = Field(
        default="cosine",
        description="wsd: warmup, stable, then decay over the last `decay_steps`; plateau: times `plateau_factor` "
        "after each evaluation that is no better than the best.",
    )
    plateau_factor: float = Field(default=0.25, gt=0, lt=1, description="plateau only: factor of each decrease.")
    warmup_steps: float = Field(default=0.05, ge=0, description="Optimizer steps; below 1, a share of all steps.")
    decay_steps: float = Field(default=0.2, ge=0, description="wsd only: steps of the decay; below 1, a share.")
    min_learning_rate_ratio: float = Field(default=0.0, ge=0, le=1, description="Where the decay ends.")

    @model_validator(mode="after")
    def _says_nothing_in_vain(self) -> "Optim":
        fields = type(self).model_fields
        if self.momentum and self.name != "sgd":
            raise ValueError("momentum is for sgd; the others have adam_beta1 and muon_momentum")
        if self.plateau_factor != fields["plateau_factor"].default and self.schedule != "plateau":
            raise ValueError("plateau_factor is for schedule plateau")
        if self.min_learning_rate_ratio and self.schedule in ("plateau", "constant"):
            raise ValueError(f"min_learning_rate_ratio is where a decay ends; schedule {self.schedule} has none")
        return self

    @model_validator(mode="before")
    @classmethod
    def _fill_in_for_sgd(cls, values: Any) -> Any:
        return SGD | values if isinstance(values, dict) and values.get("name") == "sgd" else values
