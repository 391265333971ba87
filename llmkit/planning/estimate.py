"""Estimate a training run before it starts: memory, time, disk and cost, on one device or several.

The model is built on the meta device, without weights. From its cost (runs/model_cost.py) and the machine, this module
computes memory and time per step for each engine, the length of the run and its disk space. measure.py measures the
speed of this machine with real steps. The estimate assumes no overlap of communication and computation, so times are
too high rather than too low.
"""

import math
from bisect import bisect_right
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch

from llmkit.config.recipe import Recipe
from llmkit.core.console import show_size
from llmkit.core.devices import describe_gpu, free_bytes, pick_device
from llmkit.core.disk_space import measure_folder
from llmkit.core.errors import UsageError
from llmkit.core.hardware import Device, default_mfu, find_device, framework_bytes, get_device
from llmkit.core.machine import describe_machine, total_memory
from llmkit.planning.measure import measure_steps
from llmkit.runs.model_cost import FP32, Memory, ModelCost, estimate_memory, measure_model_cost
from llmkit.runs.plan import MAX_EPOCHS, TOKENS_PER_PARAMETER
from llmkit.runs.train import MAX_CHECKPOINTS
from llmkit.tasks.base import PlannedTask
from llmkit.tasks.synthetic import Vocabulary
from llmkit.tasks.table import TASKS
from llmkit.tokens.loading import load_tokenizer
from llmkit.tokens.prepared import load_prepared
from llmkit.training.batches import MAX_MEMORY_SHARE, activation_budget, count_sequences
from llmkit.training.engines import RESHARDS, refuse_engine
from llmkit.training.speed import choose_precision, peak_flops

TABLE = (1, 2, 4, 8)
"""Numbers of GPUs to show in addition to the requested number."""
GPUS_PER_MACHINE = 8
MIN_GPU_SECONDS = 0.01
"""Minimum seconds of a micro-batch that keeps a GPU busy: a step is hundreds of kernels, each started from Python."""


@dataclass(frozen=True, slots=True)
class Machine:
    """The devices to train on."""

    device: Device
    n_gpus: int
    precision: str
    flops: float
    """Peak FLOP/s of one device in this precision."""
    mfu: float
    """Fraction of `flops` that training reaches (PaLM, appendix B)."""
    mfu_source: str
    price: float | None = None
    """Price per device and hour."""


@dataclass(frozen=True, slots=True)
class Text:
    """Tokens of the train split, samples per epoch and bytes on disk; None if no data is prepared."""

    vocab_size: int
    n_tokens: int | None = None
    n_samples: int | None = None
    n_bytes: int | None = None


def plan(
    recipe: Recipe,
    *,
    data: Path | None = None,
    gpu: str | None = None,
    n_gpus: int | None = None,
    price: float | None = None,
    mfu: float | None = None,
    tokens: float | None = None,
    measure: bool = False,
) -> dict[str, Any]:
    """Return memory, time, disk and cost of a run in one record.

    `gpu` is a name of core/hardware.yaml, by default this machine's; `price` is per GPU and hour.

    Raises:
        UsageError: a device, number or recipe that cannot be planned.
        DataError: `data` is not a prepared folder.
        EnvironmentFault: the measured steps do not fit into memory.
    """
    here = gpu is None
    device = _this_device() if gpu is None else get_device(gpu)
    n_gpus = n_gpus or (max(1, torch.cuda.device_count()) if here else 1)
    _check_request(recipe, device, n_gpus)
    if measure and not here:
        hint = "remove --gpu, and run the command on the machine to measure"
        raise UsageError("--measure measures this machine; it cannot be used with --gpu", where="--gpu", hint=hint)
    text, task = _open_text(recipe, data)
    with torch.device("meta"):
        network = task.build_model()
    if here:
        precision = choose_precision(recipe.train.precision, pick_device())[0]
        flops = peak_flops(precision, pick_device())
    else:
        precision = device.precision if recipe.train.precision == "auto" else recipe.train.precision
        flops = device.flops[precision]
    cost = measure_model_cost(network, recipe, task, bf16=precision == "bf16", on_cpu=device.is_cpu)
    known = default_mfu(device.kind)
    share, source = (known.share / cost.passes, known.source) if mfu is None else (mfu, "given by --mfu")
    machine = Machine(device, n_gpus, precision, flops, share, source, price)
    measured = {}
    if measure:
        seen = measure_steps(recipe, task, precision)
        measured = {"measured": compare(cost, machine, seen)}
        share = cost.tokens_per_step * cost.flops_per_token / flops / seen["seconds_per_step"]
        machine = replace(machine, mfu=share, mfu_source="measured here")
    engines = [engine for engine in ("ddp", *RESHARDS) if refuse_engine(engine, network, recipe.optim) is None]
    width = cast(Any, network.config).hidden_size
    model = {"family": recipe.model.family, "width": width, "vocab_size": text.vocab_size, **asdict(cost)}
    return {"model": model, **measured, **estimate(recipe, cost, machine, engines, text, tokens)}


