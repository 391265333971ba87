"""How much of a training step torch.compile is given: the layers one by one, or all from the batch to the losses."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from llmkit import ranks
from llmkit.models.layers import compile_layers
from llmkit.training.contract import Batch, Objective

WAYS = {
    "none": "nothing compiled",
    "layers": "layers compiled one by one",
    "whole": "all compiled",
    "graphs": "all compiled into CUDA graphs",
}
"""By the name in a recipe."""
WORTH = 1.05
"""So many times as fast a way must be to be taken: less is within the trial's noise."""


class Work(nn.Module):
    """What one rank does with a micro-batch: its forward pass gives the summed losses."""

    def __init__(self, model: PreTrainedModel, objective: Objective) -> None:
        super().__init__()
        self.model = model
        self.objective = objective

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return self.objective.sum_losses(self.model, batch)


def compile_work(model: PreTrainedModel, objective: Objective, way: str) -> Work:
    """The work of a training step, compiled in one of `WAYS` when it is first done.

    Raises:
        UsageError: the model has no layers that could be taken one by one.
    """
    work = Work(model, objective)
    if way == "layers":
        compile_layers(model)
    elif way == "graphs":
        work.compile(mode="reduce-overhead")
    elif way == "whole":
        work.compile()
    return work


def find_fastest(measure: Callable[[str], float]) -> tuple[str, str]:
    """The way by which a step takes the fewest seconds on the slowest rank, and in words how fast each was. `measure`
    may fail with any way but `none`: that one is left out. Every rank calls it."""
    usual = seconds = max(ranks.gather(measure("none")))
    best, tried = "none", []
    for way in list(WAYS)[1:]:
        fault = ""
        try:
            own = measure(way)
        except Exception as error:  # a compiler, and what it is called with, may fail in any way
            own, fault = math.inf, f" ({type(error).__name__})"
        torch.compiler.reset()
        its = max(ranks.gather(own))
        tried.append(f"{WAYS[way]} {usual / its:.2f} times as fast" if its < math.inf else f"{WAYS[way]} failed{fault}")
        if its < min(seconds, usual / WORTH):
            best, seconds = way, its
    return best, f"{WAYS[best]}: in a trial {', '.join(tried)}"
