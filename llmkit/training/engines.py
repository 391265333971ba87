"""How a model lies on the ranks that train it: whole on each of them, or in shards.

A model and its objective become one module whose forward pass gives the summed losses, since both of torch's engines
hang on the forward pass of what they wrap, and llmkit's objectives call parts of a model.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from transformers import PreTrainedModel

from llmkit import ranks
from llmkit.training.contract import Batch, Objective


class Work(nn.Module):
    """What one rank does with a micro-batch."""

    def __init__(self, model: PreTrainedModel, objective: Objective) -> None:
        super().__init__()
        self.model = model
        self.objective = objective

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return self.objective.sum_losses(self.model, batch)


def spread(model: PreTrainedModel, objective: Objective, device: torch.device) -> nn.Module:
    """The module that a training step calls with a micro-batch; the model itself where this process is alone.

    Gradients are averaged over ranks when the last micro-batch of a step goes backward.
    """
    if ranks.world_size() == 1:
        return model
    return DistributedDataParallel(
        Work(model, objective),
        device_ids=[device.index] if device.type == "cuda" else None,
        forward_sync_buffers=False,  # none of ours learns
        gradient_as_bucket_view=True,
    )


def sum_losses(module: nn.Module, objective: Objective, batch: Batch) -> dict[str, Tensor]:
    """The losses of a micro-batch, by a model or by what `spread` made of it."""
    if isinstance(module, DistributedDataParallel):
        return cast(dict[str, Tensor], module(batch))
    return objective.sum_losses(module, batch)
