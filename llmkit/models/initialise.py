"""How a new network's matrices begin, where a recipe wants something else than its family's own way."""

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from llmkit.config.model import Model


@torch.no_grad()
def initialise(model: PreTrainedModel, section: Model, seed: int) -> None:
    """All matrices anew, in place: normal, uniform, or the uniform forms of Xavier (Glorot and Bengio 2010) and He
    (He et al. 2015). The gates of a recurrent cell are matrices of their own. Vectors stay as the family has them.
    """
    if section.init == "auto":
        return
    torch.manual_seed(seed)
    recurrent = {
        id(weight) for module in model.modules() if isinstance(module, nn.RNNBase) for weight in module.parameters()
    }
    transposed = {id(module.weight) for module in model.modules() if isinstance(module, Conv1D)}  # GPT-2's matrices
    for weight in model.parameters():
        if weight.ndim < 2:
            continue
        for part in weight.split(model.config.hidden_size) if id(weight) in recurrent else [weight]:
            if section.init == "normal":
                nn.init.normal_(part, std=section.init_range)
            elif section.init == "uniform":
                nn.init.uniform_(part, -section.init_range, section.init_range)
            elif section.init == "xavier":
                nn.init.xavier_uniform_(part)
            else:
                nn.init.kaiming_uniform_(part.t() if id(weight) in transposed else part, nonlinearity="relu")
