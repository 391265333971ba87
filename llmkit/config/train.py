"""Length of training, batches, evaluation, checkpoints and parallelism."""

from typing import Literal

from pydantic import Field, model_validator

from llmkit.config.section import Section

LENGTHS = {
    "max_steps": "optimizer steps",
    "epochs": "passes over the train split",
    "max_minutes": "minutes",
}
"""Keys that set the length of a run, with their units."""


class Train(Section):
    """Training. `global_batch_size` determines the gradient accumulation."""

    block_size: int | None = Field(
        default=None,
        ge=2,
        le=10**6,
        description="Tokens per sequence; default: 256 in pretraining, 512 in fine-tuning, if the model allows it.",
    )
    max_steps: int | None = Field(default=None, ge=1, le=10**9, description="Optimizer steps.")
    epochs: float | None = Field(default=None, gt=0, le=10**6, description="Passes over the train split.")
    max_minutes: float | None = Field(
        default=None,
        gt=0,
        le=10**6,
        description="Time limit of the command in minutes; converted to a number of steps by measured costs.",
    )
    global_batch_size: int = Field(
        default=32, ge=1, le=10**7, description="Sequences per optimizer step over all devices."
    )
    carry_state: bool = Field(
        default=True,
        description="gru, lstm: carry the recurrent state from each sequence to the next sequence in the same row.",
    )
    micro_batch_size: int | Literal["auto"] = Field(
        default="auto", description="Sequences per forward pass on one device; does not change the gradient."
    )
    precision: Literal["auto", "bf16", "tf32", "fp32"] = Field(
        default="auto",
        description="auto: bf16 on NVIDIA GPUs that support it, and on CPUs and Apple GPUs if a short trial shows that "
        "it is faster; else fp32. tf32: NVIDIA GPUs only.",
    )
    seed: int = Field(default=0, ge=0, lt=2**32, description="Random seed of the weights, the data order and dropout.")
    log_steps: int = Field(default=10, ge=1, le=10**9, description="Optimizer steps between log records.")
    eval_steps: int | None = Field(
        default=None,
        ge=1,
        le=10**9,
        description="Optimizer steps between evaluations; default: ten evaluations per run.",
    )
    save_steps: int | None = Field(
        default=None, ge=1, le=10**9, description="Optimizer steps between checkpoints; default: at every evaluation."
    )
    keep_checkpoints: bool | None = Field(
        default=None,
        description="Keep the checkpoints of a run that has ended; default: yes, except in series (--folds, --seeds).",
    )
    max_eval_samples: int = Field(
        default=512,
        ge=1,
        le=10**9,
        description="Maximum number of held-out blocks or rows per evaluation; the final evaluation uses all.",
    )
    max_rows: int | None = Field(
        default=None,
        ge=1,
        le=10**9,
        description="Maximum number of train rows, sampled by label with `seed`; default: all rows. Held-out rows do "
        "not change. Applies only to tasks that read rows.",
    )
    early_stopping: int | None = Field(
        default=None,
        ge=1,
        le=10**9,
        description="Patience: number of evaluations without improvement before training stops.",
    )
    skip_nonfinite: int = Field(
        default=0,
        ge=0,
        le=10**9,
        description="Maximum number of steps with a non-finite gradient to skip; 0: stop at the first one.",
    )
    stop_on_spike: bool = Field(default=False, description="Stop when the loss spikes, instead of warning.")
    sample_prompt: str | None = Field(
        default="", description="Prompt of the sample text at each evaluation; null: no sample."
    )
    num_workers: int = Field(
        default=0, ge=0, le=256, description="Data loader processes; does not change the data order."
    )
    engine: Literal["ddp", "fsdp2", "zero2", "zero3"] = Field(
        default="ddp",
        description="Parallelism over ranks: ddp replicates the model, the other engines shard it; same result.",
    )
    gradient_checkpointing: bool = Field(
        default=False,
        description="Recompute activations in the backward pass: less memory, about a third more compute.",
    )
    compile: Literal["auto", "none", "layers", "whole", "graphs"] = Field(
        default="auto",
        description="Use of torch.compile. layers: layers one by one; whole: model and loss; graphs: like whole, with "
        "CUDA graphs; auto: in runs of 15 minutes or more on GPUs, the fastest of none, layers and whole in a trial; "
        "otherwise none.",
    )
    ddp_timeout: int = Field(
        default=1800,
        ge=1,
        le=10**7,
        description="Seconds that ranks wait for each other before the job fails.",
    )
    trackers: list[Literal["tensorboard", "wandb", "mlflow", "trackio", "swanlab"]] = Field(
        default=[], description="Experiment trackers that also receive the log; each needs the extra with its name."
    )

    def describe_longer(self, step: int, n_steps: int) -> str:
        """Return advice to train longer; it names the setting that ended a run of `n_steps` planned steps at `step`."""
        if step < n_steps:
            return f"train longer with a higher train.early_stopping (now {self.early_stopping})"
        for name in LENGTHS:
            if (value := getattr(self, name)) is not None:
                return f"train longer with a higher train.{name} (now {value:g})"
        return f"train longer with train.max_steps above {step}, the default for this data"

    @model_validator(mode="after")
    def _one_length(self) -> "Train":
        given = {name: getattr(self, name) for name in LENGTHS if getattr(self, name) is not None}
        if len(given) > 1:
            ends = [f"with {name} alone the run ends after {value:g} {LENGTHS[name]}" for name, value in given.items()]
            names, quantity = " and ".join(given), "both" if len(given) == 2 else "all"
            raise ValueError(f"{names} {quantity} set the length of training; keep one: {', '.join(ends)}")
        return self

    @model_validator(mode="after")
    def _micro_batch_is_positive(self) -> "Train":
        if isinstance(self.micro_batch_size, int) and not 1 <= self.micro_batch_size <= 10**7:
            what = f"micro_batch_size {self.micro_batch_size} is not from 1 to 10,000,000"
            raise ValueError(f"{what}; set it to such a number, or to auto")
        return self
