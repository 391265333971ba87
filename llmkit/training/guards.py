"""What watches over a run: losses and gradients that are not finite, and losses that jump.

A step that would spoil the weights is written down before it is refused, so that its rows can be looked at.
"""

from pathlib import Path
from typing import NoReturn

from torch import Tensor

from llmkit.core.errors import TrainingFailed
from llmkit.core.files import write_json
from llmkit.training.batches import BatchPlan
from llmkit.training.contract import Batch

FIRST_LOOKS = 5
DEVIATIONS = 8.0
MIN_JUMP = 0.2
MEMORY = 0.9


MIN_RELATIVE_FALL, MIN_FALL = 0.05, 0.01
"""A held-out loss that fell by more than this share, and nats, in the last fifth of a run was still falling."""


def describe_trend(losses: list[tuple[int, float]]) -> str | None:
    """A warning if the held-out loss was still falling steeply when the run ended, else None. `losses` are (step, loss)
    in the order of steps."""
    if len(losses) < 3:
        return None
    last_step, last = losses[-1]
    before = [loss for step, loss in losses if step <= 0.8 * last_step]
    fall = before[-1] - last if before else 0.0
    if fall < MIN_FALL or fall < MIN_RELATIVE_FALL * before[-1]:
        return None
    return (
        f"the held-out loss still fell by {fall / before[-1]:.0%} in the last fifth of the run: train longer "
        "(train.max_minutes, train.max_steps or train.epochs)"
    )


def refuse_step(
    folder: Path, plan: BatchPlan, batches: list[Batch], sums: dict[str, Tensor],
    *, step: int, rank: int, rate: float, grad_norm: float,
) -> NoReturn:  # fmt: skip
    """Write the rows of a step (from 0), as the model was given them, with rate and losses to `folder`, and stop.

    Raises:
        TrainingFailed: always.
    """
    whose = f"-rank-{rank}" if plan.world_size > 1 else ""  # the row that is at fault may be any rank's
    dump = folder / f"refused-step-{step + 1}{whose}.json"
    facts = {
        "step": step + 1,
        "learning_rate": rate,
        "grad_norm": str(grad_norm),  # JSON has no word for what is not finite
        "loss_sums": {name: str(value.item()) for name, value in sums.items()},
        "samples": plan.numbers(step, rank),
        "micro_batches": [{name: tensor.tolist() for name, tensor in batch.items()} for batch in batches],
    }
    write_json(dump, facts)
    raise TrainingFailed(
        f"the gradient is {grad_norm} at step {step + 1}; the weights were left as they are",
        where=f"{plan.describe(step, step)}, learning rate {rate:.3g}; their rows and losses are in {dump}",
        hint="lower optim.learning_rate, raise optim.warmup_steps, set train.precision=fp32 if it is bf16, or let "
        "a few such steps be left out with train.skip_nonfinite",
    )


def expect_loss(expected: list[float], loss: float) -> tuple[bool, list[float]]:
    """Whether a logged loss jumps, and what is expected after it: [mean, mean deviation, number seen].

    A jump is eight mean deviations above the running mean and a fifth of it. It moves the mean only up to that bound,
    so that one bad window does not make the next one look good.
    """
    if not expected:
        return False, [loss, 0.0, 1.0]
    mean, deviation, n_seen = expected
    bound = mean + max(DEVIATIONS * deviation, MIN_JUMP * abs(mean))
    jumps = n_seen >= FIRST_LOOKS and loss > bound
    seen = min(loss, bound) if jumps else loss
    memory = min(MEMORY, n_seen / (n_seen + 1))
    moved = memory * deviation + (1 - memory) * abs(seen - mean)
    return jumps, [memory * mean + (1 - memory) * seen, moved, n_seen + 1]
