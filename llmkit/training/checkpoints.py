"""Checkpoints: folders `step-N` with weights, optimizer, random number generators and progress, complete or absent.

MANIFEST.json is written last. It holds size and SHA-256 of every file and a hash of itself; resuming takes the newest
checkpoint that verifies. Every rank contributes its state and rank 0 writes all files with unsharded tensors, so any
number of ranks under any engine can resume.
"""

import hashlib
import json
import random
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim import Optimizer
from transformers import PreTrainedModel

from llmkit.core import console, distributed
from llmkit.core.devices import pick_device
from llmkit.core.errors import ModelError
from llmkit.core.files import describe_files, failpoint, new_folder, read_json, verify_file, write_json
from llmkit.core.output_paths import find_foreign
from llmkit.training.contract import Objective
from llmkit.training.engines import is_sharded, load_optimizer, unshard
from llmkit.training.losses import LossWindow
from llmkit.training.run_files import MANIFEST, list_files

OPTIMIZER, STATE = "optimizer.pt", "objective.safetensors"
STATE_BATCH_DIM = 2
"""The dimension of an objective's state that indexes the rows of the global batch."""
_NAME = re.compile(r"step-(\d+)")


# ---- folders ----


@contextmanager
def write_checkpoint(folder: Path, step: int, facts: dict[str, Any]) -> Iterator[Path]:
    """Yield a temporary folder, which becomes `folder/step-N` when the block succeeds.

    The manifest stores `facts`; resuming compares them with the facts of the resumed run.
    """
    with new_folder(folder / f"step-{step}") as partial:
        yield partial
        failpoint(f"step-{step}: before hashing")
        manifest = {"step": step, **facts, "files": describe_files(partial, partial)}
        write_json(partial / MANIFEST, manifest | {"sha256": _hash_manifest(manifest)})


