"""What a run will take, before anything runs: memory, time, disk and money, on one device or a thousand.

The model is built as a shadow, without weights; everything else is arithmetic (training/forecast.py). `measure` tries
real steps on this machine and puts what it saw in place of what was assumed.
"""

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from transformers import PreTrainedModel

from llmkit.config.recipe import Recipe
from llmkit.errors import UsageError
from llmkit.models.loading import pick_device
from llmkit.pipelines.made_up import MadeUpTask, Vocabulary
from llmkit.pipelines.measure import Measured, measure_steps
from llmkit.pipelines.pretrain import TASKS
from llmkit.pipelines.run_plan import MOST_EPOCHS, TOKENS_A_WEIGHT
from llmkit.pipelines.training_run import CHECKPOINTS_AT_ONCE
from llmkit.pipelines.workload import describe_workload
from llmkit.runs.disk import measure_folder
from llmkit.runs.hardware import Device, default_mfu, find_device, framework_bytes, get_device
from llmkit.runs.machine import describe_machine
from llmkit.tokens.prepared import load_prepared
from llmkit.tokens.tokenizer import load_tokenizer
from llmkit.training.forecast import ENGINES, Forecast, Machine, Workload, choose_engine, forecast
from llmkit.training.speed import choose_precision, peak_flops

TABLE = tuple(2**power for power in range(11))
"""1 to 1,024 devices."""
SHORT_SECONDS = 0.01
"""A micro-batch below this cannot keep a GPU busy: a step is hundreds of kernels, each started from Python."""
HEAP = (
    "on a CPU, where the system finds room for freed memory is a matter of chance: "
    "peaks of the same small run were seen up to two fifths apart"
)


@dataclass(frozen=True, slots=True)
class Text:
    """What there is to train on."""

    vocab_size: int
    n_tokens: int | None
    """Of the train split; None where nothing is prepared yet."""
    n_bytes: int | None
    """On the disk."""


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
    """Everything as one record. `gpu` is a name of runs/hardware.yaml, by default what this machine has; `price` is
    for an hour of one; `tokens` beats the recipe's length.

    Raises:
        UsageError: a device, number or recipe that cannot be planned.
        DataError: `data` is not a prepared folder.
        EnvironmentFault: the measured steps came to no end.
    """
    _check_request(recipe, gpu, n_gpus, measure)
    text, task = _open(recipe, data)
    with torch.device("meta"):
        network = task.build_model()
    device = _this_device() if gpu is None else get_device(gpu)
    n_gpus = n_gpus or (max(1, torch.cuda.device_count()) if gpu is None else 1)
    if recipe.train.global_batch_size % n_gpus:
        what = f"global_batch_size {recipe.train.global_batch_size} is not a multiple of {n_gpus} GPUs"
        raise UsageError(what, where="--gpus", hint="take a number that divides it, or change train.global_batch_size")
    precision = _choose_precision(recipe, device, here=gpu is None)
    work = describe_workload(
        network, recipe, output_share=task.output_share, bf16=precision == "bf16",
        on_cpu=device.kind == "cpu",
    )  # fmt: skip
    machine, source = _describe(device, precision, mfu, here=gpu is None)
    result: dict[str, Any] = {"device": _show_device(device, machine, precision, n_gpus)}
    if measure:
        seen = measure_steps(recipe, precision, text.vocab_size, data)
        result["measured"], machine = _compare(work, machine, recipe, seen)
        source = "measured here"
    result["mfu"] = {"share": machine.mfu, "source": source}
    result |= _reckon(recipe, work, machine, n_gpus, price, tokens, text)
    if measure and machine.is_cpu:
        result["notes"].append(HEAP)
    return {"model": _show_model(recipe, network, work, text), **result}


