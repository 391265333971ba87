"""What a training run is given, what was decided before its first step, and what a checkpoint remembers of it.

Knows nothing of transformers; loop.py does the work.
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
    """What is trained for; see the objective.py of a task. Counts are those of the labels that each loss sums over.
    `state` is what goes on from step to step and belongs into a checkpoint: for most, nothing."""

    @property
    def state(self) -> dict[str, Tensor]: ...
    def collate(self, samples: Sequence[Any], /) -> Batch: ...
    def count(self, batch: Batch, /) -> dict[str, int]: ...
    def count_tokens(self, batch: Batch, /) -> int: ...
    def length(self, sample: Any, /) -> int: ...
    def sum_losses(self, model: PreTrainedModel, batch: Batch, /) -> dict[str, Tensor]: ...


class Samples(Protocol):
    """The endless order of what is trained on; sample i is a function of i alone. See tokens/."""

    @property
    def block_size(self) -> int: ...
    @property
    def samples_per_epoch(self) -> int: ...
    def __getitem__(self, sample: int, /) -> Any: ...


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything about a run that was decided before its first step; kept in every checkpoint."""

    n_steps: int
    eval_steps: int
    save_steps: int
    batches: BatchPlan
    precision: str
    resume_fingerprint: dict[str, Any] = field(default_factory=dict)
    """Fingerprints of the data, and the recipe's fields that decide the weights."""
    compiled: str = "none"
    """One of `compiling.WAYS`."""
    n_threads: int | None = None
    """Of torch on a CPU; None: as many as torch takes."""
    max_eval_samples: int | None = None
    """Held-out blocks, pairs or rows scored at each evaluation; None: as the recipe says."""
    final_share: float = 1.0
    """Of the held-out data, what is scored at the end."""
    step_seconds: list[float] = field(default_factory=list)
    """Under `train.max_minutes`: what a step took in the trial and in each stretch of the run that was measured."""
    calibration_step: int | None = None
    """The step after which the lengths above are planned again, with costs that were measured; None: they are fixed."""

    def evaluates_at(self, step: int) -> bool:
        first = self.calibration_step if len(self.step_seconds) <= 1 else None  # to know what an evaluation takes
        return step >= self.n_steps or step % self.eval_steps == 0 or step == first

    def saves_at(self, step: int) -> bool:
        return step >= self.n_steps or step % self.save_steps == 0 or step == self.calibration_step


def read_plan(saved: dict[str, Any]) -> Plan:
    """A plan from a checkpoint or a run's manifest, of this version or of 0.1.0."""
    names = {"facts": "resume_fingerprint", "max_eval_blocks": "max_eval_samples"}
    values = {names.get(name, name): value for name, value in saved.items()}
    fingerprint = rename_fields(values.get("resume_fingerprint", {}))
    return Plan(**values | {"batches": BatchPlan(**values["batches"]), "resume_fingerprint": fingerprint})


@dataclass(frozen=True, slots=True)
class MeasuredSeconds:
    """What the first steps of a run took, each on average, one evaluation, sample and checkpoint, and all since the
    command began."""

    elapsed: float
    step: float
    evaluation: float
    sample: float
    save: float


@dataclass(frozen=True, slots=True)
class Hooks:
    """What a run does at intervals. `evaluate` gives held-out metrics, `loss` among them. `cost` gives what the
    best weights are chosen by, the lower the better; of equal values the next one decides."""

    evaluate: Callable[[nn.Module, Plan], dict[str, Any]] | None
    sample: Callable[[nn.Module], dict[str, Any] | None]
    log: Callable[[dict[str, Any]], None]
    selection_key: Callable[[dict[str, Any]], tuple[float, ...]] = lambda metrics: (float(metrics["loss"]),)
    replan: Callable[[Plan, int, MeasuredSeconds], Plan] | None = None
    """Gives the plan with other lengths, `step` steps into the run; called on rank 0 at a `calibration_step`."""


@dataclass(slots=True)
class Progress:
    """What a checkpoint must remember beside weights, optimizer and random numbers."""

    best_cost: list[float] | None = None
    best_step: int | None = None
    stale_evaluations: int = 0
    rate_factor: float = 1.0
    """What plateaus have left of the learning rate."""
    seconds: float = 0.0
    """Since the first step, with evaluations and checkpoints."""
    spent: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("start", "evaluation", "samples", "saving"), 0.0)
    )
    """Seconds, as in time_budget.Spent; what is left of `seconds` is training."""
    last_evaluation: float = 0.0
    last_sample: float = 0.0
    """Seconds."""
    n_tokens: int = 0
    window_sums: dict[str, float] = field(default_factory=dict)
    window_counts: dict[str, int] = field(default_factory=dict)
    """Losses since the last log line, so that a resumed run logs what an uninterrupted one would."""
    expected_loss: list[float] = field(default_factory=list)
    """See guards.expect_loss."""
    n_skipped: int = 0
    """Steps whose gradient was not finite and that changed nothing."""
    left_undone: dict[str, Any] | None = None
    """Gradient norm and rate of a step that was saved on a signal before it was evaluated and logged."""


@dataclass(frozen=True, slots=True)
class StepCounts:
    """Labels of one optimizer step by loss, and its tokens, over all ranks; and the seconds that this rank waited."""

    labels: dict[str, int]
    n_tokens: int
    waited: float


def collate_step(objective: Objective, batches: BatchPlan, samples: Sequence[Any]) -> list[Batch]:
    """The micro-batches of one optimizer step on one rank."""
    return [objective.collate(part) for part in batches.cut(samples, objective.length)]
