"""The state of a training in files: weights, optimizer, schedule, random numbers and what each rank alone knows.

Every rank hands over its part, and rank 0 writes all files; so a checkpoint is one folder on rank 0's disk, with whole
tensors, and any number of ranks under any engine can go on with it.
"""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel
from transformers.trainer_pt_utils import safe_globals

from llmkit import ranks
from llmkit.training.contract import Objective
from llmkit.training.engines import gather_optimizer, gather_weights, is_sharded, load_optimizer
from llmkit.training.loss_window import LossWindow

OPTIMIZER, SCHEDULE, STATE = "optimizer.pt", "scheduler.pt", "objective.safetensors"
ROWS = 2
"""The dimension of an objective's state that counts the rows of the global batch."""


@dataclass(frozen=True, slots=True)
class RankStates:
    """What the ranks know together: weights and optimizer (None: as they are on this rank), sums of losses since the
    last log line, each one's random numbers, and the objective's state of all rows."""

    weights: dict[str, Tensor] | None
    optimizer: dict[str, Any]
    window_sums: dict[str, float]
    random: list[dict[str, Any]]
    objective: dict[str, Tensor]

    def write(self, folder: Path, model: PreTrainedModel, schedule: LambdaLR) -> None:
        """Files for `folder`, a checkpoint that is being written."""
        model.save_pretrained(folder, state_dict=self.weights)
        torch.save(self.optimizer, folder / OPTIMIZER)
        torch.save(schedule.state_dict(), folder / SCHEDULE)
        for rank, state in enumerate(self.random):
            torch.save(state, folder / _name_of_random(rank, len(self.random)))
        if self.objective:
            save_file({name: tensor.contiguous() for name, tensor in self.objective.items()}, folder / STATE)


def gather_states(
    model: PreTrainedModel, optimizer: Optimizer, window: LossWindow, objective: Objective, n_rows: int
) -> RankStates:
    """Every rank calls it; `n_rows` are a rank's of the global batch."""
    sums = ranks.add_up({name: value.item() for name, value in window.sums.items()})
    state = dict(objective.state)
    if ranks.world_size() > 1:
        first = ranks.rank() * n_rows
        parts = ranks.gather({name: tensor.narrow(ROWS, first, n_rows).cpu() for name, tensor in state.items()})
        state = {name: torch.cat([part[name] for part in parts], ROWS) for name in state}
    weights = gather_weights(model) if is_sharded(model) else None
    return RankStates(weights, gather_optimizer(optimizer), sums, ranks.gather(_read_random()), state)


def load_states(checkpoint: Path, optimizer: Optimizer, schedule: LambdaLR) -> None:
    """Moments and the place in the schedule are the checkpoint's. Rates and the like stay as they are: they are the
    recipe's, which may have been allowed to change."""
    settings = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    bases = list(schedule.base_lrs)
    load_optimizer(optimizer, torch.load(checkpoint / OPTIMIZER, map_location="cpu", weights_only=True))
    schedule.load_state_dict(torch.load(checkpoint / SCHEDULE, weights_only=True))
    for group, kept in zip(optimizer.param_groups, settings, strict=True):
        group.update(kept)
    schedule.base_lrs = bases


def load_random(checkpoint: Path, seed: int) -> None:
    """Go on with the random numbers of this rank, or with new ones where the run had another number of ranks."""
    path = checkpoint / _name_of_random(ranks.rank(), ranks.world_size())
    if not path.is_file():
        torch.manual_seed(seed)
        return
    with safe_globals():  # numpy's state is an array
        state = torch.load(path, weights_only=True)
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.random.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.random.set_rng_state(state["cuda"])


def _name_of_random(rank: int, n_ranks: int) -> str:
    """As transformers names them."""
    return "rng_state.pth" if n_ranks == 1 else f"rng_state_{rank}.pth"


def _read_random() -> dict[str, Any]:
    state = {"python": random.getstate(), "numpy": np.random.get_state(), "cpu": torch.random.get_rng_state()}
    return state | ({"cuda": torch.cuda.random.get_rng_state()} if torch.cuda.is_available() else {})