def _check_request(recipe: Recipe, device: Device, n_gpus: int) -> None:
    if not TASKS[recipe.task].is_planned:
        hint = "plan only pretraining: fine-tuning takes minutes and checks its memory before the first step"
        raise UsageError("plan does not forecast fine-tuning", where="task", hint=hint)
    if n_gpus > 1 and device.is_cpu:
        hint = "leave --gpus out, or name a GPU with --gpu"
        raise UsageError(f"{device.title} is a CPU; plan supports only one CPU", where="--gpus", hint=hint)
    batch, precision = recipe.train.global_batch_size, recipe.train.precision
    if batch % n_gpus:
        hint = "choose a number of GPUs that divides train.global_batch_size, or change the latter"
        raise UsageError(f"global_batch_size {batch} is not a multiple of {n_gpus} GPUs", where="--gpus", hint=hint)
    if device.flops and precision not in ("auto", *device.flops):
        hint = "set train.precision to auto or fp32"
        raise UsageError(f"{device.title} has no {precision}", where="train.precision", hint=hint)


def _this_device() -> Device:
    device, facts = pick_device(), describe_machine()
    if device.type == "cpu":
        return Device("this machine", f"{facts['cpu']}, {facts['threads']} threads", "cpu", {}, total_memory())
    title = str(describe_gpu())
    is_cuda = device.type == "cuda"
    n_bytes = torch.cuda.get_device_properties(device).total_memory if is_cuda else free_bytes(device)
    return replace(find_device(title) or Device("this machine", title, "gpu", {}, None), n_bytes=n_bytes)


def _open_text(recipe: Recipe, data: Path | None) -> tuple[Text, PlannedTask]:
    """Return the sizes of the text, and the task with its samples; without `data`, the samples are synthetic tokens."""
    kind = TASKS[recipe.task]
    if data is None:
        section = recipe.prepare.tokenizer
        size = section.vocab_size if section.path is None else len(load_tokenizer(section.path))
        return Text(size), kind.make_synthetic(recipe, Vocabulary(size))
    prepared = load_prepared(data)
    tokenizer = load_tokenizer(str(prepared.tokenizer_path))
    task = kind.open_prepared(recipe, prepared, tokenizer)
    n_tokens, n_samples = prepared.manifest["splits"]["train"]["tokens"], task.samples.samples_per_epoch
    return Text(len(tokenizer), n_tokens, n_samples, measure_folder(data)), task


def compare(cost: ModelCost, machine: Machine, seen: dict[str, Any]) -> dict[str, Any]:
    """Return the measurement, the forecast of the same steps, and the relative error of the forecast."""
    before = forecast(cost, replace(machine, n_gpus=1), "ddp", seen["micro_batch_size"])
    peak = before.memory.peak - before.memory.evaluation
    peak -= 0 if machine.device.is_cpu else before.memory.framework  # torch does not count the driver's memory
    expected = {"peak_bytes": peak, "seconds_per_step": before.seconds_per_step}
    error = {name: value / seen[name] - 1 for name, value in expected.items()}
    return {**seen, "forecast": expected, "error": error}


def estimate(
    recipe: Recipe, cost: ModelCost, machine: Machine, engines: list[str], text: Text, tokens: float | None
) -> dict[str, Any]:
    """Return engine, memory, number of steps, time, disk and cost; `engines` lists those that can train the model."""
    given = None if recipe.train.micro_batch_size == "auto" else recipe.train.micro_batch_size
    allowed: list[str] = engines if recipe.train.engine == "ddp" else [recipe.train.engine]
    options = list_options(cost, machine, allowed, given)
    asked = [option for option in options if option.n_gpus == machine.n_gpus]
    best = choose_fastest(asked)
    shown = best or min(asked, key=lambda option: option.memory.peak)
    n_steps, length = choose_length(recipe, cost, shown.seconds_per_step, tokens, text)
    n_tokens = n_steps * cost.tokens_per_step
    return {
        "machine": asdict(machine),
        "steps": n_steps,
        "length": length,
        "tokens": {
            "total": n_tokens,
            "per_step": cost.tokens_per_step,
            "per_parameter": n_tokens / cost.n_parameters,
            "chinchilla": TOKENS_PER_PARAMETER * cost.n_parameters,
            "epochs": n_tokens / text.n_tokens if text.n_tokens else None,
        },
        "flops": n_tokens * cost.flops_per_token,
        **_show(cost, machine, shown, n_steps),
        "disk": estimate_disk(cost, n_tokens, text),
        "options": [_show(cost, machine, option, n_steps) for option in options],
        "note": warn_if_short(cost, machine, best) if best else suggest(cost, machine, engines, asked, given),
    }


