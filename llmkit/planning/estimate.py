"""Compute the figures of a plan from the cost of a model and the speed of a machine (training/forecast.py)."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from llmkit.config.recipe import Recipe
from llmkit.runs.plan import MAX_EPOCHS, TOKENS_PER_WEIGHT
from llmkit.runs.train import MAX_CHECKPOINTS
from llmkit.training.forecast import Forecast, Machine, ModelCost, choose_engine, forecast

TABLE = tuple(2**power for power in range(11))
"""1 to 1,024 devices."""
SHORT_SECONDS = 0.01
"""A micro-batch below this cannot keep a GPU busy: a step is hundreds of kernels, each started from Python."""


@dataclass(frozen=True, slots=True)
class Text:
    """What there is to train on."""

    vocab_size: int
    n_tokens: int | None
    """Of the train split; None where nothing is prepared yet."""
    n_samples: int | None
    """Of an epoch."""
    n_bytes: int | None
    """On the disk."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the user wants to know."""

    n_gpus: int
    engines: list[str]
    """That can train the model."""
    price: float | None
    """Of a device, for an hour."""
    tokens: float | None
    """To train on, where not as the recipe says."""

    def names(self, recipe: Recipe, n_gpus: int) -> list[str]:
        """The engines to choose from: the one that the recipe asks for, else all; one device needs none."""
        engine = recipe.train.engine
        return ["ddp"] if n_gpus == 1 else [engine] if engine != "ddp" else self.engines


def estimate(recipe: Recipe, work: ModelCost, machine: Machine, asked: Asked, text: Text) -> dict[str, Any]:
    """Engine, memory, length, time, disk and cost, and a table over 1 to 1,024 devices; what the user should know is in
    `notes`."""
    given = _given(recipe)
    each = [forecast(work, name, asked.n_gpus, machine, given) for name in asked.names(recipe, asked.n_gpus)]
    best = choose_engine(each)
    shown = best or each[-1]
    n_steps, why = _choose_length(recipe, work, shown.seconds, asked.tokens, text)
    n_tokens = n_steps * work.tokens_per_step
    chinchilla = TOKENS_PER_WEIGHT * work.n_weights
    return {
        "engines": [_show_engine(one) for one in each],
        "engine": best.engine if best else None,
        "memory": asdict(shown.memory) | {"peak": shown.memory.peak},
        "micro_batch_size": shown.micro_batch_size,
        "tokens": {
            "total": n_tokens,
            "a_step": work.tokens_per_step,
            "per_parameter": n_tokens / work.n_weights,
            "chinchilla": chinchilla,
            "chinchilla_per_parameter": TOKENS_PER_WEIGHT,
            "epochs": n_tokens / text.n_tokens if text.n_tokens else None,
        },
        "steps": n_steps,
        "length": why,
        "flops": {"a_token": work.flops_per_token, "total": n_tokens * work.flops_per_token},
        "time": _show_time(work, shown, n_steps, asked.price) if best else None,
        "disk": _show_disk(work, n_tokens, text),
        "table": [_show_row(recipe, work, machine, number, asked, n_steps) for number in TABLE if not machine.is_cpu],
        "notes": _note(recipe, work, machine, best, each, asked),
    }


