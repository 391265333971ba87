"""`llmkit plan`: the command and its text output."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llmkit.cli import options
from llmkit.core import console
from llmkit.core.console import clean_line, count, show_size
from llmkit.core.errors import UsageError

UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}


def plan_command(
    recipe: options.RecipeArgument = None,
    gpu: options.Gpu = None,
    gpus: options.Gpus = None,
    price: options.Price = None,
    tokens: options.Tokens = None,
    mfu: options.Mfu = None,
    data: options.PlanData = None,
    measure: options.Measure = False,
    set_: options.Set = None,
    json: options.Json = False,
) -> None:
    """Forecast memory, time, disk and cost of a training run before it starts.

    Needs no data, no weights and no GPU.
    """
    n_tokens = None if tokens is None else read_number(tokens)
    from llmkit.cli.output import echo, show_json
    from llmkit.config.loading import load_recipe

    config = load_recipe(recipe, set_ or [])
    named = config.inputs.data
    if data is None and named is not None and (Path(named) / "manifest.json").is_file():
        console.info(f"reading the prepared folder that the recipe names in inputs.data: {named}")
        data = Path(named)
    from llmkit.planning.estimate import plan  # torch loads here, so --help stays instant

    result: dict[str, Any] = plan(
        config, data=data, gpu=gpu, n_gpus=gpus, price=price, mfu=mfu, tokens=n_tokens, measure=measure
    )
    if json:
        show_json(result)
    else:
        echo("\n".join(clean_line(line) for line in describe_plan(result)))


def read_number(text: str) -> float:
    """Parse a number such as `10B`, `300M`, `2.5e9`.

    Raises:
        UsageError: not a number from 1 to 1e18.
    """
    found = re.fullmatch(
        r"((?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9][0-9_]*)(?:\.[0-9]*)?(?:e[0-9]+)?)\s*([kmbt]?)", text.strip().lower()
    )
    value = 0.0 if found is None else float(found[1].replace(",", "").replace("_", "")) * UNITS[found[2]]
    if not 1 <= value <= 1e18:
        raise UsageError(f"{text!r} is not a number of tokens", where="--tokens", hint="such as 10B, 300M or 2500000")
    return value


def describe_plan(plan: dict[str, Any]) -> Iterator[str]:
    """Return the lines of `llmkit plan`."""
    rows = [*_describe_length(plan), ("", ""), *_describe_memory(plan), ("", ""), *_describe_time(plan)]
    yield from (f"{name:<30} {value}".rstrip() for name, value in rows)
    if len(plan["options"]) > 1:
        yield ""
        yield from _describe_options(plan)
    if plan["note"]:
        yield ""
        yield plan["note"]


def _describe_length(plan: dict[str, Any]) -> Iterator[tuple[str, str]]:
    model, tokens = plan["model"], plan["tokens"]
    shape = (
        f"{model['family']}, {count(model['n_layers'], 'layer')} of {model['width']}, {model['vocab_size']:,} tokens"
    )
    yield "model", f"{model['n_parameters']:,} parameters ({shape})"
    yield "step", f"{model['global_batch_size']:,} x {model['block_size']:,} = {tokens['per_step']:,} tokens"
    yield "length", f"{count(plan['steps'], 'step')}, {tokens['total']:,} tokens ({plan['length']})"
    if tokens["epochs"] is not None:
        yield "", f"{tokens['epochs']:,.2f} epochs of the prepared text"
    yield (
        "tokens per parameter",
        f"{tokens['per_parameter']:,.3g}; Chinchilla: about 20, {tokens['chinchilla']:,} tokens",
    )
    yield "FLOPs", f"{plan['flops']:.3g}, {model['flops_per_token']:.3g} per token, forward and backward"


def _describe_memory(plan: dict[str, Any]) -> Iterator[tuple[str, str]]:
    machine, most, device = plan["machine"], plan["max_sequences"], plan["machine"]["device"]
    yield "device", f"{machine['n_gpus']:,} x {device['title']}, {machine['precision']}"
    if machine["n_gpus"] > 1:
        yield "engine", f"--engine {plan['engine']}"
    fits = "" if most is None else f"; largest that fits: {most:,}"
    yield "micro-batch per device", f"{plan['micro_batch_size']:,}{fits}"
    for part, n_bytes in plan["memory"].items():
        if n_bytes:
            yield f"  {part.replace('_', ' ')}", f"{show_size(n_bytes):>9}"
    have = "" if device["n_bytes"] is None else f" of {show_size(device['n_bytes'])}"
    yield "peak memory per device", f"{show_size(plan['peak_bytes']):>9}{have}"
    if seen := plan.get("measured"):
        for key, name, show in (("peak_bytes", "memory", show_size), ("seconds_per_step", "time per step", show_time)):
            value = f"{show(seen[key])}; forecast {show(seen['forecast'][key])}, error {seen['error'][key]:+.0%}"
            yield f"measured {name}", value


def _describe_time(plan: dict[str, Any]) -> Iterator[tuple[str, str]]:
    machine, disk = plan["machine"], plan["disk"]
    yield "MFU", f"{machine['mfu']:.1%} of {machine['flops'] / 1e12:,.4g} TFLOP/s, {machine['mfu_source']}"
    if plan["fits"]:
        exchange = f", {show_time(plan['exchange_seconds'])} of it between GPUs" if plan["exchange_seconds"] else ""
        yield "time per step", f"{show_time(plan['seconds_per_step'])}{exchange}"
        yield "tokens per second", f"{plan['tokens_per_second']:,.0f}"
        yield "time", f"{show_time(3600 * plan['hours'])}, without evaluation and saving"
        if plan["cost"] is not None:
            yield "cost", f"{plan['cost']:,.2f} for {plan['gpu_hours']:,.1f} GPU hours"
    checkpoints = f"{disk['n_checkpoints']} checkpoints of {show_size(disk['checkpoint'])}"
    parts = f"data {show_size(disk['data'])}, {checkpoints}, model {show_size(disk['model'])}"
    yield "disk", f"{show_size(disk['total'])}: {parts}"


def _describe_options(plan: dict[str, Any]) -> Iterator[str]:
    priced = plan["cost"] is not None
    head = f"{'GPUs':>5}  {'engine':<8}{'fits':<5}{'micro-batch':>12}{'memory':>10}{'time per step':>15}"
    yield f"{head}{'tokens/s':>12}{'time':>15}{'GPU hours':>12}" + (f"{'cost':>12}" if priced else "")
    for row in plan["options"]:
        engine = row["engine"] if row["n_gpus"] > 1 else "-"
        line = f"{row['n_gpus']:>5,}  {engine:<8}{'yes' if row['fits'] else 'no':<5}{row['micro_batch_size']:>12,}"
        line += f"{show_size(row['peak_bytes']):>10}"
        if row["fits"]:
            line += f"{show_time(row['seconds_per_step']):>15}{row['tokens_per_second']:>12,.0f}"
            line += f"{show_time(3600 * row['hours']):>15}{row['gpu_hours']:>12,.1f}"
            line += f"{row['cost']:>12,.2f}" if priced else ""
        yield line


def show_time(seconds: float) -> str:
    """Format seconds in the largest unit that gives at least 2."""
    for unit, size in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:.3g} s"
