"""What a checkpoint holds beside weights and optimizer: random numbers and what each rank alone knows.

Every rank hands over its part, and rank 0 writes all files; so a checkpoint is one folder on rank 0's disk, and says
nothing of how many ranks there were but in its manifest.
"""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers.trainer_pt_utils import safe_globals

from llmkit import ranks
from llmkit.training.contract import Objective
from llmkit.training.loss_window import LossWindow

STATE = "objective.safetensors"
ROWS = 2
"""The dimension of an objective's state that counts the rows of the global batch."""


@dataclass(frozen=True, slots=True)
class RankStates:
    """What the ranks know together: sums of losses since the last log line, each one's random numbers, and the
    objective's state of all rows."""

    window_sums: dict[str, float]
    random: list[dict[str, Any]]
    objective: dict[str, Tensor]

    def write(self, folder: Path) -> None:
        """Files for `folder`, a checkpoint that is being written."""
        for rank, state in enumerate(self.random):
            torch.save(state, folder / _name_of_random(rank, len(self.random)))
        if self.objective:
            save_file({name: tensor.contiguous() for name, tensor in self.objective.items()}, folder / STATE)


def gather_states(window: LossWindow, objective: Objective, n_rows: int) -> RankStates:
    """Every rank calls it; `n_rows` are a rank's of the global batch."""
    sums = ranks.add_up({name: value.item() for name, value in window.sums.items()})
    state = dict(objective.state)
    if ranks.world_size() > 1:
        first = ranks.rank() * n_rows
        parts = ranks.gather({name: tensor.narrow(ROWS, first, n_rows) for name, tensor in state.items()})
        state = {name: torch.cat([part[name] for part in parts], ROWS) for name in state}
    return RankStates(sums, ranks.gather(_read_random()), state)


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
