"""Forecast a run before it starts: memory, time, disk and cost, on one device or many.

The model is built on the meta device, without weights; everything else is arithmetic (training/forecast.py).
`--measure` trains a few steps on this machine and corrects the forecast by them.
"""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import torch
from transformers import PreTrainedModel

from llmkit.config.recipe import Recipe
from llmkit.core.devices import free_bytes, pick_device
from llmkit.core.errors import UsageError
from llmkit.core.files import measure_folder
from llmkit.core.hardware import Device, default_mfu, find_device, framework_bytes, get_device
from llmkit.core.machine import describe_machine
from llmkit.planning.estimate import Asked, Text, estimate
from llmkit.planning.measure import Measured, measure_steps
from llmkit.runs.model_cost import measure_model_cost
from llmkit.tasks.base import PlannedTask
from llmkit.tasks.synthetic import Vocabulary
from llmkit.tasks.table import TASKS
from llmkit.tokens.prepared import load_prepared
from llmkit.tokens.tokenizer import load_tokenizer
from llmkit.training.engines import refuse_engine
from llmkit.training.forecast import ENGINES, Machine, ModelCost, forecast, measure_on
from llmkit.training.speed import choose_precision, peak_flops


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
    """Everything as one record. `gpu` is a name of core/hardware.yaml, by default what this machine has; `price` is
    for an hour of one; `tokens` beats the recipe's length.

    Raises:
        UsageError: a device, number or recipe that cannot be planned.
        DataError: `data` is not a prepared folder.
        EnvironmentFault: the measured steps did not finish.
    """
    _check_request(recipe, gpu, n_gpus, measure)
    text, task = _open(recipe, data)
    with torch.device("meta"):
        network = task.build_model()
    device = _this_device() if gpu is None else get_device(gpu)
    n_gpus = n_gpus or (max(1, torch.cuda.device_count()) if gpu is None else 1)
    if n_gpus > 1 and device.is_cpu:
        hint = "leave --gpus out, or name a GPU with --gpu"
        raise UsageError(f"{device.title} is a CPU, and only one is planned", where="--gpus", hint=hint)
    if recipe.train.global_batch_size % n_gpus:
        what = f"global_batch_size {recipe.train.global_batch_size} is not a multiple of {n_gpus} GPUs"
        raise UsageError(what, where="--gpus", hint="take a number that divides it, or change train.global_batch_size")
    precision = _choose_precision(recipe, device, here=gpu is None)
    work = measure_model_cost(network, recipe, task, bf16=precision == "bf16", on_cpu=device.is_cpu)
    machine, source = _describe(device, precision, mfu and mfu * work.passes, here=gpu is None)
    result: dict[str, Any] = {"device": _show_device(device, machine, precision, n_gpus)}
    if measure:
        seen = measure_steps(recipe, precision, text.vocab_size, data)
        result["measured"], machine = _compare(work, machine, recipe, seen)
        source = "measured here"
    result["mfu"] = {"share": machine.hfu / work.passes, "source": source}
    engines = [engine for engine in ENGINES if refuse_engine(engine, network, recipe.optim) is None]
    result |= estimate(recipe, work, machine, Asked(n_gpus, engines, price, tokens), text)
    return {"model": _show_model(recipe, network, work, text), **result}


def _check_request(recipe: Recipe, gpu: str | None, n_gpus: int | None, measure: bool) -> None:
    if not TASKS[recipe.task].is_planned:
        hint = "plan the pretraining; fine-tuning takes minutes, and tries its memory before the first step"
        raise UsageError("fine-tuning is not planned", where="task", hint=hint)
    if n_gpus is not None and n_gpus < 1:
        raise UsageError(f"{n_gpus} GPUs train nothing", where="--gpus", hint="give 1 or more")
    if measure and gpu is not None:
        hint = "leave --gpu out, on the machine that you want to know of"
        raise UsageError("--measure is for the machine it runs on", where="--gpu", hint=hint)


