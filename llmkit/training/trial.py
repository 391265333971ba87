"""Try real steps before the first one: does a micro-batch fit into memory, and how long does a step take?

What was found is then recorded, so the run itself never looks at a clock and can be repeated; and memory never runs out
on weights that were already trained. Every trial has a limit in seconds, and ends with the step that passes it.
"""

import copy
import gc
import statistics
import time
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import PreTrainedModel

from llmkit.config.optim import Optim
from llmkit.core import console, distributed
from llmkit.core.devices import release_memory, synchronize
from llmkit.core.errors import EnvironmentFault
from llmkit.training.batches import BatchPlan
from llmkit.training.compiling import Work
from llmkit.training.contract import Objective, collate_step
from llmkit.training.optimizer import build_optimizer, count_weights, forecast_bytes
from llmkit.training.speed import autocast

WARMUP_STEPS = 5
MIN_STEPS = 4
MAX_FIT_SECONDS = 20.0
"""Of tries whether a micro-batch fits; after these, half of the last one is taken untried."""


@dataclass(frozen=True, slots=True)
class StepSeconds:
    """Seconds of an optimizer step: its forward and backward passes, and the optimizer with clipping."""

    compute: float
    optimizer: float

    @property
    def total(self) -> float:
        return self.compute + self.optimizer