def list_checkpoints(folder: Path) -> list[Path]:
    """Return checkpoints in the order of steps; ignores other folders, such as a user's `step-keep` or
    `checkpoint-10`.
    """
    found = [(int(match[1]), path) for path in folder.glob("step-*") if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def verify_checkpoint(path: Path) -> str | None:
    """Return the first problem of a checkpoint; None if every file has its recorded size and hash."""
    try:
        manifest = read_json(path / MANIFEST)
    except (OSError, ValueError) as error:
        return f"{MANIFEST}: {error}"
    if not isinstance(manifest, dict) or manifest.pop("sha256", None) != _hash_manifest(manifest):
        return f"{MANIFEST} does not have its recorded SHA-256"
    for name, expected in manifest["files"].items():
        if (fault := verify_file(path / name, expected)) is not None:
            return f"{name} {fault}"
    return None


def _hash_manifest(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def find_checkpoint(folder: Path) -> tuple[Path, dict[str, Any], dict[str, str]]:
    """Return the newest checkpoint that verifies, its manifest, and the problem of each newer one, by name.

    Raises:
        ModelError: there is none.
    """
    faults: dict[str, str] = {}
    for path in reversed(list_checkpoints(folder)):
        fault = verify_checkpoint(path)
        if fault is None:
            return path, read_json(path / MANIFEST), faults
        faults[path.name] = fault
    what = "; ".join(f"{name} is damaged: {fault}" for name, fault in faults.items()) or "there is no checkpoint"
    hint = "start again with --overwrite, or restore the folder from a backup"
    raise ModelError(f"nothing to resume from: {what}", where=str(folder), hint=hint)


def find_resume_point(checkpoints: Path) -> Path:
    """Find the newest checkpoint that verifies, for every rank; logs newer checkpoints that are damaged."""

    def find() -> Path:
        checkpoint, _, faults = find_checkpoint(checkpoints)
        for name, fault in faults.items():
            console.info(f"{name} is damaged: {fault}; using {checkpoint.name}")
        return checkpoint

    return distributed.broadcast_from_main(find)


def mark_damaged(path: Path) -> None:
    """Append `.damaged` to the name of a damaged checkpoint, so that it is kept for the user but never read again."""
    names = (f"{path.name}.damaged{'' if number == 1 else f'-{number}'}" for number in count(1))
    path.rename(next(target for target in map(path.with_name, names) if not target.exists()))


def prune_checkpoints(folder: Path, keep_steps: set[int], n_newest: int = 2) -> None:
    """Delete checkpoints, except the newest `n_newest`, `keep_steps`, and those with files that llmkit did not write.

    Each checkpoint is renamed before it is deleted, so that no partial checkpoint is ever read. Nothing is deleted
    unless the newest checkpoint verifies on the disk.
    """
    for leftover in folder.glob(".step-*.pruned"):  # of a process that was killed while pruning
        shutil.rmtree(leftover)
    known = list_checkpoints(folder)
    older = known[: max(0, len(known) - n_newest)]
    outdated = [path for path in older if int(path.name.removeprefix("step-")) not in keep_steps]
    if outdated and (fault := verify_checkpoint(known[-1])) is not None:
        console.info(f"{known[-1].name} was not written correctly: {fault}; older checkpoints are kept")
        return
    for path in outdated:
        files = list_files(path)
        if files is None or find_foreign(path, files.__contains__):
            if path == outdated[-1]:  # older ones were reported after earlier saves
                console.info(f"{path.name} is kept: it has files that llmkit did not write")
            continue
        renamed = path.with_name(f".{path.name}.pruned")
        failpoint(f"{path.name}: before pruning")
        path.rename(renamed)
        failpoint(f"{path.name}: while pruning")
        shutil.rmtree(renamed)


def delete_checkpoints(folder: Path) -> None:
    """Delete the checkpoints of a run that has ended, except those with files that llmkit did not write."""
    if folder.is_dir() and not folder.is_symlink():
        prune_checkpoints(folder, set(), n_newest=0)
        if not any(folder.iterdir()):
            folder.rmdir()


# ---- contents ----


@dataclass(frozen=True, slots=True)
class GatheredState:
    """The state of all ranks.

    It holds weights (None if the model is not sharded: rank 0 has them all), optimizer state, sums of losses since the
    last log line, random number generators by rank, and the objective's state over the global batch.
    """

    weights: dict[str, Tensor] | None
    optimizer: dict[str, Any]
    window_sums: dict[str, float]
    random: list[dict[str, Any]]
    objective: dict[str, Tensor]

    def write(self, folder: Path, model: PreTrainedModel) -> None:
        """Write the files of a checkpoint."""
        model.save_pretrained(folder, state_dict=self.weights)
        torch.save(self.optimizer, folder / OPTIMIZER)
        for rank, state in enumerate(self.random):
            torch.save(state, folder / _rng_file(rank, len(self.random)))
        if self.objective:
            save_file({name: tensor.contiguous() for name, tensor in self.objective.items()}, folder / STATE)


def gather_state(
    model: PreTrainedModel, optimizer: Optimizer, window: LossWindow, objective: Objective, n_rows: int
) -> GatheredState:
    """Gather the state from all ranks. Every rank calls it; `n_rows` is the number of rows per rank and step."""
    sums = distributed.all_reduce_sum({name: value.item() for name, value in window.sums.items()})
    state = dict(objective.state)
    if distributed.world_size() > 1:
        first = distributed.rank() * n_rows
        parts = distributed.gather(
            {name: tensor.narrow(STATE_BATCH_DIM, first, n_rows).cpu() for name, tensor in state.items()}
        )
        state = {name: torch.cat([part[name] for part in parts], STATE_BATCH_DIM) for name in state}
    rng_state = {"python": random.getstate(), "numpy": np.random.get_state(), "cpu": torch.random.get_rng_state()}
    if torch.cuda.is_available():
        rng_state["cuda"] = torch.cuda.random.get_rng_state()
    elif pick_device().type == "mps":
        rng_state["mps"] = torch.mps.get_rng_state()
    weights = unshard(model.state_dict()) if is_sharded(model) else None
    return GatheredState(weights, unshard(optimizer.state_dict()), sums, distributed.gather(rng_state), state)


def load_weights(model: PreTrainedModel, checkpoint: Path) -> None:
    """Load a checkpoint's weights into the model.

    Raises:
        ModelError: weights are missing or unexpected.
    """
    files = [path for path in sorted(checkpoint.glob("*.safetensors")) if path.name != STATE]
    found = model.load_state_dict({name: value for file in files for name, value in load_file(file).items()}, False)
    missing = sorted(set(found.missing_keys) - set(model.all_tied_weights_keys))
    if missing or found.unexpected_keys:
        what = f"the checkpoint's weights do not fit the model: {missing + found.unexpected_keys}"
        raise ModelError(what, where=str(checkpoint), hint="resume with the recipe that the run was started with")


def load_objective_state(checkpoint: Path, objective: Objective) -> None:
    """Load the state that the objective carries from step to step, if it has one."""
    if (checkpoint / STATE).is_file():
        objective.state.update({name: value.clone() for name, value in load_file(checkpoint / STATE).items()})


def load_optimizer_state(checkpoint: Path, optimizer: Optimizer) -> None:
    """Load the optimizer's moments. Learning rates and other settings come from the recipe, which may have changed."""
    settings = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    load_optimizer(optimizer, torch.load(checkpoint / OPTIMIZER, map_location="cpu", weights_only=True))
    for group, kept in zip(optimizer.param_groups, settings, strict=True):
        group.update(kept)


def load_rng_state(checkpoint: Path, seed: int) -> None:
    """Restore this rank's random number generators, or seed torch if the run had another number of ranks."""
    path = checkpoint / _rng_file(distributed.rank(), distributed.world_size())
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


def _rng_file(rank: int, n_ranks: int) -> str:
    """Return the file name that the Trainer of transformers uses."""
    return "rng_state.pth" if n_ranks == 1 else f"rng_state_{rank}.pth"
