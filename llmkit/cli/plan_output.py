"""Text output of `llmkit plan`: aligned lines and a table."""

from collections.abc import Iterator
from typing import Any

from llmkit.core.files import show_size

PARTS = (
    ("weights", "weights, fp32"),
    ("gradients", "gradients, fp32"),
    ("optimizer", "optimizer states"),
    ("copies", "bf16 copies, gathered layers"),
    ("activations", "activations"),
    ("logits", "logits"),
    ("framework", "libraries and driver"),
    ("evaluation", "extra for evaluation"),
)
WIDTH = 30


def describe_plan(plan: dict[str, Any]) -> Iterator[str]:
    """The lines of `llmkit plan`."""
    yield from _describe_work(plan)
    yield ""
    yield from _describe_memory(plan)
    yield ""
    if "measured" in plan:
        yield from _describe_measured(plan)
        yield ""
    yield from _describe_time(plan)
    yield from _describe_disk(plan)
    if plan["table"]:
        yield ""
        yield from _describe_table(plan)
    if plan["notes"]:
        yield ""
        yield from plan["notes"]


def show_count(number: float) -> str:
    """A number of tokens or weights in short."""
    for unit in ("", " k", " M", " B"):
        if number < 999.5:
            return f"{number:.3g}{unit}"
        number /= 1000
    return f"{number:,.3g} T"


def show_time(seconds: float) -> str:
    """Seconds in the unit that suits them."""
    for unit, size in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:.3g} s"


def _line(name: str, value: str) -> str:
    return f"{name:<{WIDTH}} {value}"


def _describe_work(plan: dict[str, Any]) -> Iterator[str]:
    model, tokens, flops = plan["model"], plan["tokens"], plan["flops"]
    shape = f"{model['family']}, {model['n_layers']} layers of {model['width']}, {model['vocab_size']:,} tokens"
    yield _line("model", f"{model['n_parameters']:,} weights ({shape})")
    batch = f"{model['global_batch_size']:,} x {model['block_size']:,} = {tokens['a_step']:,} tokens"
    yield _line("step", batch)
    yield _line("length", f"{plan['steps']:,} steps, {show_count(tokens['total'])} tokens ({plan['length']})")
    if tokens["epochs"] is not None:
        yield _line("", f"{tokens['epochs']:,.2f} epochs of the prepared text")
    yield _line(
        "tokens per weight",
        f"{tokens['per_parameter']:,.3g}; Chinchilla: about {tokens['chinchilla_per_parameter']}, "
        f"{show_count(tokens['chinchilla'])} tokens",
    )
    yield _line("FLOPs", f"{flops['total']:.3g}, {flops['a_token']:.3g} per token, forward and backward")


def _describe_memory(plan: dict[str, Any]) -> Iterator[str]:
    memory, device = plan["memory"], plan["device"]
    yield _line("device", f"{device['n']:,} x {device['title']}, {device['precision']}")
    if device["n"] > 1:
        yield f"{'engine':<{WIDTH}} {'fits':<6}{'micro batch':>12}{'maximum':>12}{'memory':>13}{'time per step':>15}"
        for one in plan["engines"]:
            size = f"{one['micro_batch_size']:,}"
            most = "" if one["max_sequences"] is None else f"{one['max_sequences']:,}"
            name = f"  {one['engine']}" + (" (chosen)" if one["engine"] == plan["engine"] else "")
            yield (
                f"{name:<{WIDTH}} {'yes' if one['fits'] else 'no':<6}{size:>12}{most:>12}"
                f"{show_size(one['peak_bytes']):>13}{show_time(one['seconds_per_step']):>15}"
            )
    else:
        most = plan["engines"][0]["max_sequences"]
        fits = "" if most is None else f"; at most {most:,} fit"
        yield _line("micro batch", f"{plan['micro_batch_size']:,} sequences{fits}")
    for key, name in PARTS:
        if memory[key]:
            yield _line(f"  {name}", f"{show_size(memory[key]):>9}")
    have = "" if device["n_bytes"] is None else f" of {show_size(device['n_bytes'])}"
    yield _line("peak memory per device", f"{show_size(memory['peak']):>9}{have}")


def _describe_measured(plan: dict[str, Any]) -> Iterator[str]:
    seen = plan["measured"]
    yield f"{'measured here':<{WIDTH}} {'forecast':>15}{'measured':>15}{'error':>9}"
    rows = (("peak_bytes", "warm_peak_bytes", "memory", show_size), ("seconds_per_step",) * 2 + ("step", show_time))
    for key, measured, name, show in rows:
        forecast, off = seen["forecast"][key], seen["off"][key]
        yield f"{'  ' + name:<{WIDTH}} {show(forecast):>15}{show(seen[measured]):>15}{off:>+9.0%}"
    grown = seen["peak_bytes"] - seen["warm_peak_bytes"]
    if grown:
        yield _line("  more memory in later steps", f"{show_size(grown)} (freed memory that they cannot reuse)")
    yield "all other figures are corrected by the measurement"


def _describe_time(plan: dict[str, Any]) -> Iterator[str]:
    time, device = plan["time"], plan["device"]
    share, source = plan["mfu"]["share"], plan["mfu"]["source"]
    yield _line("MFU", f"{share:.1%} of {device['flops'] / 1e12:,.4g} TFLOP/s, {source}")
    if time is None:
        return
    sent = time["exchange_seconds"]
    between = f", {show_time(sent)} of it between GPUs" if sent else ""
    yield _line("time per step", f"{show_time(time['seconds_per_step'])}{between}")
    yield _line("tokens per second", f"{time['tokens_per_second']:,.0f}")
    yield _line("time", f"{show_time(3600 * time['hours'])}, without evaluation and saving")
    if time["cost"] is not None:
        yield _line("cost", f"{time['cost']:,.2f} for {time['gpu_hours']:,.1f} GPU hours")


def _describe_disk(plan: dict[str, Any]) -> Iterator[str]:
    disk = plan["disk"]
    each = f"{disk['n_checkpoints']} checkpoints of {show_size(disk['a_checkpoint'])}"
    rest = f"data {show_size(disk['data'])}, {each}, model {show_size(disk['model'])}"
    yield _line("disk", f"{show_size(disk['total'])}: {rest}")


def _describe_table(plan: dict[str, Any]) -> Iterator[str]:
    priced = any(row.get("cost") is not None for row in plan["table"])
    head = f"{'GPUs':>6}  {'engine':<8}{'micro batch':>12}{'memory':>10}{'tokens/s':>14}{'time':>15}{'GPU hours':>12}"
    yield head + (f"{'cost':>12}" if priced else "") + f"{'efficiency':>12}"
    for row in plan["table"]:
        if row["engine"] is None:
            yield f"{row['n_gpus']:>6,}  {row['why']}"
            if row["final"]:  # and so it is for all further ones
                break
            continue
        engine = row["engine"] if row["n_gpus"] > 1 else "-"
        line = (
            f"{row['n_gpus']:>6,}  {engine:<8}{row['micro_batch_size']:>12,}{show_size(row['peak_bytes']):>10}"
            f"{row['tokens_per_second']:>14,.0f}{show_time(3600 * row['hours']):>15}{row['gpu_hours']:>12,.1f}"
        )
        yield line + (f"{row['cost']:>12,.2f}" if priced else "") + f"{row['efficiency']:>12.0%}"
    yield "assumes 8 GPUs per machine, and no overlap of communication and computation"