@dataclass(frozen=True, slots=True)
class Forecast:
    """Memory and time per step under one engine on `n_gpus` devices."""

    n_gpus: int
    engine: str
    micro_batch_size: int
    """The recipe's value, or the value that `auto` chooses; 1 if not even one sequence fits."""
    max_sequences: int | None
    """Largest micro-batch that fits; None if the memory is unknown."""
    memory: Memory
    seconds_per_step: float
    exchange_seconds: float
    """The part of `seconds_per_step` in which devices wait for each other's gradients and weights."""

    @property
    def fits(self) -> bool:
        return self.max_sequences is None or self.micro_batch_size <= self.max_sequences


def forecast(cost: ModelCost, machine: Machine, engine: str, micro_batch_size: int | None) -> Forecast:
    """Return memory and time; `micro_batch_size` None means the value that `auto` chooses."""
    device, n_gpus = machine.device, machine.n_gpus
    bf16, framework = machine.precision == "bf16", framework_bytes(device.kind)

    def memory(size: int) -> Memory:
        return estimate_memory(cost, engine, n_gpus, size, bf16=bf16, framework=framework)

    share = cost.global_batch_size // n_gpus
    most = None
    if device.n_bytes is not None:
        room = MAX_MEMORY_SHARE * device.n_bytes
        most = bisect_right(range(1, share + 1), room, key=lambda size: memory(size).peak)
    size = min(micro_batch_size or share, share)
    if micro_batch_size is None:
        free = None if device.is_cpu or device.n_bytes is None else device.n_bytes - framework
        budget = activation_budget(free, memory(1).state)
        size = min(share, count_sequences(budget, cost.bytes_per_token, cost.block_size))
        size = max(1, size if most is None else min(size, most))
    compute = share * cost.block_size * cost.flops_per_token / (machine.flops * machine.mfu)
    exchange = _estimate_exchange(cost, machine, engine, n_parts=-(-share // size))
    return Forecast(n_gpus, engine, size, most, memory(size), compute + exchange, exchange)


def _estimate_exchange(cost: ModelCost, machine: Machine, engine: str, n_parts: int) -> float:
    """Return the seconds per step in which devices exchange gradients and weights, in fp32 (ZeRO, section 7).

    ddp: an all-reduce moves the gradients twice. zero2: each micro-batch gathers weights and scatters gradients. fsdp2,
    zero3: each micro-batch gathers weights twice.
    """
    n_gpus, path, network = machine.n_gpus, machine.device.link or math.inf, machine.device.network
    if n_gpus > GPUS_PER_MACHINE and network:  # eight parallel rings, each with its own network card
        path = min(path, GPUS_PER_MACHINE * network)
    times = {"ddp": 2, "zero2": 2 * n_parts}.get(engine, 3 * n_parts)
    return times * FP32 * cost.n_trainable * (n_gpus - 1) / n_gpus / path


def forecast_engines(
    cost: ModelCost, machine: Machine, engines: list[str], n_gpus: int, micro_batch_size: int | None
) -> list[Forecast]:
    """Return one forecast per engine; on one device all engines are the same."""
    machine = replace(machine, n_gpus=n_gpus)
    engines = engines if n_gpus > 1 else ["ddp"]
    return [forecast(cost, machine, engine, micro_batch_size) for engine in engines]


def choose_fastest(forecasts: list[Forecast]) -> Forecast | None:
    """Return the fastest forecast that fits, the first one on ties; None if none fits."""
    return min((each for each in forecasts if each.fits), key=lambda each: each.seconds_per_step, default=None)


def list_options(cost: ModelCost, machine: Machine, engines: list[str], given: int | None) -> list[Forecast]:
    """Return each engine on `machine.n_gpus` GPUs, and the best on 1, 2, 4 and 8; `given` is the micro-batch size."""
    options: list[Forecast] = []
    for number in sorted({machine.n_gpus} if machine.device.is_cpu else {*TABLE, machine.n_gpus}):
        if cost.global_batch_size % number == 0:
            each = forecast_engines(cost, machine, engines, number, given)
            options += each if number == machine.n_gpus else [choose_fastest(each) or each[-1]]
    return options


def warn_if_short(cost: ModelCost, machine: Machine, best: Forecast) -> str | None:
    """Return a warning if micro-batches are too short for a GPU."""
    n_parts = cost.global_batch_size / (best.n_gpus * best.micro_batch_size)
    seconds = (best.seconds_per_step - best.exchange_seconds) / n_parts
    if machine.device.is_cpu or seconds >= MIN_GPU_SECONDS:
        return None
    return f"a micro-batch of {1000 * seconds:.2g} ms cannot keep the GPU busy: expect slower training"


def suggest(cost: ModelCost, machine: Machine, engines: list[str], asked: list[Forecast], given: int | None) -> str:
    """Return a hint with options that fit, if none of `asked` fits."""
    ways = []
    if largest := max(option.max_sequences or 0 for option in asked):
        ways.append(f"train.micro_batch_size {largest} (global_batch_size is unchanged)")
    found, number = None, machine.n_gpus
    while found is None and cost.global_batch_size % number == 0:
        found = choose_fastest(forecast_engines(cost, machine, engines, number, given))
        number *= 2
    if found and (found.n_gpus, found.engine) not in [(option.n_gpus, option.engine) for option in asked]:
        ways.append(f"--gpus {found.n_gpus} with --engine {found.engine}")
    ways.append("a smaller train.block_size, a smaller model or a GPU with more memory")
    least, have = min(asked, key=lambda option: option.memory.peak), show_size(machine.device.n_bytes or 0)
    need = f"a micro-batch of {least.micro_batch_size:,} needs {show_size(least.memory.peak)} on each device of {have}"
    return f"the run does not fit: {need}. Options: {'; '.join(ways)}"


def choose_length(recipe: Recipe, cost: ModelCost, seconds: float, tokens: float | None, text: Text) -> tuple[int, str]:
    """Return the number of optimizer steps and the setting that determines it; `seconds` is the time per step."""
    train = recipe.train
    n_steps: float
    if tokens is not None:
        n_steps, why = math.ceil(tokens / cost.tokens_per_step), "--tokens"
    elif train.max_steps is not None:
        n_steps, why = train.max_steps, "train.max_steps"
    elif train.max_minutes is not None:
        n_steps, why = 60 * train.max_minutes / seconds, f"train.max_minutes {train.max_minutes:g} at this speed"
    elif train.epochs is not None and text.n_samples:
        n_steps = math.ceil(train.epochs * text.n_samples / cost.global_batch_size)
        why = f"train.epochs {train.epochs:g}"
    else:
        why = "the recipe gives no length" if train.epochs is None else "train.epochs needs --data"
        n_tokens = TOKENS_PER_PARAMETER * cost.n_parameters
        why = f"{TOKENS_PER_PARAMETER} tokens per parameter, as {why}"
        if text.n_tokens and n_tokens > MAX_EPOCHS * text.n_tokens:
            n_tokens, why = MAX_EPOCHS * text.n_tokens, f"{MAX_EPOCHS} epochs, as the recipe gives no length"
        n_steps = n_tokens // cost.tokens_per_step
    return max(1, int(n_steps)), why


def _show(cost: ModelCost, machine: Machine, option: Forecast, n_steps: int) -> dict[str, Any]:
    """Return one option with its time and price; hours exclude evaluation and saving."""
    hours = n_steps * option.seconds_per_step / 3600
    gpu_hours = hours * option.n_gpus
    return asdict(option) | {
        "fits": option.fits,
        "peak_bytes": option.memory.peak,
        "tokens_per_second": cost.tokens_per_step / option.seconds_per_step,
        "hours": hours,
        "gpu_hours": gpu_hours,
        "cost": None if machine.price is None else gpu_hours * machine.price,
    }


def estimate_disk(cost: ModelCost, n_tokens: int, text: Text) -> dict[str, int]:
    """Return the bytes of the prepared token ids, of checkpoints with optimizer states, and of the model alone."""
    data = n_tokens * (2 if text.vocab_size <= 1 << 16 else 4) if text.n_bytes is None else text.n_bytes
    model = FP32 * cost.n_parameters
    checkpoint = model + cost.moment_bytes
    total = data + MAX_CHECKPOINTS * checkpoint + model
    return {"total": total, "data": data, "checkpoint": checkpoint, "n_checkpoints": MAX_CHECKPOINTS, "model": model}