def _check_request(recipe: Recipe, gpu: str | None, n_gpus: int | None, measure: bool) -> None:
    if recipe.task is not None:
        hint = "plan the pretraining; fine-tuning takes minutes, and tries its memory before the first step"
        raise UsageError("fine-tuning is not planned", where="task", hint=hint)
    if n_gpus is not None and n_gpus < 1:
        raise UsageError(f"{n_gpus} GPUs train nothing", where="--gpus", hint="give 1 or more")
    if measure and gpu is not None:
        hint = "leave --gpu out, on the machine that you want to know of"
        raise UsageError("--measure is for the machine it runs on", where="--gpu", hint=hint)


def _open(recipe: Recipe, data: Path | None) -> tuple[Text, Any]:
    """What is known of the text, and the task on it: the prepared folder's, or one on made-up tokens."""
    if data is None:
        section = recipe.prepare.tokenizer
        size = section.vocab_size if section.path is None else len(load_tokenizer(section.path))
        return Text(size, None, None), MadeUpTask(recipe, Vocabulary(size))
    prepared = load_prepared(data)
    tokenizer = load_tokenizer(str(prepared.tokenizer_path))
    n_tokens = prepared.manifest["splits"]["train"]["tokens"]
    text = Text(len(tokenizer), n_tokens, measure_folder(data))
    return text, TASKS[recipe.objective](recipe, prepared, tokenizer)


# ---- the machine ----


def _this_device() -> Device:
    device = pick_device()
    facts = describe_machine()
    if device.type == "cuda":
        title = torch.cuda.get_device_name(device)
        n_bytes = torch.cuda.get_device_properties(device).total_memory
        known = find_device(title)
        if known is not None:
            return replace(known, n_bytes=n_bytes)
        return Device("this machine", title, "gpu", {}, n_bytes, None)
    memory = int(facts["memory_gb"] * 2**30) if facts["memory_gb"] else None
    return Device("this machine", f"{facts['cpu']}, {torch.get_num_threads()} threads", "cpu", {}, memory, None)


def _choose_precision(recipe: Recipe, device: Device, *, here: bool) -> str:
    wanted = recipe.train.precision
    if here:
        return choose_precision(wanted, pick_device())[0]
    if wanted == "bf16" and "bf16" not in device.flops:
        hint = "set train.precision to auto or fp32"
        raise UsageError(f"{device.title} has no bf16", where="train.precision", hint=hint)
    return device.precision if wanted == "auto" else wanted


def _describe(device: Device, precision: str, mfu: float | None, *, here: bool) -> tuple[Machine, str]:
    """The device as a forecast sees it, and where its MFU is from."""
    flops = peak_flops(precision, pick_device()) if here else device.flops[precision]
    known = default_mfu(device.kind)
    share, source = (known.share, known.source) if mfu is None else (mfu, "as --mfu says")
    return Machine(
        flops, share, device.kind == "cpu", device.n_bytes, device.link, device.network,
        framework_bytes(device.kind), precision == "bf16",
    ), source  # fmt: skip


