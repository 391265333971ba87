"""Losses of a run: sums since the last log line, detection of spikes, and steps with a non-finite gradient."""

import time
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor

from llmkit.core import distributed
from llmkit.core.devices import widest_float
from llmkit.core.errors import TrainingFailed
from llmkit.core.files import write_json
from llmkit.training.batches import BatchPlan
from llmkit.training.contract import Batch

MIN_LOSSES_SEEN = 5
"""Minimum number of logged losses before a loss can count as a spike."""
MAX_DEVIATIONS, MIN_JUMP = 8.0, 0.2
"""A spike exceeds the running mean by this many mean deviations and by this fraction of the mean."""
MEMORY = 0.9
"""Decay of the running mean."""
MIN_FALL, MIN_FALL_OF_FIFTH, MIN_FALL_OF_HALF = 0.01, 0.05, 0.1
"""A held-out loss was still falling if it fell by this many nats, and by this fraction, over the last fifth or over the
last half of a run. The half counts too, because a learning rate that decays to zero flattens the end of the curve."""


def sum_fp64(losses: Tensor) -> Tensor:
    """Return the sum in fp64 (fp32 on MPS), which does not depend on how a batch is divided."""
    return losses.sum(dtype=widest_float(losses.device))


class LossWindow:
    """Sums and counts of losses since the last log line. Sums stay on the device, so no step waits for them."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}
        self.n_tokens = 0
        self.waited = 0.0
        self.started = time.perf_counter()

    def restore(self, sums: dict[str, float], counts: dict[str, int]) -> None:
        """Continue the window of a checkpoint; the speed is measured from this call."""
        self.sums = {name: torch.tensor(value, dtype=torch.float64) for name, value in sums.items()}
        self.counts = dict(counts)

    def copy(self) -> tuple[dict[str, Tensor], dict[str, int], int]:
        """Return a copy for `rollback`; tensors are replaced and never modified."""
        return dict(self.sums), dict(self.counts), self.n_tokens

    def rollback(self, before: tuple[dict[str, Tensor], dict[str, int], int]) -> None:
        """Discard the steps since `copy`."""
        self.sums, self.counts, self.n_tokens = before

    def add_step(self, counts: dict[str, int], n_tokens: int, waited: float) -> None:
        """Add the labels and tokens of one optimizer step over all ranks, and the seconds this rank waited for data."""
        self.n_tokens += n_tokens
        self.waited += waited
        for name, count in counts.items():
            self.counts[name] = self.counts.get(name, 0) + count

    def add_sums(self, sums: dict[str, Tensor]) -> None:
        """Add the summed losses of a micro-batch."""
        for name, value in sums.items():
            wide = value.detach().to(widest_float(value.device))
            self.sums[name] = self.sums[name].to(wide) + wide if name in self.sums else wide

    def pause(self, seconds: float) -> None:
        """Exclude time spent on evaluation and saving from the speed."""
        self.started += seconds

    def drain(self) -> dict[str, float]:
        """Return values since the last call: mean losses and their sum `loss`, tokens per second, fraction of time
        spent waiting for data.
        """
        seconds = time.perf_counter() - self.started
        if distributed.world_size() > 1:
            for value in self.sums.values():
                torch.distributed.all_reduce(value)
        # The seventh digit of an fp32 loss is noise and depends on how a batch is cut.
        logged = {name: round(value.item() / max(1, self.counts[name]), 6) for name, value in self.sums.items()}
        logged = {"loss": round(sum(logged.values()), 6)} | logged
        logged |= {"tokens_per_second": self.n_tokens / seconds, "data_wait": self.waited / seconds}
        self._reset()
        return logged


def detect_spike(expected: list[float], loss: float) -> tuple[bool, list[float]]:
    """Return whether a logged loss is a spike, and the updated expectation: [mean, mean deviation, number of losses].

    A spike moves the mean only as much as a loss at the bound would, so the next spike is still detected.
    """
    if not expected:
        return False, [loss, 0.0, 1.0]
    mean, deviation, n_seen = expected
    bound = mean + max(MAX_DEVIATIONS * deviation, MIN_JUMP * abs(mean))
    is_spike = n_seen >= MIN_LOSSES_SEEN and loss > bound
    seen = min(loss, bound) if is_spike else loss
    memory = min(MEMORY, n_seen / (n_seen + 1))
    deviation = memory * deviation + (1 - memory) * abs(seen - mean)
    return is_spike, [memory * mean + (1 - memory) * seen, deviation, n_seen + 1]


def describe_trend(losses: list[tuple[int, float]], advice: str) -> str | None:
    """Return a warning if the held-out loss was still falling steeply at the end of the run, else None.

    `losses` are (step, loss) in the order of steps; `advice` says which setting makes the run longer.
    """
    if len(losses) < 2:
        return None
    last_step, last = losses[-1]
    fifth = [each for each in losses[:-1] if each[0] <= 0.8 * last_step][-1:]
    half = [each for each in losses[:-1] if each[0] >= 0.5 * last_step][:1]
    for begins, least in ((fifth, MIN_FALL_OF_FIFTH), (half, MIN_FALL_OF_HALF)):
        since, before = begins[0] if begins else losses[-1]
        if before - last >= max(MIN_FALL, least * before):
            fall = f"{1 - last / before:.0%}"
            return f"the held-out loss still fell by {fall} after step {since} of {last_step}: {advice}"
    return None


def fail_on_nonfinite(
    folder: Path, plan: BatchPlan, batches: list[Batch], sums: dict[str, Tensor],
    *, step: int, rank: int, rate: float, grad_norm: float,
) -> NoReturn:  # fmt: skip
    """Write this rank's batches of step `step` (from 0) with learning rate and losses to `folder`, then raise.

    Raises:
        TrainingFailed: always.
    """
    suffix = f"-rank-{rank}" if plan.world_size > 1 else ""
    dump = folder / f"refused-step-{step + 1}{suffix}.json"
    values = {
        "step": step + 1,
        "learning_rate": rate,
        "grad_norm": str(grad_norm),  # JSON has neither NaN nor infinity
        "loss_sums": {name: str(value.item()) for name, value in sums.items()},
        "samples": plan.numbers(step, rank),
        "micro_batches": [{name: tensor.tolist() for name, tensor in batch.items()} for batch in batches],
    }
    write_json(dump, values)
    raise TrainingFailed(
        f"the gradient is {grad_norm} at step {step + 1}; the weights were not changed",
        where=f"{plan.describe(step, step)}, learning rate {rate:.3g}; their rows and losses are in {dump}",
        hint="lower optim.learning_rate, raise optim.warmup_steps, set train.precision=fp32 if it is bf16, or allow "
        "a few such steps to be skipped with train.skip_nonfinite",
    )
