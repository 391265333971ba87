"""What training takes before it runs: memory by part, seconds a step, on one device or a thousand. Arithmetic alone.

Memory is that of mixed precision as torch's autocast does it: weights, gradients and moments in fp32, 16 bytes a weight
under AdamW, and copies of the matrices in bf16 while a micro-batch is on its way. What each engine divides among the
devices is Rajbhandari et al., ZeRO, 2020, figure 1; what it sends is section 7 there.
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
"""What each engine divides among the devices. Of two that are as fast, the first is taken: it needs less."""


@dataclass(frozen=True, slots=True)
class ModelCost:
    """What a model asks of any machine."""

    n_weights: int
    n_trained: int
    n_multiplied: int
    """Weights of matrix products, of which autocast makes copies."""
    n_embedded: int
    """Weights of the embedding, the largest single part."""
    n_layers: int
    moment_bytes: int
    flops_per_token: float
    """Forward and backward."""
    activation_bytes: int
    """Of one token."""
    logit_bytes: int
    """Of one token."""
    max_logit_bytes: int | None
    """Of all logits there ever are, where the loss is made in parts."""
    evaluation_bytes: int
    """Of the logits of one batch when held-out text is scored at the end."""
    block_size: int
    global_batch_size: int
    passes: float = 1.0
    """How often that many FLOPs are computed: 4/3 where the forward pass is done again in the backward pass."""

    @property
    def tokens_per_step(self) -> int:
        return self.global_batch_size * self.block_size

    @property
    def bytes_per_token(self) -> int:
        """What a micro-batch takes for each of its tokens, however many they are."""
        return self.activation_bytes + (self.logit_bytes if self.max_logit_bytes is None else 0)


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes on one device."""

    weights: int
    gradients: int
    optimizer: int
    copies: int
    """Of matrices in bf16; of layers that are gathered from all devices."""
    activations: int
    logits: int
    framework: int
    """What the libraries take before there is any model."""
    evaluation: int
    """What scoring at the end takes more than training."""

    @property
    def state(self) -> int:
        """What stays from micro-batch to micro-batch."""
        return self.weights + self.gradients + self.optimizer + self.copies

    @property
    def peak(self) -> int:
        """All parts at once, as in each micro-batch of a step but its first, whose gradients are still to come."""
        return self.framework + self.state + self.activations + self.logits + self.evaluation


@dataclass(frozen=True, slots=True)
class Forecast:
    """One engine on so many devices."""

    engine: str
    n_devices: int
    micro_batch_size: int
    """What is reckoned with: the recipe's, or what `auto` takes, one where not even one fits."""
    max_sequences: int | None
    """At once, that would fit; None where the memory is not known."""
    memory: Memory
    compute_seconds: float
    """Of one step."""
    exchange_seconds: float
    """Of one step; nothing of it is taken to happen while the device computes."""

    @property
    def fits(self) -> bool:
        return self.max_sequences is None or self.micro_batch_size <= self.max_sequences

    @property
    def seconds(self) -> float:
        """Of one step."""
        return self.compute_seconds + self.exchange_seconds


@dataclass(frozen=True, slots=True)
class Machine:
    """Devices as a forecast sees them."""

    flops: float
    """Dense FLOP/s of one device, in the precision of training."""
    hfu: float
    """Of those FLOP/s, what training reaches; forward passes that are done again count (PaLM, appendix B)."""
    is_cpu: bool
    n_bytes: int | None
    link: float | None
    network: float | None
    framework: int
    bf16: bool
    activation_ratio: float = 1.0
    """What activations and logits were seen to take, over what they were reckoned to."""


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
    """As `measure_parts`, on such devices."""
    return measure_parts(
        work, engine, n_devices, micro_batch_size, bf16=machine.bf16, framework=machine.framework,
        activation_ratio=machine.activation_ratio,
    )  # fmt: skip


def fit_sequences(work: ModelCost, engine: str, n_devices: int, machine: Machine) -> int | None:
    """How many sequences at once stay in the memory of one device, at most its share of the batch; 0 if none does."""
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
    """Memory and time; the micro-batch is the given one, or what `auto` takes."""
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
        # Eight rings side by side, each over a network card of its own.
        path = min(machine.link or math.inf, DEVICES_PER_MACHINE * machine.network)
    exchange = sent / path if sent and path else 0.0
    return Forecast(
        engine, n_devices, size, most, measure_on(work, engine, n_devices, size, machine), compute, exchange
    )


def choose_engine(forecasts: list[Forecast]) -> Forecast | None:
    """The fastest that fits, of equals the first; None where none does."""
    return min((each for each in forecasts if each.fits), key=lambda each: each.seconds, default=None)
