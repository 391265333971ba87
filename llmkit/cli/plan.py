"""`llmkit plan`."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from llmkit.cli.options import JsonOption, RecipeArgument, SetOption
from llmkit.core.console import clean_line
from llmkit.core.errors import UsageError

PlanDataOption = Annotated[Path | None, typer.Option("--data", help="A prepared folder, whose tokens are counted.")]
GpuOption = Annotated[str | None, typer.Option("--gpu", help="h100, rtx4090, ...; without it, this machine.")]
UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}


def plan_command(
    recipe: RecipeArgument = None,
    gpu: GpuOption = None,
    gpus: Annotated[int | None, typer.Option("--gpus", help="How many of them.")] = None,
    price: Annotated[float | None, typer.Option(min=0, help="Of one for an hour, in any currency.")] = None,
    tokens: Annotated[str | None, typer.Option(help="To train on, such as 10B; beats the recipe's length.")] = None,
    mfu: Annotated[float | None, typer.Option(help="Share of the peak FLOP/s that training reaches.")] = None,
    data: PlanDataOption = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Try a few steps on this machine, and say the error.")
    ] = False,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Memory, time, disk and cost of a training, before anything runs.

    Nothing is trained, loaded or needed: no data, no weights, no GPU.
    """
    if mfu is not None and not 0 < mfu <= 1:
        raise UsageError(f"an MFU of {mfu:g} cannot be", where="--mfu", hint="a share above 0, at most 1, such as 0.4")
    n_tokens = None if tokens is None else read_number(tokens)
    from llmkit.cli.output import echo, show_json
    from llmkit.cli.plan_output import describe_plan
    from llmkit.config.loading import load_recipe

    config = load_recipe(recipe, set_ or [])
    from llmkit.planning.plan import plan  # torch loads here, so --help stays instant

    result: dict[str, Any] = plan(
        config, data=data, gpu=gpu, n_gpus=gpus, price=price, mfu=mfu, tokens=n_tokens, measure=measure
    )
    if json:
        show_json(result)
    else:
        echo("\n".join(clean_line(line) for line in describe_plan(result)))


def read_number(text: str) -> float:
    """`10B`, `300M`, `2.5e9`.

    Raises:
        UsageError: it is none, or not above 0.
    """
    found = re.fullmatch(
        r"((?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9][0-9_]*)(?:\.[0-9]*)?(?:e[0-9]+)?)\s*([kmbt]?)", text.strip().lower()
    )
    value = 0.0 if found is None else float(found[1].replace(",", "").replace("_", "")) * UNITS[found[2]]
    if not 1 <= value <= 1e18:
        raise UsageError(f"{text!r} is no number of tokens", where="--tokens", hint="such as 10B, 300M or 2500000")
    return value
