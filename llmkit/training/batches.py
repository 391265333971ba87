"""Which samples make which micro-batch: plain arithmetic on (step, rank), the same for any cut.

Optimizer step s takes the samples s*G ... s*G + G-1 of the endless order, G being the global batch;
each rank takes an equal contiguous share and cuts it into micro-batches: so many sequences at once, or, where
sequences differ in length, so many tokens.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from llmkit.architectures import ARCHITECTURES
from llmkit.config.train import Train
from llmkit.core.errors import UsageError

Sample = TypeVar("Sample")

CPU_BUDGET = 2 << 30
"""Bytes of activations and logits on a CPU; more would gain nothing there."""
GPU_SHARE = 0.5
"""Of the memory that is free before training, for activations and logits; more would gain nothing either."""
MAX_MEMORY_SHARE = 0.95
"""Of that memory for all there is; the rest is what its allocator cannot use."""


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """How one global batch is cut over ranks and accumulation steps."""

    global_batch_size: int
    micro_batch_size: int
    world_size: int
    tokens_at_once: int | None = None
    """Where given, a micro-batch is cut by this and not by its sequences; padding counts, as it takes memory too."""
    first_sample: int = 0
    """Step s begins with sample `first_sample + s * global_batch_size`. Not 0 once a run went on with another batch."""

    @property
    def per_rank(self) -> int:
        """Sequences of one optimizer step on one rank."""
        return self.global_batch_size // self.world_size

    def numbers(self, step: int, rank: int) -> list[int]:
        """The samples of one optimizer step on one rank."""
        first = self.first_sample + step * self.global_batch_size + rank * self.per_rank
        return list(range(first, first + self.per_rank))

    def describe(self, first_step: int, last_step: int) -> str:
        """The samples of some steps, all ranks together, in words."""
        start, end = (self.first_sample + step * self.global_batch_size for step in (first_step, last_step + 1))
        return f"samples {start} to {end - 1}"

    def cut(self, samples: Sequence[Sample], length: Callable[[Sample], int]) -> list[list[Sample]]:
        """The micro-batches of one step on one rank."""
        size = self.micro_batch_size
        if self.tokens_at_once is None:
            return [list(samples[begin : begin + size]) for begin in range(0, len(samples), size)]
        parts: list[list[Sample]] = [[]]
        for sample in sorted(samples, key=length):  # alike in length, so that little is padded
            if parts[-1] and (len(parts[-1]) + 1) * length(sample) > self.tokens_at_once:
                parts.append([])
            parts[-1].append(sample)
        return parts


def plan_batches(
    train: Train, block_size: int, bytes_per_token: int, budget: int, world_size: int, *, by_tokens: bool = False
) -> BatchPlan:
    """The cut of the recipe's global batch.

    `auto` takes as many sequences at once (or, `by_tokens`, tokens) as stay in `budget` bytes; since sums are divided
    by the whole step's count, that changes speed and memory but no result.

    Raises:
        UsageError: the global batch is no multiple of the ranks.
    """
    if train.global_batch_size % world_size:
        what = f"global_batch_size {train.global_batch_size} is not a multiple of {world_size} ranks"
        raise UsageError(what, where="train.global_batch_size", hint="take a multiple, so every rank has equal work")
    share = train.global_batch_size // world_size
    if train.micro_batch_size != "auto":
        return BatchPlan(train.global_batch_size, min(train.micro_batch_size, share), world_size)
    if by_tokens:
        return BatchPlan(train.global_batch_size, share, world_size, max(1, budget // bytes_per_token))
    at_once = count_sequences(budget, bytes_per_token, block_size)
    return BatchPlan(train.global_batch_size, min(share, at_once), world_size)


def count_activation_bytes(
    family: str, n_layers: int, width: int, *, bf16: bool, dropout: bool = False, on_cpu: bool = False
) -> int:
    """Memory of what one token leaves behind for the way back: a sum like Korthikanti et al. 2022, equation 2, but
    without the attention matrix, which no kernel here keeps, and of what these models were seen to keep.

    On a CPU, attention is taken to be in fp32 (models/kernels/attention.py). The residual stream always is."""
    wide, mixed, attention, outside = ARCHITECTURES.get(family, ARCHITECTURES["gpt2"]).activation_bytes
    a_unit = mixed + attention * on_cpu if bf16 else wide
    a_unit += (5 if bf16 else 9) * dropout
    return width * (n_layers * a_unit + outside)


def count_logit_bytes(vocab_size: int, output_share: float) -> int:
    """Memory of one token's logits on the way back, all in fp32: their log-softmax, the gradient behind it, and that
    before it."""
    return round(12 * vocab_size * output_share)


def count_sequences(budget: int, bytes_per_token: int, block_size: int) -> int:
    """How many sequences `auto` takes at once; never less than one."""
    return max(1, budget // bytes_per_token // block_size)


def activation_budget(free_bytes: int | None, state_bytes: int) -> int:
    """Bytes that activations and logits may take; `free_bytes` are a GPU's before training, None on a CPU."""
    if free_bytes is None:
        return CPU_BUDGET
    return max(0, min(int(GPU_SHARE * free_bytes), int(MAX_MEMORY_SHARE * free_bytes) - state_bytes))


@dataclass(frozen=True, slots=True)
class StepSampler:
    """The samples of each step from `first_step` on, without end, on one rank, as torch's DataLoader wants them."""

    plan: BatchPlan
    rank: int
    first_step: int

    def __iter__(self) -> Iterator[list[int]]:
        for step in itertools.count(self.first_step):
            yield self.plan.numbers(step, self.rank)
