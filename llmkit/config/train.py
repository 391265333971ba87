"""How long, how much at once, how often to look. Nothing about the model or the optimizer."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from llmkit.config.section import Section
from llmkit.core import console


class Train(Section):
    """Batch size is said once, in sequences an optimizer step over all devices; accumulation follows from it."""

    block_size: int | None = Field(
        default=None,
        ge=2,
        description="Tokens per sequence; default: 256 in pretraining, 512 in fine-tuning, as far as the model goes.",
    )
    max_steps: int | None = Field(default=None, ge=1, description="Optimizer steps.")
    epochs: float | None = Field(default=None, gt=0, description="Passes over the train split.")
    max_minutes: float | None = Field(
        default=None, gt=0, description="A short trial turns the minutes into max_steps, which is then recorded."
    )
    global_batch_size: int = Field(default=32, ge=1, description="Sequences an optimizer step, over all devices.")
    carry_state: bool = Field(
        default=True,
        description="gru, lstm: each sequence goes on where the last of its row ended; false: from nothing.",
    )
    micro_batch_size: int | Literal["auto"] = Field(
        default="auto", description="Sequences at once on one device; any value gives the same gradient."
    )
    precision: Literal["auto", "bf16", "tf32", "fp32"] = Field(
        default="auto",
        description="auto: bf16 where a short trial shows that this machine gains by it; tf32 is on GPUs alone.",
    )
    seed: int = Field(default=0, ge=0, lt=2**32, description="Weights, order of the data and dropout follow from it.")
    log_steps: int = Field(default=10, ge=1, description="Optimizer steps between two records of the log.")
    eval_steps: int | None = Field(default=None, ge=1, description="Default: ten times in a run.")
    save_steps: int | None = Field(default=None, ge=1, description="Default: at every evaluation.")
    max_eval_samples: int = Field(
        default=512, ge=1, description="Held-out blocks, or rows, scored at each evaluation; the final one scores all."
    )
    early_stopping: int | None = Field(
        default=None, ge=1, description="Stop after so many evaluations without a better held-out figure."
    )
    skip_nonfinite: int = Field(
        default=0, ge=0, description="So many steps with a gradient that is not finite may be left out; 0: stop."
    )
    stop_on_spike: bool = Field(default=False, description="Stop, instead of a warning, where the loss jumps.")
    sample_prompt: str | None = Field(default="", description="Text to go on from at each evaluation; null: none.")
    num_workers: int = Field(default=0, ge=0, description="Processes that read data; any number gives one order.")
    engine: Literal["ddp", "fsdp2", "zero2", "zero3"] = Field(
        default="ddp",
        description="Several ranks: the model whole on each (ddp), or in shards; the result is the same.",
    )
    gradient_checkpointing: bool = Field(
        default=False, description="Compute activations again in the backward pass: less memory, a third more work."
    )
    compile: Literal["auto", "none", "layers", "whole", "graphs"] = Field(
        default="auto",
        description="What torch compiles; auto: in a run of 15 minutes or more on a GPU, what a trial finds fastest.",
    )
    ddp_timeout: int = Field(
        default=1800,
        ge=1,
        description="Seconds that ranks wait for each other before the job ends; several ranks only.",
    )
    trackers: list[Literal["tensorboard", "wandb", "mlflow", "trackio", "swanlab"]] = Field(
        default=[], description="Who else gets the log; each needs its package: the extra of the same name."
    )

    @model_validator(mode="before")
    @classmethod
    def _of_runs_before_there_were_trackers(cls, values: Any) -> Any:
        if not isinstance(values, dict) or "tensorboard" not in values:
            return values
        values = dict(values)
        if values.pop("tensorboard"):
            console.info("train.tensorboard is called train.trackers=[tensorboard] now")
            values.setdefault("trackers", ["tensorboard"])
        return values

    @field_validator("compile", mode="before")
    @classmethod
    def _of_runs_before_there_were_ways(cls, value: object) -> object:
        return {False: "none", True: "layers"}[value] if isinstance(value, bool) else value

    @model_validator(mode="after")
    def _one_length(self) -> "Train":
        given = [name for name in ("max_steps", "epochs", "max_minutes") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} both say how long to train; keep one")
        return self

    @model_validator(mode="after")
    def _micro_batch_is_positive(self) -> "Train":
        if isinstance(self.micro_batch_size, int) and self.micro_batch_size < 1:
            raise ValueError(f"micro_batch_size {self.micro_batch_size} is less than 1")
        return self
