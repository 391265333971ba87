"""How much of a training step torch.compile is given: the layers one by one, or all from the batch to the losses."""

import math
from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from llmkit.core import distributed
from llmkit.models.layers import compile_layers
from llmkit.training.contract import Batch, Objective

COMPILE_MODES = {
    "none": "nothing compiled",
    "layers": "layers compiled one by one",
    "whole": "all compiled",
    "graphs": "all compiled into CUDA graphs",
}
"""By the name in a recipe."""
MODES = {"whole": "default", "graphs": "reduce-overhead"}
"""What torch.compile calls them."""
AUTO_CANDIDATES = ("none", "layers", "whole")
"""CUDA graphs are for whom asks for them, until they were seen to train on a GPU (docs/decisions/0019)."""
MIN_SPEEDUP = 1.05
"""So many times as fast a way must be to be taken: less is within the trial's noise."""


class Work(nn.Module):
    """What one rank does with a micro-batch: its forward pass gives the summed losses. It is compiled in one of `WAYS`
    when it is first called.

    Raises:
        UsageError: the model has no layers that could be taken one by one.
    """

    def __init__(self, model: PreTrainedModel, objective: Objective, way: str = "none") -> None:
        super().__init__()
        self.model = model
        self.sum_losses: Callable[[PreTrainedModel, Batch], dict[str, Tensor]] = objective.sum_losses
        if way == "layers":
            compile_layers(model)
        elif way in MODES:
            self.sum_losses = torch.compile(objective.sum_losses, mode=MODES[way])

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        sums = self.sum_losses(self.model, batch)
        return {name: value.clone() for name, value in sums.items()}  # the next CUDA graph writes where this one did

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Once a step, without looking for all weights anew, which a small model feels."""
        for weight in self._weights:
            weight.grad = None

    @cached_property
    def _weights(self) -> list[nn.Parameter]:
        return list(self.parameters())  # after they were spread, if they are: first asked for by the first step


def find_fastest(measure: Callable[[str], float]) -> tuple[str, str]:
    """The way by which a step takes the fewest seconds on the slowest rank, and in words how fast each was. Every rank
    calls it. A way by which `measure` fails is left out.

    Raises:
        What `measure` raises where nothing is compiled.
    """
    seconds: dict[str, float] = {}
    for way in AUTO_CANDIDATES:
        fault: Exception | None = None
        try:
            own = measure(way)
        except Exception as error:  # a compiler, and what it is called with, may fail in any way
            own, fault = math.inf, error.with_traceback(None)  # which would keep the trial's memory
        seconds[way] = max(distributed.gather(own))
        if seconds["none"] == math.inf:
            raise fault or RuntimeError("a trial step failed on another rank")
    usual = seconds["none"]
    best = min(seconds, key=lambda way: seconds[way])
    if usual / seconds[best] < MIN_SPEEDUP:
        best = "none"
    tried = [
        f"{COMPILE_MODES[way]} " + ("failed" if its == math.inf else f"{usual / its:.2f} times as fast")
        for way, its in seconds.items()
        if way != "none"
    ]
    return best, f"{COMPILE_MODES[best]}: in a trial {', '.join(tried)}"
