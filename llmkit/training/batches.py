"""Divide samples into micro-batches as a function of (step, rank), and choose the size of a micro-batch.

Optimizer step s takes samples s*G ... s*G + G-1 of an endless sequence, where G is the global batch size. Each rank
takes an equal contiguous part and divides it into micro-batches of a fixed number of sequences, or, if sequences
differ in length, of a maximum number of tokens.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from llmkit.architectures import ARCHITECTURES
from llmkit.config.train import Train
from llmkit.core import console
from llmkit.core.console import count
from llmkit.core.errors import UsageError
from llmkit.core.machine import count_cores

Sample = TypeVar("Sample")

CPU_BUDGET = 2 << 30
"""Bytes of activations and logits on a CPU; larger micro-batches are not faster there."""
GPU_SHARE = 0.5
"""Fraction of the memory free before training that activations and logits may use; more is not faster."""
MAX_MEMORY_SHARE = 0.95
"""Fraction of the same free memory that all tensors together may use; the rest is lost to fragmentation."""

MAX_EPOCHS_PER_STEP = 10
MIN_CHECKED_BATCH_SIZE = 4096
"""A larger global batch is refused if one step would read the data more than MAX_EPOCHS_PER_STEP times."""
MAX_WORKERS_PER_CORE = 4
MIN_CHECKED_WORKERS = 16


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """The division of a global batch over ranks and micro-batches."""

    global_batch_size: int
    micro_batch_size: int
    world_size: int
    tokens_at_once: int | None = None
    """Maximum tokens of a micro-batch, including padding; None: a micro-batch has `micro_batch_size` sequences."""
    first_sample: int = 0
    """Step s starts at sample `first_sample + s * global_batch_size`. Not 0 after a resume with another batch size."""

    @property
    def per_rank(self) -> int:
        """Return the number of sequences of one optimizer step on one rank."""
        return self.global_batch_size // self.world_size

    def numbers(self, step: int, rank: int) -> list[int]:
        """Return the numbers of the samples of one optimizer step on one rank."""
        first = self.first_sample + step * self.global_batch_size + rank * self.per_rank
        return list(range(first, first + self.per_rank))

    def describe(self, first_step: int, last_step: int) -> str:
        """Describe the samples of these steps over all ranks: `samples 0 to 255`."""
        start, end = (self.first_sample + step * self.global_batch_size for step in (first_step, last_step + 1))
        return f"samples {start} to {end - 1}"

    def cut(self, samples: Sequence[Sample], length: Callable[[Sample], int]) -> list[list[Sample]]:
        """Divide the samples of one step on one rank into micro-batches; `length` returns the tokens of a sample."""
        size = self.micro_batch_size
        if self.tokens_at_once is None:
            return [list(samples[begin : begin + size]) for begin in range(0, len(samples), size)]
        parts: list[list[Sample]] = [[]]
        for sample in sorted(samples, key=length):  # similar lengths, for little padding
            if parts[-1] and (len(parts[-1]) + 1) * length(sample) > self.tokens_at_once:
                parts.append([])
            parts[-1].append(sample)
        return parts


def plan_batches(
    train: Train, block_size: int, bytes_per_token: int, budget: int, world_size: int, *, by_tokens: bool = False
) -> BatchPlan:
    """Divide the recipe's global batch.

    With `auto`, a micro-batch has as many sequences (with `by_tokens`, tokens) as fit into `budget` bytes. The choice
    changes speed and memory but not the gradient, because the loop divides summed losses by the counts of the complete
    step.

    Raises:
        UsageError: the global batch size is not a multiple of the number of ranks.
    """
    if train.global_batch_size % world_size:
        what = f"global_batch_size {train.global_batch_size} is not a multiple of {world_size} ranks"
        raise UsageError(
            what, where="train.global_batch_size", hint="choose a multiple, so that all ranks have equal work"
        )
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
    """Return the bytes of one token's activations that are kept for the backward pass.

    The formula is equation 2 of Korthikanti et al. 2022, with coefficients measured for each family, and without the
    attention matrix, which no kernel here keeps. The residual stream is in fp32; on a CPU attention is too
    (models/kernels/patches.py).
    """
    fp32, mixed, attention, outside = ARCHITECTURES.get(family, ARCHITECTURES["gpt2"]).activation_bytes
    per_layer = mixed + attention * on_cpu if bf16 else fp32
    per_layer += (5 if bf16 else 9) * dropout
    return width * (n_layers * per_layer + outside)


def count_logit_bytes(vocab_size: int, output_fraction: float) -> int:
    """Return the bytes of one token's logits in the backward pass: log-softmax, its gradient and the gradient of the
    logits, each in fp32.
    """
    return round(12 * vocab_size * output_fraction)


def count_sequences(budget: int, bytes_per_token: int, block_size: int) -> int:
    """Return the number of sequences that `auto` takes at once; at least one."""
    return max(1, budget // bytes_per_token // block_size)


def check_batch_size(train: Train, n_samples: int) -> None:
    """Raise UsageError if a large global batch repeats the `n_samples` of an epoch many times in each step."""
    size = train.global_batch_size
    if size > max(MIN_CHECKED_BATCH_SIZE, MAX_EPOCHS_PER_STEP * n_samples):
        what = f"global_batch_size {size:,} repeats the {count(n_samples, 'train sample')} {size // n_samples:,} times"
        hint = f"set train.global_batch_size to {n_samples:,} or less"
        raise UsageError(f"{what} in each optimizer step", where="train.global_batch_size", hint=hint)


def limit_workers(n_workers: int) -> int:
    """Return the number of data loader processes: the recipe's, or fewer on a machine with few cores."""
    most = max(MIN_CHECKED_WORKERS, MAX_WORKERS_PER_CORE * count_cores())
    if n_workers > most:
        console.info(f"num_workers {n_workers} is lowered to {most}: this machine has {count(count_cores(), 'core')}")
    return min(n_workers, most)


def activation_budget(free_bytes: int | None, state_bytes: int) -> int:
    """Return the bytes for activations and logits; `free_bytes` is a GPU's free memory before training, None on a
    CPU.
    """
    if free_bytes is None:
        return CPU_BUDGET
    return max(0, min(int(GPU_SHARE * free_bytes), int(MAX_MEMORY_SHARE * free_bytes) - state_bytes))


@dataclass(frozen=True, slots=True)
class StepSampler:
    """A batch sampler for torch's DataLoader: yields the sample numbers of each step from `first_step` on, endlessly,
    on one rank.
    """

    plan: BatchPlan
    rank: int
    first_step: int

    def __iter__(self) -> Iterator[list[int]]:
        for step in itertools.count(self.first_step):
            yield self.plan.numbers(step, self.rank)