def _choose_length(
    recipe: Recipe, work: ModelCost, seconds: float, tokens: float | None, text: Text
) -> tuple[int, str]:
    """Optimizer steps, and what they follow from."""
    train, a_step = recipe.train, work.tokens_per_step
    if tokens is not None:
        return max(1, math.ceil(tokens / a_step)), "--tokens"
    if train.max_steps is not None:
        return train.max_steps, "train.max_steps"
    if train.max_minutes is not None:
        return max(1, int(60 * train.max_minutes / seconds)), f"train.max_minutes {train.max_minutes:g} at this speed"
    if train.epochs is not None and text.n_samples:
        n_steps = math.ceil(train.epochs * text.n_samples / work.global_batch_size)
        return max(1, n_steps), f"train.epochs {train.epochs:g}"
    best = TOKENS_PER_WEIGHT * work.n_weights
    if text.n_tokens and best > MAX_EPOCHS * text.n_tokens:
        return max(1, MAX_EPOCHS * text.n_tokens // a_step), f"{MAX_EPOCHS} epochs, as the recipe gives no length"
    why = "as the recipe gives no length" if train.epochs is None else "as the number of epochs needs --data"
    return max(1, best // a_step), f"{TOKENS_PER_WEIGHT} tokens per weight, {why}"


def _show_engine(one: Forecast) -> dict[str, Any]:
    return {
        "engine": one.engine,
        "fits": one.fits,
        "micro_batch_size": one.micro_batch_size,
        "max_sequences": one.max_sequences,
        "peak_bytes": one.memory.peak,
        "seconds_per_step": one.seconds,
        "exchange_seconds": one.exchange_seconds,
    }


def _show_time(work: ModelCost, one: Forecast, n_steps: int, price: float | None) -> dict[str, Any]:
    hours = n_steps * one.seconds / 3600
    return {
        "seconds_per_step": one.seconds,
        "exchange_seconds": one.exchange_seconds,
        "tokens_per_second": work.tokens_per_step / one.seconds,
        "hours": hours,
        "gpu_hours": hours * one.n_devices,
        "cost": None if price is None else hours * one.n_devices * price,
    }


def _show_row(
    recipe: Recipe, work: ModelCost, machine: Machine, number: int, asked: Asked, n_steps: int
) -> dict[str, Any]:
    """A line of the table: the best engine on so many devices."""
    if number > work.global_batch_size or work.global_batch_size % number:
        why = f"and more: the global batch of {work.global_batch_size} sequences cannot be divided by this number"
        return {"n_gpus": number, "engine": None, "why": why, "final": True}
    given = _given(recipe)
    best = choose_engine([forecast(work, name, number, machine, given) for name in asked.names(recipe, number)])
    if best is None:
        return {"n_gpus": number, "engine": None, "why": "does not fit into memory", "final": False}
    return {
        "n_gpus": number,
        "engine": best.engine,
        "micro_batch_size": best.micro_batch_size,
        "peak_bytes": best.memory.peak,
        "efficiency": best.compute_seconds / best.seconds,
        **_show_time(work, best, n_steps, asked.price),
    }


def _show_disk(work: ModelCost, n_tokens: int, text: Text) -> dict[str, Any]:
    """Token ids as prepare stores them (two bytes, four from 65,537 ids on), checkpoints with their moments, and the
    model without."""
    a_token = 2 if text.vocab_size <= 1 << 16 else 4
    a_checkpoint = 4 * work.n_weights + work.moment_bytes
    sizes = {
        "data": n_tokens * a_token if text.n_bytes is None else text.n_bytes,
        "checkpoints": MAX_CHECKPOINTS * a_checkpoint,
        "model": 4 * work.n_weights,
    }
    return sizes | {"a_checkpoint": a_checkpoint, "n_checkpoints": MAX_CHECKPOINTS, "total": sum(sizes.values())}


def _given(recipe: Recipe) -> int | None:
    """The recipe's micro-batch; None where it is `auto`."""
    return None if recipe.train.micro_batch_size == "auto" else recipe.train.micro_batch_size


def _note(
    recipe: Recipe, work: ModelCost, machine: Machine, best: Forecast | None, each: list[Forecast], asked: Asked
) -> list[str]:
    """What the user should know, and the way out where nothing fits."""
    if best is None:
        return [_say_what_would_fit(recipe, work, machine, each, asked)]
    notes = []
    n_parts = -(-work.global_batch_size // asked.n_gpus // best.micro_batch_size)
    if not machine.is_cpu and best.compute_seconds / n_parts < SHORT_SECONDS:
        short = f"{1000 * best.compute_seconds / n_parts:.2g} ms"
        notes.append(f"a micro-batch of {short} is shorter than the time to launch its kernels: expect slower training")
    if best.engine != recipe.train.engine and asked.n_gpus > 1:
        notes.append(f"train.engine is {recipe.train.engine}: use --engine {best.engine}")
    return notes


def _say_what_would_fit(recipe: Recipe, work: ModelCost, machine: Machine, each: list[Forecast], asked: Asked) -> str:
    least = min(each, key=lambda one: one.memory.peak)
    given, have = _given(recipe), (machine.n_bytes or 0) / 1e9
    ways = []
    if given is not None and (most := max(one.max_sequences or 0 for one in each)):
        ways.append(f"train.micro_batch_size {most} (the global batch stays)")
    others = [name for name in asked.engines if name not in asked.names(recipe, asked.n_gpus)]
    if asked.n_gpus > 1 and others:
        found = choose_engine([forecast(work, name, asked.n_gpus, machine, given) for name in others])
        ways += [f"--engine {found.engine}"] if found else []
    for number in TABLE:
        if number > asked.n_gpus and number <= work.global_batch_size and work.global_batch_size % number == 0:
            names = asked.names(recipe, number)
            found = choose_engine([forecast(work, name, number, machine, given) for name in names])
            if found is not None:
                ways.append(f"{number:,} GPUs with {found.engine}")
                break
    if (least.memory.activations + least.memory.logits) > least.memory.state / 2:
        ways.append("a smaller train.block_size")
    ways.append("a GPU with more memory, or a smaller model")
    many = f"{least.micro_batch_size:,} sequences" if least.micro_batch_size > 1 else "one sequence"
    need = least.memory.peak / 1e9
    return f"it does not fit: {need:,.1f} GB of {have:,.1f} GB with {many} per micro-batch. Options: {'; '.join(ways)}"
