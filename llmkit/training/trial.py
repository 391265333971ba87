"""Try a few real optimizer steps on a copy of the model, to turn minutes into a number of steps.

The number is then fixed and recorded, so the run itself never looks at a clock and can be repeated.
"""

import copy
import statistics
import time
from typing import Any

import torch
from transformers import PreTrainedModel

from llmkit.config.optim import Optim
from llmkit.training.batches import BatchPlan
from llmkit.training.contract import Objective, collate_step
from llmkit.training.optimizer import build_optimizer
from llmkit.training.speed import autocast

WARMUP_STEPS = 5
LEAST_STEPS = 4
EVALUATIONS = 10
"""How often a run looks at held-out text unless the recipe says otherwise; their time is part of the minutes."""
EVALUATION_SHARE = 0.1


def plan_minutes(
    minutes: float, step_seconds: float, evaluation_seconds: float, eval_steps: int | None = None
) -> tuple[int, int]:
    """Optimizer steps that fit together with their evaluations, and the steps between two evaluations.

    Unless `eval_steps` is given, there are at most ten, and at most as many as take a tenth of the time.
    """
    seconds = minutes * 60
    if eval_steps is not None:
        step_seconds += evaluation_seconds / eval_steps
        return max(1, int((seconds - evaluation_seconds) / step_seconds)), eval_steps
    affordable = int(EVALUATION_SHARE * seconds / evaluation_seconds) if evaluation_seconds else EVALUATIONS
    n_evaluations = max(1, min(EVALUATIONS, affordable))
    n_steps = max(1, int((seconds - n_evaluations * evaluation_seconds) / step_seconds))
    return n_steps, -(-n_steps // n_evaluations)


def measure_step_seconds(
    model: PreTrainedModel, objective: Objective, samples: Any, optim: Optim, batches: BatchPlan, precision: str,
    device: torch.device, budget_seconds: float,
) -> float:  # fmt: skip
    """Median seconds of an optimizer step on this machine; the model and all random numbers stay as they are.

    The median, since one step that something else on the machine held up says nothing of the others.
    """
    with torch.random.fork_rng():
        trial = copy.deepcopy(model).to(device).train()  # type: ignore[arg-type]
        optimizer = build_optimizer(trial, optim)
        for group in optimizer.param_groups:
            group["lr"] = 0.0
        seconds: list[float] = []
        while len(seconds) < WARMUP_STEPS + LEAST_STEPS or sum(seconds) < budget_seconds:
            started = time.perf_counter()
            _step(trial, objective, samples, optimizer, batches, precision, device, len(seconds), optim.max_grad_norm)
            seconds.append(time.perf_counter() - started)
        return statistics.median(seconds[WARMUP_STEPS:])


def _step(
    model: PreTrainedModel, objective: Objective, samples: Any, optimizer: torch.optim.Optimizer,
    batches: BatchPlan, precision: str, device: torch.device, step: int, max_grad_norm: float,
) -> None:  # fmt: skip
    for batch in collate_step(objective, batches, [samples[number] for number in batches.numbers(step, 0)]):
        with autocast(precision, device):
            sums = objective.sum_losses(model, {name: tensor.to(device) for name, tensor in batch.items()})
        torch.stack(list(sums.values())).sum().mul(1e-3).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm or float("inf")).item()
    optimizer.step()
    optimizer.zero_grad()
