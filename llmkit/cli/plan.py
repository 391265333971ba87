"""`llmkit plan`."""

import re
from typing import Any

from llmkit.cli.options import (
    GpuOption,
    GpusOption,
    JsonOption,
    MeasureOption,
    MfuOption,
    PlanDataOption,
    PriceOption,
    RecipeArgument,
    SetOption,
    TokensOption,
)
from llmkit.core.console import clean_line
from llmkit.core.errors import UsageError

UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}


def plan_command(
    recipe: RecipeArgument = None,
    gpu: GpuOption = None,
    gpus: GpusOption = None,
    price: PriceOption = None,
    tokens: TokensOption = None,
    mfu: MfuOption = None,
    data: PlanDataOption = None,
    measure: MeasureOption = False,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Forecast memory, time, disk and cost of a training run before it starts.

    Needs no data, no weights and no GPU.
    """
    if mfu is not None and not 0 < mfu <= 1:
        raise UsageError(
            f"an MFU of {mfu:g} is not possible", where="--mfu", hint="give a number above 0 and at most 1, such as 0.4"
        )
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
        UsageError: not a number from 1 to 1e18.
    """
    found = re.fullmatch(
        r"((?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9][0-9_]*)(?:\.[0-9]*)?(?:e[0-9]+)?)\s*([kmbt]?)", text.strip().lower()
    )
    value = 0.0 if found is None else float(found[1].replace(",", "").replace("_", "")) * UNITS[found[2]]
    if not 1 <= value <= 1e18:
        raise UsageError(f"{text!r} is not a number of tokens", where="--tokens", hint="such as 10B, 300M or 2500000")
    return value
