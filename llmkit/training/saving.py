"""The state of a training in files: weights, optimizer, random numbers and what each rank alone knows.

Every rank hands over its part, and rank 0 writes all files; so a checkpoint is one folder on rank 0's disk, with whole
tensors, and any number of ranks under any engine can go on with it.
"""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim import Optimizer
from transformers import PreTrainedModel

from llmkit.core import distributed
from llmkit.core.devices import pick_device
from llmkit.core.errors import ModelError
from llmkit.training.contract import Objective
from llmkit.training.engines import gather_optimizer, gather_weights, is_sharded, load_optimizer
from llmkit.training.loss_window import LossWindow

OPTIMIZER, STATE = "optimizer.pt", "objective.safetensors"
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

    def write(self, folder: Path, model: PreTrainedModel) -> None:
        """Files for `folder`, a checkpoint that is being written."""
        model.save_pretrained(folder, state_dict=self.weights)
        torch.save(self.optimizer, folder / OPTIMIZER)
        for rank, state in enumerate(self.random):
            torch.save(state, folder / _name_of_random(rank, len(self.random)))
        if self.objective:
            save_file({name: tensor.contiguous() for name, tensor in self.objective.items()}, folder / STATE)


def gather_states(
    model: PreTrainedModel, optimizer: Optimizer, window: LossWindow, objective: Objective, n_rows: int
) -> RankStates:
    """Every rank calls it; `n_rows` are a rank's of the global batch."""
    sums = distributed.all_reduce_sum({name: value.item() for name, value in window.sums.items()})
    state = dict(objective.state)
    if distributed.world_size() > 1:
        first = distributed.rank() * n_rows
        parts = distributed.gather({name: tensor.narrow(ROWS, first, n_rows).cpu() for name, tensor in state.items()})
        state = {name: torch.cat([part[name] for part in parts], ROWS) for name in state}
    weights = gather_weights(model) if is_sharded(model) else None
    return RankStates(weights, gather_optimizer(optimizer), sums, distributed.gather(_read_random()), state)


def load_weights(model: PreTrainedModel, checkpoint: Path) -> None:
    """Put a checkpoint's weights into the model.

    Raises:
        ModelError: the checkpoint lacks a weight, or has one that the model has not.
    """
    files = [path for path in sorted(checkpoint.glob("*.safetensors")) if path.name != STATE]
    found = model.load_state_dict({name: value for file in files for name, value in load_file(file).items()}, False)
    missing = sorted(set(found.missing_keys) - set(model.all_tied_weights_keys))
    if missing or found.unexpected_keys:
        what = f"the checkpoint's weights do not fit the model: {missing + found.unexpected_keys}"
        raise ModelError(what, where=str(checkpoint), hint="resume with the recipe the run began with")


def load_objective_state(checkpoint: Path, objective: Objective) -> None:
    """What an objective carries from step to step, where it does."""
    if (checkpoint / STATE).is_file():
        objective.state.update({name: value.clone() for name, value in load_file(checkpoint / STATE).items()})


def load_states(checkpoint: Path, optimizer: Optimizer) -> None:
    """The optimizer's moments are the checkpoint's. Rates and the like stay as they are: they are the recipe's, which
    may have been allowed to change."""
    settings = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    load_optimizer(optimizer, torch.load(checkpoint / OPTIMIZER, map_location="cpu", weights_only=True))
    for group, kept in zip(optimizer.param_groups, settings, strict=True):
        group.update(kept)


def load_random(checkpoint: Path, seed: int) -> None:
    """Go on with the random numbers of this rank, or with new ones where the run had another number of ranks."""
    path = checkpoint / _name_of_random(distributed.rank(), distributed.world_size())
    if not path.is_file():
        torch.manual_seed(seed)
        return
    from transformers.trainer_pt_utils import safe_globals

    with safe_globals():  # numpy's state is an array
        state = torch.load(path, weights_only=True)
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.random.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.random.set_rng_state(state["cuda"])
    if "mps" in state and pick_device().type == "mps":
        torch.mps.set_rng_state(state["mps"])


def _name_of_random(rank: int, n_ranks: int) -> str:
    """As transformers names them."""
    return "rng_state.pth" if n_ranks == 1 else f"rng_state_{rank}.pth"


def _read_random() -> dict[str, Any]:
    state = {"python": random.getstate(), "numpy": np.random.get_state(), "cpu": torch.random.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.random.get_rng_state()
    elif pick_device().type == "mps":
        state["mps"] = torch.mps.get_rng_state()
    return state
