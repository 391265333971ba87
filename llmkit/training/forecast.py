"""Forecast the memory of training by part, and the time per step, on any number of devices. Arithmetic alone.

Memory is that of mixed precision as torch's autocast does it: weights, gradients and moments in fp32, 16 bytes per
weight under AdamW, plus bf16 copies of the matrices during a micro-batch. What each engine shards is in Rajbhandari et
al., ZeRO, 2020, figure 1; what it sends is in section 7 there.
"""

import math
from dataclasses import dataclass

from llmkit.training.batches import MAX_MEMORY_SHARE, activation_budget, count_sequences

FP32, BF16 = 4, 2
DEVICES_PER_MACHINE = 8
ENGINES: dict[str, frozenset[str]] = {
    "ddp": frozenset(),
    "fsdp2": frozenset({"weights", "gradients", "optimizer"}),
    "zero2": frozenset({"gradients", "optimizer"}),
    "zero3": frozenset({"weights", "gradients", "optimizer"}),
}
"""What each engine shards. Of two that are equally fast, the first is chosen: it is simpler."""


@dataclass(frozen=True, slots=True)
class ModelCost:
    """Cost of a model, on any machine."""

    n_weights: int
    n_trained: int
    n_multiplied: int
    """Weights of matrix products, which autocast copies."""
    n_embedded: int
    """Weights of the embedding, the largest single part."""
    n_layers: int
    moment_bytes: int
    flops_per_token: float
    """Forward and backward."""
    activation_bytes: int
    """Per token."""
    logit_bytes: int
    """Per token."""
    max_logit_bytes: int | None
    """Limit for all logits, if the loss is computed in parts."""
    evaluation_bytes: int
    """Of the logits of one evaluation batch."""
    block_size: int
    global_batch_size: int
    passes: float = 1.0
    """Computed FLOPs over model FLOPs: 4/3 with gradient checkpointing."""

    @property
    def tokens_per_step(self) -> int:
        return self.global_batch_size * self.block_size

    @property
    def bytes_per_token(self) -> int:
        """Memory of a micro-batch per token."""
        return self.activation_bytes + (self.logit_bytes if self.max_logit_bytes is None else 0)


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes on one device."""

    weights: int
    gradients: int
    optimizer: int
    copies: int
    """bf16 copies of matrices, and gathered layers."""
    activations: int
    logits: int
    framework: int
    """Memory of the libraries before the model is built."""
    evaluation: int
    """What evaluation needs in addition to training."""

    @property
    def state(self) -> int:
        """What stays in memory between micro-batches."""
        return self.weights + self.gradients + self.optimizer + self.copies

    @property
    def peak(self) -> int:
        """All parts at once, as in every micro-batch of a step after the first."""
        return self.framework + self.state + self.activations + self.logits + self.evaluation


@dataclass(frozen=True, slots=True)
class Forecast:
    """One engine on `n_devices` devices."""

    engine: str
    n_devices: int
    micro_batch_size: int
    """The recipe's, or what `auto` chooses; 1 if not even one sequence fits."""
    max_sequences: int | None
    """Largest micro-batch that fits; None if the memory is unknown."""
    memory: Memory
    compute_seconds: float
    """Per step."""
    exchange_seconds: float
    """Per step, without overlap with computation."""

    @property
    def fits(self) -> bool:
        return self.max_sequences is None or self.micro_batch_size <= self.max_sequences

    @property
    def seconds(self) -> float:
        """Per step."""
        return self.compute_seconds + self.exchange_seconds


@dataclass(frozen=True, slots=True)
class Machine:
    """Speed and memory of one device."""

    flops: float
    """Dense FLOP/s of one device, in the precision of training."""
    hfu: float
    """Share of `flops` that training reaches, recomputation included (PaLM, appendix B)."""
    is_cpu: bool
    n_bytes: int | None
    link: float | None
    network: float | None
    framework: int
    bf16: bool
    activation_ratio: float = 1.0
    """Measured over forecast memory of activations and logits."""