def _open(recipe: Recipe, data: Path | None) -> tuple[Text, PlannedTask]:
    """What is known about the text, and the task: on the prepared folder, or on synthetic tokens."""
    kind = TASKS[recipe.task]
    if data is None:
        section = recipe.prepare.tokenizer
        size = section.vocab_size if section.path is None else len(load_tokenizer(section.path))
        return Text(size, None, None, None), kind.make_synthetic(recipe, Vocabulary(size))
    prepared = load_prepared(data)
    tokenizer = load_tokenizer(str(prepared.tokenizer_path))
    n_tokens = prepared.manifest["splits"]["train"]["tokens"]
    task = kind.open_prepared(recipe, prepared, tokenizer)
    return Text(len(tokenizer), n_tokens, task.samples.samples_per_epoch, measure_folder(data)), task


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
    if device.type == "mps":
        return Device("this machine", str(facts["accelerator"]), "gpu", {}, free_bytes(device), None)
    memory = int(facts["memory_gb"] * 2**30) if facts["memory_gb"] else None
    return Device("this machine", f"{facts['cpu']}, {torch.get_num_threads()} threads", "cpu", {}, memory, None)


def _choose_precision(recipe: Recipe, device: Device, *, here: bool) -> str:
    wanted = recipe.train.precision
    if here:
        return choose_precision(wanted, pick_device())[0]
    if wanted != "auto" and wanted not in device.flops:
        hint = "set train.precision to auto or fp32"
        raise UsageError(f"{device.title} has no {wanted}", where="train.precision", hint=hint)
    return device.precision if wanted == "auto" else wanted


def _describe(device: Device, precision: str, mfu: float | None, *, here: bool) -> tuple[Machine, str]:
    """The device as a forecast sees it, and where its MFU is from."""
    flops = peak_flops(precision, pick_device()) if here else device.flops[precision]
    known = default_mfu(device.kind)
    share, source = (known.share, known.source) if mfu is None else (mfu, "as --mfu says")
    return Machine(
        flops, share, device.is_cpu, device.n_bytes, device.link, device.network,
        framework_bytes(device.kind), precision == "bf16",
    ), source  # fmt: skip


def _compare(work: ModelCost, machine: Machine, recipe: Recipe, seen: Measured) -> tuple[dict[str, Any], Machine]:
    """The error of the forecast, and the machine corrected by the measurement.

    Memory is compared after the warm-up steps; what later steps add counts as memory of the libraries.
    """
    size = seen.micro_batch_size
    before, parts = forecast(work, "ddp", 1, machine, size), measure_on(work, "ddp", 1, size, machine)
    n_parts = -(-work.global_batch_size // size)
    seconds = n_parts * seen.seconds_per_micro_batch + seen.seconds_per_optimizer_step
    share = work.tokens_per_step * work.flops_per_token / (machine.flops * seconds)
    unseen = parts.evaluation + (0 if machine.is_cpu else machine.framework)  # torch does not count the driver's part
    peak = parts.peak - unseen
    passing = parts.activations + parts.logits
    ratio = min(2.0, max(0.0, 1 + (seen.warm_peak_bytes - peak) / passing))  # the state is known to the byte
    rest = seen.peak_bytes - peak - round((ratio - 1) * passing)  # does not depend on the micro-batch
    shown = asdict(seen) | {
        "seconds_per_step": seconds,
        "forecast": {"peak_bytes": peak, "seconds_per_step": before.seconds},
        "off": {"peak_bytes": peak / seen.warm_peak_bytes - 1, "seconds_per_step": before.seconds / seconds - 1},
    }
    return shown, replace(
        machine, hfu=share * work.passes, activation_ratio=ratio, framework=max(0, machine.framework + rest)
    )


# ---- what is shown ----


def _show_model(recipe: Recipe, network: PreTrainedModel, work: ModelCost, text: Text) -> dict[str, Any]:
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
