"""Trial steps before the first step: whether a micro-batch fits into memory, and how long a step takes.

Memory therefore does not run out in the middle of training. The plan records the results, so a resumed run keeps them
without a trial. Every trial has a limit in seconds and ends with the step that exceeds it.
"""

import copy
import gc
import statistics
import time
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import PreTrainedModel

from llmkit.config.optim import Optim
from llmkit.core import console, distributed
from llmkit.core.devices import release_memory, synchronize
from llmkit.core.errors import EnvironmentFault
from llmkit.training.batches import BatchPlan
from llmkit.training.contract import Batch, Objective, Samples, collate_step
from llmkit.training.engines import LossModule
from llmkit.training.optimizer import build_optimizer, checkpoint_bytes, count_parameters
from llmkit.training.speed import autocast

WARMUP_STEPS = 5
MIN_STEPS = 4
MAX_FIT_SECONDS = 20.0
"""Time limit of the test whether a micro-batch fits; after it, half of the last size is used without a test."""


@dataclass(frozen=True, slots=True)
class StepSeconds:
    """Seconds of an optimizer step: forward and backward passes, and the optimizer with clipping."""

    compute: float
    optimizer: float

    @property
    def total(self) -> float:
        return self.compute + self.optimizer


@dataclass(frozen=True, slots=True)
class Trial:
    """Runs trial steps. Model, random number generators and the objective's state stay unchanged."""

    model: PreTrainedModel
    objective: Objective
    samples: Samples
    optim: Optim
    precision: str
    device: torch.device

    def fit(self, batches: BatchPlan, *, may_cut: bool) -> BatchPlan:
        """Return the given plan if its micro-batch fits into memory.

        With `may_cut`, return a plan with the same global batch, and with the micro-batch halved until it fits. No more
        sizes are tried after `MAX_FIT_SECONDS`.

        Raises:
            EnvironmentFault: the micro-batch does not fit; the error suggests half its size and the same global batch.
        """
        deadline = time.perf_counter() + MAX_FIT_SECONDS
        while time.perf_counter() < deadline:
            try:
                self._try_micro_batch(batches)
                return batches
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
            smaller = _halve(batches)
            if smaller is None:
                hint = "lower train.block_size, or choose a smaller model"
                what = "a single sequence does not fit into memory"
                raise EnvironmentFault(what, where=str(self.device), hint=hint)
            if not may_cut:
                n_parts = -(-smaller.per_rank // smaller.micro_batch_size)
                what = f"{batches.micro_batch_size} sequences at once do not fit into memory"
                hint = (
                    f"-s train.micro_batch_size={smaller.micro_batch_size}: it splits the same global batch of "
                    f"{smaller.global_batch_size} into {n_parts} parts and gives the same model; or auto, which finds "
                    "a size that fits"
                )
                raise EnvironmentFault(what, where="train.micro_batch_size", hint=hint)
            batches = smaller
            at_once = batches.tokens_at_once or batches.micro_batch_size
            size = console.count(at_once, "sequence" if batches.tokens_at_once is None else "token")
            console.info(f"memory ran out in a trial step: trying {size} at once; global_batch_size is unchanged")
        return batches

    def _try_micro_batch(self, batches: BatchPlan) -> None:
        """Run forward and backward pass of the first step's largest micro-batch, with memory reserved for the
        optimizer.
        """
        was_training, state = self.model.training, dict(self.objective.state)
        model = self.model if self.device.type == "cpu" else self._copy_model()
        n_bytes = checkpoint_bytes(model, self.optim) - 4 * count_parameters(model.parameters())
        moments = torch.empty(n_bytes, dtype=torch.uint8, device=self.device)
        largest = max(self._micro_batches(batches, 0), key=lambda batch: batch["input_ids"].numel())
        with torch.random.fork_rng():
            try:
                model.train()
                self._backward(LossModule(model, self.objective), largest)
            finally:
                del moments
                model.zero_grad(set_to_none=True)
                self.model.train(was_training)
                self.objective.state.clear()
                self.objective.state.update(state)

    def measure(self, batches: BatchPlan, budget_seconds: float, compiled: str = "none") -> StepSeconds:
        """Return the median seconds of an optimizer step on this machine, compiled in one of `engines.COMPILE_MODES`.

        Runs steps until the budget is spent, at least two. The first steps are slower and do not count. The median
        ignores single steps that another process delays.
        """
        try:
            steps = self._time_steps(batches, budget_seconds, compiled)
        finally:
            if compiled != "none":  # compiled code holds a reference to the copy of the model
                torch.compiler.reset()
                gc.collect()
                release_memory(self.device)
        timed = steps[min(WARMUP_STEPS, len(steps) // 2) :]
        return StepSeconds(
            statistics.median(step.compute for step in timed), statistics.median(step.optimizer for step in timed)
        )

    def _time_steps(self, batches: BatchPlan, budget_seconds: float, compiled: str) -> list[StepSeconds]:
        steps: list[StepSeconds] = []
        with torch.random.fork_rng():
            module = LossModule(self._copy_model().train(), self.objective, compiled)
            optimizer = build_optimizer(module.model, self.optim, self.precision)
            for group in optimizer.param_groups:
                group["lr"] = 0.0
            deadline = time.perf_counter() + budget_seconds
            while len(steps) < 2 or time.perf_counter() < deadline:
                started = time.perf_counter()
                for batch in self._micro_batches(batches, len(steps)):
                    self._backward(module, batch)
                synchronize(self.device)
                computed = time.perf_counter()
                torch.nn.utils.clip_grad_norm_(module.parameters(), self.optim.max_grad_norm or float("inf")).item()
                optimizer.step()
                optimizer.zero_grad()
                synchronize(self.device)
                steps.append(StepSeconds(computed - started, time.perf_counter() - computed))
        return steps

    def _copy_model(self) -> PreTrainedModel:
        model: PreTrainedModel = copy.deepcopy(self.model).to(self.device)  # type: ignore[arg-type]  # transformers' decorator hides the signature
        return model

    def _micro_batches(self, batches: BatchPlan, step: int) -> list[Batch]:
        return collate_step(self.objective, batches, [self.samples[number] for number in batches.numbers(step, 0)])

    def _backward(self, module: LossModule, batch: Batch) -> None:
        with autocast(self.precision, self.device):
            sums: dict[str, Tensor] = module({name: tensor.to(self.device) for name, tensor in batch.items()})
        torch.stack(list(sums.values())).sum().mul(1e-3).backward()


def _halve(batches: BatchPlan) -> BatchPlan | None:
    """Return the plan with half the micro-batch; None if it cannot be smaller."""
    if batches.tokens_at_once is not None:
        return replace(batches, tokens_at_once=batches.tokens_at_once // 2) if batches.tokens_at_once > 1 else None
    half = batches.micro_batch_size // 2
    return replace(batches, micro_batch_size=half) if half else None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch or Python means that memory ran out."""
    words = ("can't allocate memory", "not enough memory", "out of memory")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(word in str(error) for word in words)


def measure_all_reduce_seconds(n_parameters: int, device: torch.device, budget_seconds: float) -> float:
    """Return the median seconds of an all-reduce of fp32 gradients; 0 for one rank. Every rank calls it.

    The value is an upper bound, because torch overlaps the all-reduce with computation.
    """
    if distributed.world_size() == 1:
        return 0.0
    gradients = torch.zeros(n_parameters, device=device)

    def measure() -> float:
        started = time.perf_counter()
        torch.distributed.all_reduce(gradients)
        gradients[0].item()  # waits for a GPU
        return time.perf_counter() - started

    first = max(distributed.gather(measure()))
    n_more = max(1, min(WARMUP_STEPS + MIN_STEPS, int(budget_seconds / first)))  # the same number on all ranks
    return max(distributed.gather(statistics.median(measure() for _ in range(n_more))))