def measure_parts(
    work: ModelCost, engine: str, n_devices: int, micro_batch_size: int, *, bf16: bool, framework: int = 0,
    activation_ratio: float = 1.0,
) -> Memory:  # fmt: skip
    """Bytes of each part on one device."""
    divided = ENGINES[engine] if n_devices > 1 else frozenset()
    share = {part: n_devices if part in divided else 1 for part in ("weights", "gradients", "optimizer")}
    multiplied = work.n_multiplied
    gathered = 0
    if "weights" in divided:  # the embedding, and the layer at work with the next one
        gathered = min(work.n_weights, work.n_embedded + 2 * (work.n_weights - work.n_embedded) // work.n_layers)
        multiplied = min(multiplied, gathered)
    tokens = micro_batch_size * work.block_size
    logits = tokens * work.logit_bytes
    logits = logits if work.max_logit_bytes is None else min(logits, work.max_logit_bytes)
    logits, activations = (round(activation_ratio * each) for each in (logits, tokens * work.activation_bytes))
    copies = FP32 * gathered + (BF16 * multiplied if bf16 else 0)
    gradients = FP32 * work.n_trained // share["gradients"]
    passing = gradients + copies + activations + logits
    return Memory(
        weights=FP32 * work.n_weights // share["weights"],
        gradients=gradients,
        optimizer=work.moment_bytes // share["optimizer"],
        copies=copies,
        activations=activations,
        logits=logits,
        framework=framework,
        evaluation=max(0, work.evaluation_bytes - passing),
    )


def measure_on(work: ModelCost, engine: str, n_devices: int, micro_batch_size: int, machine: Machine) -> Memory:
    """`measure_parts` on `machine`."""
    return measure_parts(
        work, engine, n_devices, micro_batch_size, bf16=machine.bf16, framework=machine.framework,
        activation_ratio=machine.activation_ratio,
    )  # fmt: skip


def fit_sequences(work: ModelCost, engine: str, n_devices: int, machine: Machine) -> int | None:
    """Largest micro-batch that fits on one device, at most its share of the batch; 0 if none fits."""
    if machine.n_bytes is None:
        return None
    most = 0
    room = int(MAX_MEMORY_SHARE * machine.n_bytes)
    low, high = 1, work.global_batch_size // n_devices
    while low <= high:
        middle = (low + high) // 2
        if measure_on(work, engine, n_devices, middle, machine).peak <= room:
            most, low = middle, middle + 1
        else:
            high = middle - 1
    return most


def count_bytes_sent(work: ModelCost, engine: str, n_devices: int, n_parts: int) -> float:
    """Bytes that one device sends in a step of `n_parts` micro-batches, gradients and weights in fp32.

    ddp: one all-reduce, twice the gradients. zero2: with each micro-batch weights are gathered and gradients scattered.
    fsdp2, zero3: weights are gathered twice, and gradients scattered.
    """
    if n_devices == 1:
        return 0.0
    times = {"ddp": 2, "zero2": 2 * n_parts}.get(engine, 3 * n_parts)
    return times * FP32 * work.n_trained * (n_devices - 1) / n_devices


def forecast(
    work: ModelCost, engine: str, n_devices: int, machine: Machine, micro_batch_size: int | None = None
) -> Forecast:
    """Memory and time; the micro-batch is the given one, or what `auto` chooses."""
    share = work.global_batch_size // n_devices
    most = fit_sequences(work, engine, n_devices, machine)

    size = min(micro_batch_size or share, share)
    if micro_batch_size is None:
        free = None if machine.is_cpu or machine.n_bytes is None else machine.n_bytes - machine.framework
        budget = activation_budget(free, measure_on(work, engine, n_devices, 1, machine).state)
        size = min(share, count_sequences(budget, work.bytes_per_token, work.block_size))
        size = max(1, size if most is None else min(size, most))  # one that is given is refused and not cut
    compute = share * work.block_size * work.passes * work.flops_per_token / (machine.flops * machine.hfu)
    sent = count_bytes_sent(work, engine, n_devices, -(-share // size))
    path = machine.link
    if n_devices > DEVICES_PER_MACHINE and machine.network:
        # Eight parallel rings, each with its own network card.
        path = min(machine.link or math.inf, DEVICES_PER_MACHINE * machine.network)
    exchange = sent / path if sent and path else 0.0
    return Forecast(
        engine, n_devices, size, most, measure_on(work, engine, n_devices, size, machine), compute, exchange
    )


def choose_engine(forecasts: list[Forecast]) -> Forecast | None:
    """The fastest that fits, the first of equals; None if none fits."""
    return min((each for each in forecasts if each.fits), key=lambda each: each.seconds, default=None)
