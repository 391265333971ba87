"""The types of a training run: objective, samples, plan, hooks, and the progress that a checkpoint holds.

loop.py does the work.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor, nn
from transformers import PreTrainedModel

from llmkit.config.renamed import rename_fields
from llmkit.training.batches import BatchPlan

Batch = dict[str, Tensor]


class Objective(Protocol):
    """A training objective; see the objective.py of a task.

    `count` returns the number of labels per loss of `sum_losses`. `state` is carried from step to step and saved in
    checkpoints; it is usually empty.
    """

    @property
    def state(self) -> dict[str, Tensor]: ...
    def collate(self, samples: Sequence[Any], /) -> Batch: ...
    def count(self, batch: Batch, /) -> dict[str, int]: ...
    def count_tokens(self, batch: Batch, /) -> int: ...
    def length(self, sample: Any, /) -> int: ...
    def sum_losses(self, model: PreTrainedModel, batch: Batch, /) -> dict[str, Tensor]: ...


class Samples(Protocol):
    """An endless sequence of training samples; sample i is a function of i alone. See datasets/."""

    @property
    def block_size(self) -> int: ...
    @property
    def samples_per_epoch(self) -> int: ...
    def __getitem__(self, sample: int, /) -> Any: ...


@dataclass(frozen=True, slots=True)
class Plan:
    """All decisions made before the first step; saved in every checkpoint."""

    n_steps: int
    eval_steps: int
    save_steps: int
    batches: BatchPlan
    precision: str
    resume_fingerprint: dict[str, Any] = field(default_factory=dict)
    """Fingerprints of the data, and the recipe's fields that decide the weights."""
    compiled: str = "none"
    """One of `engines.COMPILE_MODES`."""
    n_threads: int | None = None
    """Number of torch's threads on a CPU; None: torch's default."""
    max_eval_samples: int | None = None
    """Held-out blocks, pairs or rows scored per evaluation; None: the recipe's value."""
    final_share: float = 1.0
    """Fraction of the held-out data that is scored at the end."""
    step_seconds: list[float] = field(default_factory=list)
    """With `train.max_minutes`: seconds per step in the trial and in each measured part of the run."""
    calibration_step: int | None = None
    """The step after which the length of the run is planned again with measured costs; None: the length is final."""

    def evaluates_at(self, step: int) -> bool:
        first = self.calibration_step if len(self.step_seconds) <= 1 else None  # to measure its cost
        return step >= self.n_steps or step % self.eval_steps == 0 or step == first

    def saves_at(self, step: int) -> bool:
        return step >= self.n_steps or step % self.save_steps == 0 or step == self.calibration_step


def read_plan(saved: dict[str, Any]) -> Plan:
    """Read a plan from a checkpoint or a run's manifest, of this version or of 0.1.0."""
    names = {"facts": "resume_fingerprint", "max_eval_blocks": "max_eval_samples"}
    values = {names.get(name, name): value for name, value in saved.items()}
    fingerprint = {"resume_fingerprint": read_fingerprint({"plan": saved})}
    return Plan(**values | {"batches": BatchPlan(**values["batches"])} | fingerprint)


def read_fingerprint(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the fingerprint of a run's data and recipe from its manifest, of this version or of 0.1.0."""
    plan = manifest.get("plan", {})
    return rename_fields(plan.get("resume_fingerprint", plan.get("facts", {})))


@dataclass(frozen=True, slots=True)
class MeasuredSeconds:
    """Measured seconds: the mean of a step; the last evaluation, sample and checkpoint; and `elapsed` since the command
    started.
    """

    elapsed: float
    step: float
    evaluation: float
    sample: float
    save: float


@dataclass(frozen=True, slots=True)
class Hooks:
    """Functions that the loop calls at intervals.

    `evaluate` returns held-out metrics with a `loss`. `selection_key` orders evaluations for model selection: lower is
    better, and later elements break ties.
    """

    evaluate: Callable[[nn.Module, Plan], dict[str, Any]] | None
    sample: Callable[[nn.Module], dict[str, Any] | None]
    log: Callable[[dict[str, Any]], None]
    selection_key: Callable[[dict[str, Any]], tuple[float, ...]] = lambda metrics: (float(metrics["loss"]),)
    replan: Callable[[Plan, int, MeasuredSeconds], Plan] | None = None
    """(plan, step, measured seconds) -> the plan with new lengths; called on rank 0 after `calibration_step` steps."""


@dataclass(slots=True)
class Progress:
    """The contents of a checkpoint besides weights, optimizer and random number generators."""

    best_selection_key: list[float] | None = None
    best_step: int | None = None
    stale_evaluations: int = 0
    rate_factor: float = 1.0
    """Factor on the learning rate, which `optim.schedule: plateau` lowers."""
    seconds: float = 0.0
    """Seconds since the first step, including evaluations and checkpoints."""
    spent: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("start", "evaluation", "samples", "saving"), 0.0)
    )
    """Seconds by phase as in time_budget.PhaseSeconds; the rest of `seconds` is training."""
    last_evaluation: float = 0.0
    last_sample: float = 0.0
    """Duration in seconds, like `last_evaluation`."""
    n_tokens: int = 0
    window_sums: dict[str, float] = field(default_factory=dict)
    window_counts: dict[str, int] = field(default_factory=dict)
    """Losses since the last log line, so that a resumed run logs the same values as an uninterrupted one."""
    expected_loss: list[float] = field(default_factory=list)
    """See losses.detect_spike."""
    n_skipped: int = 0
    """Steps that were skipped because their gradient was not finite."""
    unlogged_step: dict[str, Any] | None = None
    """Gradient norm and learning rate of a step that was saved on a signal before it was evaluated and logged."""


def read_progress(saved: dict[str, Any]) -> Progress:
    """Read the progress in a checkpoint of this version or of 0.1.0."""
    names = {"best_cost": "best_selection_key", "left_undone": "unlogged_step"}
    return Progress(**{names.get(name, name): value for name, value in saved.items()})


@dataclass(frozen=True, slots=True)
class StepCounts:
    """Counts of one optimizer step over all ranks: labels by loss, and tokens; and the seconds that this rank waited
    for data.
    """

    labels: dict[str, int]
    n_tokens: int
    waited: float


def collate_step(objective: Objective, batches: BatchPlan, samples: Sequence[Any]) -> list[Batch]:
    """Collate the micro-batches of one optimizer step on one rank."""
    return [objective.collate(part) for part in batches.cut(samples, objective.length)]
