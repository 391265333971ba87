"""How a model lies on the ranks that train it: whole on each of them, or in shards.

A model and its objective become one module whose forward pass gives the summed losses, since torch's engines hang on
the forward pass of what they wrap, and llmkit's objectives call parts of a model. Whatever the engine, a checkpoint
holds whole tensors under the model's own names, so that a run can go on with any other; see
docs/decisions/0015-several-distributed.md.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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
from llmkit.models.layers import list_blocks
from llmkit.training.compiling import Work
from llmkit.training.contract import Objective

RESHARDS = {"fsdp2": True, "zero3": True, "zero2": False}
"""Whether a block's weights are given up between its forward and its backward pass; where they are not, gradients and
optimizer state alone are spread (Rajbhandari et al. 2020, stages 3 and 2)."""


def refuse_engine(engine: str, model: PreTrainedModel, optim: Optim) -> UsageError | None:
    """Why an engine cannot train this model on several ranks, as shards of a model without a list of layers or of a
    matrix that Muon needs whole; None where it can."""
    if engine not in RESHARDS:
        return None
    if not list_blocks(model):
        what = f"{engine} spreads a model layer by layer, which {family_of(model.config)} has not"
        return UsageError(what, where="--engine", hint="--engine ddp")
    if optim.name == "muon":
        hint = "--engine ddp, or -s optim.name=adamw"
        return UsageError(f"Muon needs whole matrices, {engine} gives it shards", where="--engine", hint=hint)
    return None


def parallelize(
    model: PreTrainedModel, objective: Objective, engine: str, device: torch.device, compiled: str
) -> nn.Module:
    """The module that a training step calls with a micro-batch, compiled in one of `compiling.WAYS`.

    Gradients are averaged over ranks when the last micro-batch of a step goes backward, or with shards, each one.
    With shards the model's parameters are new ones: an optimizer must be made after this.
    """
    work = Work(model, objective, compiled)
    if distributed.world_size() == 1:
        return work
    if engine in RESHARDS:
        for block in list_blocks(model):
            fully_shard(block, reshard_after_forward=RESHARDS[engine])
        return cast(nn.Module, fully_shard(work, reshard_after_forward=RESHARDS[engine]))
    return DistributedDataParallel(
        work,
        device_ids=[device.index] if device.type == "cuda" else None,
        forward_sync_buffers=False,  # none of ours learns
        gradient_as_bucket_view=True,
    )


def is_sharded(module: nn.Module) -> bool:
    """Whether no rank has all of its weights; then all ranks must go through it equally often."""
    return any(isinstance(part, FSDPModule) for part in module.modules())


@contextmanager
def gather_full_params(module: nn.Module) -> Iterator[None]:
    """Within the block the weights outside the layers are whole on each rank, so that parts of the model can be called;
    a layer gathers its own."""
    if not isinstance(module, FSDPModule):
        yield
        return
    module.unshard()
    try:
        yield
    finally:
        for part in module.modules():  # under zero2 layers would stay whole until the next backward pass
            if isinstance(part, FSDPModule):
                part.reshard()


def gather_weights(model: nn.Module) -> dict[str, Tensor]:
    """The model's state with whole tensors. Every rank calls it."""
    return cast(dict[str, Tensor], _gather(model.state_dict()))


def gather_optimizer(optimizer: Optimizer) -> dict[str, Any]:
    """The optimizer's state with whole tensors. Every rank calls it."""
    return cast(dict[str, Any], _gather(optimizer.state_dict()))


def load_optimizer(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Give each rank its shards of what `gather_optimizer` gathered, under any engine."""
    optimizers = getattr(optimizer, "pair", (optimizer,))
    states = state.get("pair", [state])
    for each, its in zip(optimizers, states, strict=True):
        weights = [weight for group in each.param_groups for weight in group["params"]]
        numbers = [number for group in its["param_groups"] for number in group["params"]]
        for number, weight in zip(numbers, weights, strict=True):
            moments = its["state"].get(number, {})
            moments |= {name: _like(weight, value) for name, value in moments.items()}
    optimizer.load_state_dict(state)


def _gather(value: Any) -> Any:
    if isinstance(value, DTensor):
        gather_full_params = value.full_tensor()
        return (
            gather_full_params.cpu() if distributed.rank() == 0 else gather_full_params[:0]
        )  # of which there need not be one for each rank
    if isinstance(value, Mapping):
        return {name: _gather(each) for name, each in value.items()}
    return [_gather(each) for each in value] if isinstance(value, list) else value


def _like(weight: Tensor, moment: Any) -> Any:
    if isinstance(weight, DTensor) and isinstance(moment, Tensor) and moment.shape == weight.shape:
        return distribute_tensor(moment.to(weight.device), weight.device_mesh, weight.placements)
    return moment
