"""Run a training step: compiled or not, with the model replicated or sharded over the ranks.

Model and objective become one module whose forward pass returns the summed losses, because DDP and FSDP wrap a forward
pass, while objectives call parts of a model. Under any engine, checkpoints hold unsharded tensors under the model's own
names, so that a run can resume with another engine; see docs/decisions/0015-several-ranks.md.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from transformers import PreTrainedModel

from llmkit.config.optim import Optim
from llmkit.core import distributed
from llmkit.core.errors import UsageError
from llmkit.models.families import family_of
from llmkit.models.layers import compile_layers, list_blocks
from llmkit.training.contract import Batch, Objective

COMPILE_MODES = {
    "none": "nothing compiled",
    "layers": "layers compiled one by one",
    "whole": "all compiled",
    "graphs": "all compiled into CUDA graphs",
}
"""Values of `train.compile` besides `auto`, and their descriptions."""
TORCH_COMPILE_MODES = {"whole": "default", "graphs": "reduce-overhead"}
"""The `mode` argument of torch.compile."""
AUTO_CANDIDATES = ("none", "layers", "whole")
"""Modes that `auto` compares. CUDA graphs are not tested in training on a GPU yet (docs/decisions/0019)."""
MIN_SPEEDUP = 1.05
"""Minimum speedup for `auto` to pick a mode; less is within the trial's noise."""
RESHARDS = {"fsdp2": True, "zero3": True, "zero2": False}
"""Whether a layer's weights are freed between its forward and its backward pass (Rajbhandari et al. 2020, stage 3). If
not, only gradients and optimizer state are sharded (stage 2)."""


class LossModule(nn.Module):
    """Model and objective: the forward pass of a micro-batch returns its summed losses. Compiled at the first call.

    Raises:
        UsageError: `layers` for a model without a list of layers.
    """

    def __init__(self, model: PreTrainedModel, objective: Objective, compiled: str = "none") -> None:
        super().__init__()
        self.model = model
        self.sum_losses: Callable[[PreTrainedModel, Batch], dict[str, Tensor]] = objective.sum_losses
        if compiled == "layers":
            compile_layers(model)
        elif compiled in TORCH_COMPILE_MODES:
            self.sum_losses = torch.compile(objective.sum_losses, mode=TORCH_COMPILE_MODES[compiled])

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        sums = self.sum_losses(self.model, batch)
        return {name: value.clone() for name, value in sums.items()}  # the next CUDA graph overwrites them

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Set gradients to None like nn.Module, but with a cached list of weights, which is faster for small models."""
        for weight in self._weights:
            weight.grad = None

    @cached_property
    def _weights(self) -> list[nn.Parameter]:
        return list(self.parameters())  # first read after sharding, which replaces parameters


def choose_fastest_mode(measure: Callable[[str], float]) -> tuple[str, str]:
    """Return the compile mode with the fastest step on the slowest rank, and the measured speedups in words.

    Every rank calls it. A mode for which `measure` fails is skipped. If `measure` fails without compilation, its
    error is raised.
    """
    seconds: dict[str, float] = {}
    for mode in AUTO_CANDIDATES:
        error: Exception | None = None
        try:
            measured = measure(mode)
        except Exception as raised:  # compilers fail with any exception
            measured, error = math.inf, raised.with_traceback(None)  # the traceback would keep the trial's memory
        seconds[mode] = max(distributed.gather(measured))
        if seconds["none"] == math.inf:
            raise error or RuntimeError("a trial step failed on another rank")
    best = min(seconds, key=lambda mode: seconds[mode])
    if seconds["none"] / seconds[best] < MIN_SPEEDUP:
        best = "none"
    tried = [
        f"{COMPILE_MODES[mode]} " + ("failed" if n == math.inf else f"{seconds['none'] / n:.2f} times as fast")
        for mode, n in seconds.items()
        if mode != "none"
    ]
    return best, f"{COMPILE_MODES[best]}; in a trial, compared with nothing compiled: {', '.join(tried)}"


def refuse_engine(engine: str, model: PreTrainedModel, optim: Optim) -> UsageError | None:
    """Return the reason why an engine cannot train this model on several ranks; None if it can.

    Sharding needs a list of layers, and Muon needs unsharded matrices.
    """
    if engine not in RESHARDS:
        return None
    if not list_blocks(model):
        what = f"{engine} shards a model layer by layer, but {family_of(model.config)} has no list of layers"
        return UsageError(what, where="--engine", hint="--engine ddp")
    if optim.name == "muon":
        hint = "--engine ddp, or -s optim.name=adamw"
        return UsageError(f"Muon needs unsharded matrices, but {engine} shards them", where="--engine", hint=hint)
    return None


def parallelize(
    model: PreTrainedModel, objective: Objective, engine: str, device: torch.device, compiled: str
) -> nn.Module:
    """Return the module that a training step calls with a micro-batch, compiled in one of `COMPILE_MODES`.

    Gradients are averaged over ranks in the backward pass of the last micro-batch; if the model is sharded, in the
    backward pass of each micro-batch.
    Sharding replaces the model's parameters, so the optimizer must be built afterwards.
    """
    module = LossModule(model, objective, compiled)
    if distributed.world_size() == 1:
        return module
    if engine in RESHARDS:
        for block in list_blocks(model):
            fully_shard(block, reshard_after_forward=RESHARDS[engine])
        return cast(nn.Module, fully_shard(module, reshard_after_forward=RESHARDS[engine]))
    return DistributedDataParallel(
        module,
        device_ids=[device.index] if device.type == "cuda" else None,
        forward_sync_buffers=False,  # no buffer changes in training
        gradient_as_bucket_view=True,
    )


def is_sharded(module: nn.Module) -> bool:
    """Whether weights are sharded; all ranks must then run the same number of forward passes."""
    return any(isinstance(part, FSDPModule) for part in module.modules())


@contextmanager
def gather_full_params(module: nn.Module) -> Iterator[None]:
    """Within the block, unshard the weights outside of the layers, so that parts of the model can be called.

    Each layer gathers its own weights when it is called.
    """
    if not isinstance(module, FSDPModule):
        yield
        return
    module.unshard()
    try:
        yield
    finally:
        for part in module.modules():  # under zero2 layers would stay unsharded until the next backward pass
            if isinstance(part, FSDPModule):
                part.reshard()


def unshard(value: Any) -> Any:
    """Return a `state_dict` with unsharded tensors, on rank 0. Every rank calls it."""
    if isinstance(value, DTensor):
        full = value.full_tensor()
        return full.cpu() if distributed.rank() == 0 else full[:0]  # only rank 0 keeps it
    if isinstance(value, Mapping):
        return {name: unshard(each) for name, each in value.items()}
    return [unshard(each) for each in value] if isinstance(value, list) else value


def load_optimizer(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Load the unsharded state of an optimizer, under any engine: each rank takes its shards."""
    optimizers = getattr(optimizer, "pair", (optimizer,))
    states = state.get("pair", [state])
    for each, its in zip(optimizers, states, strict=True):
        weights = [weight for group in each.param_groups for weight in group["params"]]
        numbers = [number for group in its["param_groups"] for number in group["params"]]
        for number, weight in zip(numbers, weights, strict=True):
            moments = its["state"].get(number, {})
            for name, moment in moments.items() if isinstance(weight, DTensor) else ():
                if isinstance(moment, Tensor) and moment.shape == weight.shape:
                    moments[name] = distribute_tensor(moment.to(weight.device), weight.device_mesh, weight.placements)
    optimizer.load_state_dict(state)