def fit_in_memory(
    model: PreTrainedModel, objective: Objective, samples: Any, optim: Optim, batches: BatchPlan, precision: str,
    device: torch.device, *, may_cut: bool,
) -> BatchPlan:  # fmt: skip
    """A cut of the batch that was seen to fit: the given one, or where `may_cut` a finer one for the same model.

    Model, random numbers and the objective's state stay as they are. After `MAX_FIT_SECONDS` no more cuts are tried.

    Raises:
        EnvironmentFault: it does not fit; names the setting that keeps the global batch.
    """
    deadline = time.perf_counter() + MAX_FIT_SECONDS
    while time.perf_counter() < deadline:
        try:
            _try_micro_batch(model, objective, samples, optim, batches, precision, device)
            return batches
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        finer = _halve(batches)
        if finer is None:
            hint = "lower train.block_size, or take a smaller model"
            raise EnvironmentFault("not even one sequence at a time fits into memory", where=str(device), hint=hint)
        if not may_cut:
            n_parts = -(-finer.global_batch_size // finer.world_size // finer.micro_batch_size)
            what = f"{batches.micro_batch_size} sequences at once do not fit into memory"
            hint = (
                f"-s train.micro_batch_size={finer.micro_batch_size}: the global batch of {finer.global_batch_size} "
                f"stays, in {n_parts} parts, and so does the model; or auto, which finds what fits"
            )
            raise EnvironmentFault(what, where="train.micro_batch_size", hint=hint)
        batches = finer
        at_once = batches.tokens_at_once or batches.micro_batch_size
        unit = "sequences" if batches.tokens_at_once is None else "tokens"
        console.info(f"memory ran out in a trial step: {at_once} {unit} at once instead; the global batch stays")
    return batches


def _halve(batches: BatchPlan) -> BatchPlan | None:
    """The next finer cut; None where there is none."""
    if batches.tokens_at_once is not None:
        return replace(batches, tokens_at_once=batches.tokens_at_once // 2) if batches.tokens_at_once > 1 else None
    half = batches.micro_batch_size // 2
    return replace(batches, micro_batch_size=half) if half else None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch or Python says that memory ran out."""
    words = ("can't allocate memory", "not enough memory", "out of memory")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(word in str(error) for word in words)


def _try_micro_batch(
    model: PreTrainedModel, objective: Objective, samples: Any, optim: Optim, batches: BatchPlan, precision: str,
    device: torch.device,
) -> None:  # fmt: skip
    """Forward and backward of the largest micro-batch of the first step, with the optimizer's state beside it."""
    was_training, state = model.training, dict(objective.state)
    trial = model if device.type == "cpu" else copy.deepcopy(model).to(device)  # type: ignore[arg-type]  # transformers' decorator hides the method's own signature
    n_bytes = forecast_bytes(model, optim) - 4 * count_weights(model.parameters())
    moments = torch.empty(n_bytes, dtype=torch.uint8, device=device)
    parts = collate_step(objective, batches, [samples[number] for number in batches.numbers(0, 0)])
    largest = max(parts, key=lambda batch: batch["input_ids"].numel())
    with torch.random.fork_rng():
        try:
            trial.train()
            with autocast(precision, device):
                sums = objective.sum_losses(trial, {name: tensor.to(device) for name, tensor in largest.items()})
            torch.stack(list(sums.values())).sum().mul(1e-3).backward()
        finally:
            del moments
            trial.zero_grad(set_to_none=True)
            model.train(was_training)
            objective.state.clear()
            objective.state.update(state)


def measure_step_seconds(
    model: PreTrainedModel, objective: Objective, samples: Any, optim: Optim, batches: BatchPlan, precision: str,
    device: torch.device, budget_seconds: float, compiled: str = "none",
) -> StepSeconds:  # fmt: skip
    """Median seconds of an optimizer step here, compiled in one of `compiling.WAYS`. The model and all random numbers
    stay as they are.

    Nine steps or more where the budget allows it, else as many as it allows, and two at least: the first is slower
    than the others and does not count. The median, because something else on the machine may hold up a single step.
    """
    try:
        return _time_steps(model, objective, samples, optim, batches, precision, device, budget_seconds, compiled)
    finally:
        if compiled != "none":  # what was compiled holds on to the copy that was tried
            torch.compiler.reset()
            gc.collect()
            release_memory(device)


def _time_steps(
    model: PreTrainedModel, objective: Objective, samples: Any, optim: Optim, batches: BatchPlan, precision: str,
    device: torch.device, budget_seconds: float, compiled: str,
) -> StepSeconds:  # fmt: skip
    with torch.random.fork_rng():
        trial = copy.deepcopy(model).to(device).train()  # type: ignore[arg-type]  # as above
        work = Work(trial, objective, compiled)
        optimizer = build_optimizer(trial, optim, precision)
        for group in optimizer.param_groups:
            group["lr"] = 0.0
        steps: list[StepSeconds] = []
        started = time.perf_counter()
        while len(steps) < 2 or time.perf_counter() - started < budget_seconds:
            steps.append(_step(work, objective, samples, optimizer, batches, precision, device, len(steps), optim))
    timed = steps[min(WARMUP_STEPS, len(steps) // 2) :]
    return StepSeconds(
        statistics.median(step.compute for step in timed), statistics.median(step.optimizer for step in timed)
    )


def measure_exchange_seconds(n_weights: int, device: torch.device, budget_seconds: float) -> float:
    """Median seconds in which the ranks add up so many gradients in fp32; 0 for one rank. Every rank calls it. An upper
    bound, as torch sends while it computes."""
    if distributed.world_size() == 1:
        return 0.0
    gradients = torch.zeros(n_weights, device=device)

    def exchange() -> float:
        started = time.perf_counter()
        torch.distributed.all_reduce(gradients)
        gradients[0].item()  # waits for a GPU
        return time.perf_counter() - started

    first = max(distributed.gather(exchange()))
    n_more = max(1, min(WARMUP_STEPS + MIN_STEPS, int(budget_seconds / first)))  # equally often on all ranks
    return max(distributed.gather(statistics.median(exchange() for _ in range(n_more))))


def _step(
    work: Work, objective: Objective, samples: Any, optimizer: torch.optim.Optimizer,
    batches: BatchPlan, precision: str, device: torch.device, step: int, optim: Optim,
) -> StepSeconds:  # fmt: skip
    started = time.perf_counter()
    for batch in collate_step(objective, batches, [samples[number] for number in batches.numbers(step, 0)]):
        with autocast(precision, device):
            sums = work({name: tensor.to(device) for name, tensor in batch.items()})
        torch.stack(list(sums.values())).sum().mul(1e-3).backward()
    synchronize(device)
    computed = time.perf_counter()
    torch.nn.utils.clip_grad_norm_(work.parameters(), optim.max_grad_norm or float("inf")).item()
    optimizer.step()
    optimizer.zero_grad()
    synchronize(device)
    return StepSeconds(computed - started, time.perf_counter() - computed)