def _compare(work: Workload, machine: Machine, recipe: Recipe, seen: Measured) -> tuple[dict[str, Any], Machine]:
    """How far the forecast was off, and the machine as it was seen."""
    size = seen.micro_batch_size
    before = forecast(work, "ddp", 1, machine, size)
    n_parts = -(-work.global_batch_size // size)
    seconds = n_parts * seen.seconds_a_micro_batch + seen.seconds_an_optimizer_step
    share = work.tokens_a_step * work.flops_a_token / (machine.flops * seconds)
    peak = before.memory.peak - before.memory.evaluation  # which is not tried
    peak -= 0 if machine.is_cpu else machine.framework  # torch does not count the driver's part
    shown = asdict(seen) | {
        "seconds_a_step": seconds,
        "forecast": {"peak_bytes": peak, "seconds_a_step": before.seconds},
        "off": {"peak_bytes": peak / seen.peak_bytes - 1, "seconds_a_step": before.seconds / seconds - 1},
    }
    return shown, replace(machine, mfu=share, framework=machine.framework + seen.peak_bytes - peak)


# ---- the reckoning ----


def _reckon(
    recipe: Recipe, work: Workload, machine: Machine, n_gpus: int, price: float | None, tokens: float | None, text: Text
) -> dict[str, Any]:
    given = None if recipe.train.micro_batch_size == "auto" else recipe.train.micro_batch_size
    names = ["ddp"] if n_gpus == 1 else list(ENGINES)
    each = [forecast(work, name, n_gpus, machine, given) for name in names]
    best = choose_engine(each)
    shown = best or each[-1]
    n_steps, why = _choose_length(recipe, work, shown.seconds, tokens, text)
    n_tokens = n_steps * work.tokens_a_step
    chinchilla = TOKENS_A_WEIGHT * work.n_weights
    return {
        "engines": [_show_engine(one) for one in each],
        "engine": best.engine if best else None,
        "memory": asdict(shown.memory) | {"peak": shown.memory.peak},
        "micro_batch_size": shown.micro_batch_size,
        "tokens": {
            "total": n_tokens,
            "a_step": work.tokens_a_step,
            "a_parameter": n_tokens / work.n_weights,
            "chinchilla": chinchilla,
            "chinchilla_a_parameter": TOKENS_A_WEIGHT,
            "epochs": n_tokens / text.n_tokens if text.n_tokens else None,
        },
        "steps": n_steps,
        "length": why,
        "flops": {"a_token": work.flops_a_token, "total": n_tokens * work.flops_a_token},
        "time": _show_time(work, shown, n_steps, price) if best else None,
        "disk": _show_disk(work, n_tokens, text),
        "table": [_show_row(work, machine, number, given, n_steps, price) for number in TABLE if not machine.is_cpu],
        "notes": _note(work, machine, best, each, given, n_gpus),
    }


def _choose_length(recipe: Recipe, work: Workload, seconds: float, tokens: float | None, text: Text) -> tuple[int, str]:
    """Optimizer steps, and what they follow from."""
    train, a_step = recipe.train, work.tokens_a_step
    if tokens is not None:
        return max(1, math.ceil(tokens / a_step)), "--tokens"
    if train.max_steps is not None:
        return train.max_steps, "train.max_steps"
    if train.max_minutes is not None:
        return max(1, int(60 * train.max_minutes / seconds)), f"train.max_minutes {train.max_minutes:g} at this speed"
    if train.epochs is not None and text.n_tokens:
        return max(1, math.ceil(train.epochs * text.n_tokens / a_step)), f"train.epochs {train.epochs:g}"
    best = TOKENS_A_WEIGHT * work.n_weights
    if text.n_tokens and best > MOST_EPOCHS * text.n_tokens:
        return max(1, MOST_EPOCHS * text.n_tokens // a_step), f"{MOST_EPOCHS} epochs, as the recipe gives no length"
    why = "as the recipe gives no length" if train.epochs is None else "as epochs of what is not known without --data"
    return max(1, best // a_step), f"{TOKENS_A_WEIGHT} tokens a weight, {why}"


def _show_engine(one: Forecast) -> dict[str, Any]:
    return {
        "engine": one.engine,
        "fits": one.fits,
        "micro_batch_size": one.micro_batch_size,
        "most_sequences": one.most_sequences,
        "peak_bytes": one.memory.peak,
        "seconds_a_step": one.seconds,
        "exchange_seconds": one.exchange_seconds,
    }


def _show_time(work: Workload, one: Forecast, n_steps: int, price: float | None) -> dict[str, Any]:
    hours = n_steps * one.seconds / 3600
    return {
        "seconds_a_step": one.seconds,
        "exchange_seconds": one.exchange_seconds,
        "tokens_per_second": work.tokens_a_step / one.seconds,
        "hours": hours,
        "gpu_hours": hours * one.n_devices,
        "cost": None if price is None else hours * one.n_devices * price,
    }


def _show_row(
    work: Workload, machine: Machine, number: int, given: int | None, n_steps: int, price: float | None
) -> dict[str, Any]:
    """A line of the table: the best engine on so many devices."""
    if number > work.global_batch_size or work.global_batch_size % number:
        why = f"and more: the global batch of {work.global_batch_size} sequences cannot be shared by so many"
        return {"n_gpus": number, "engine": None, "why": why, "final": True}
    names = ["ddp"] if number == 1 else list(ENGINES)
    best = choose_engine([forecast(work, name, number, machine, given) for name in names])
    if best is None:
        return {"n_gpus": number, "engine": None, "why": "does not fit into memory", "final": False}
    return {
        "n_gpus": number,
        "engine": best.engine,
        "micro_batch_size": best.micro_batch_size,
        "peak_bytes": best.memory.peak,
        "efficiency": best.compute_seconds / best.seconds,
        **_show_time(work, best, n_steps, price),
    }


def _show_disk(work: Workload, n_tokens: int, text: Text) -> dict[str, Any]:
    """Token ids as prepare stores them (two bytes, four from 65,537 ids on), checkpoints with their moments, and the
    model without."""
    a_token = 2 if text.vocab_size <= 1 << 16 else 4
    a_checkpoint = 4 * work.n_weights + work.moment_bytes
    sizes = {
        "data": n_tokens * a_token if text.n_bytes is None else text.n_bytes,
        "checkpoints": CHECKPOINTS_AT_ONCE * a_checkpoint,
        "model": 4 * work.n_weights,
    }
    return sizes | {"a_checkpoint": a_checkpoint, "n_checkpoints": CHECKPOINTS_AT_ONCE, "total": sum(sizes.values())}


def _note(
    work: Workload, machine: Machine, best: Forecast | None, each: list[Forecast], given: int | None, n_gpus: int
) -> list[str]:
    """What the user should know, and the way out where nothing fits."""
    if best is not None:
        n_parts = -(-work.global_batch_size // n_gpus // best.micro_batch_size)
        if not machine.is_cpu and best.compute_seconds / n_parts < SHORT_SECONDS:
            short = f"{1000 * best.compute_seconds / n_parts:.2g} ms"
            return [f"a micro-batch of {short} is shorter than starting its kernels takes: it will be slower than this"]
        return []
    least = each[-1].memory
    need, have = least.peak / 1e9, (machine.n_bytes or 0) / 1e9
    ways = []
    if given is not None and any(one.most_sequences for one in each):
        most = max(one.most_sequences or 0 for one in each)
        ways.append(f"train.micro_batch_size {most} (the global batch stays)")
    for number in TABLE:
        if number > n_gpus and number <= work.global_batch_size and work.global_batch_size % number == 0:
            found = choose_engine([forecast(work, name, number, machine, given) for name in ENGINES])
            if found is not None:
                ways.append(f"{number:,} GPUs with {found.engine}")
                break
    if (least.activations + least.logits) > least.state / 2:
        ways.append("a smaller train.block_size")
    ways.append("a GPU with more memory, or a smaller model")
    return [
        f"it does not fit: {need:,.1f} GB of {have:,.1f} GB with one sequence at a time. What would: {'; '.join(ways)}"
    ]


# ---- what is shown ----


def _show_model(recipe: Recipe, network: PreTrainedModel, work: Workload, text: Text) -> dict[str, Any]:
    return {
        "family": recipe.model.family,
        "n_parameters": work.n_weights,
        "n_layers": work.n_layers,
        "width": cast(Any, network.config).hidden_size,
        "vocab_size": text.vocab_size,
        "block_size": work.block_size,
        "global_batch_size": work.global_batch_size,
    }


def _show_device(device: Device, machine: Machine, precision: str, n_gpus: int) -> dict[str, Any]:
    return {
        "name": device.name,
        "title": device.title,
        "kind": device.kind,
        "n": n_gpus,
        "n_bytes": device.n_bytes,
        "precision": precision,
        "flops": machine.flops,
    }
