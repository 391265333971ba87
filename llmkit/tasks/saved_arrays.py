"""Arrays with one entry per held-out row, saved in the folder of a run, so that `compare` can test two runs.

`predictions/SPLIT.safetensors` has the hash of each row and what the task needs to compute its metrics again. Texts are
not saved. Does not import torch.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from llmkit.core.errors import ModelError

FOLDER = "predictions"
Arrays = dict[str, NDArray[Any]]
Saved = TypeVar("Saved")


def save_arrays(run: Path, split: str, arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, str]) -> None:
    """Write the arrays of a split to a run folder, atomically, with `facts` as metadata."""
    from safetensors.numpy import save

    path = run / FOLDER / f"{split}.safetensors"
    path.parent.mkdir(exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    # Not `save_file`: it creates a file that only the user may read.
    kept = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    partial.write_bytes(save(kept, metadata=dict(facts)))
    partial.replace(path)


def load_arrays(run: Path, split: str, parse: Callable[[Arrays, Mapping[str, str]], Saved]) -> Saved | None:
    """Return what `parse` makes of the arrays and the metadata of a split; None if the run has no file for the split.

    `parse` raises KeyError, TypeError or ValueError if arrays or metadata differ from what the task saves.

    Raises:
        ModelError: the file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    path = run / FOLDER / f"{split}.safetensors"
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            return parse(arrays, file.metadata() or {})
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        hint = f"delete the file; `llmkit eval {run} --split {split}` writes it again"
        raise ModelError(f"the saved predictions are damaged: {error}", where=str(path), hint=hint) from None


def shrink(values: NDArray[Any]) -> NDArray[Any]:
    """Return ids or counts as the smallest unsigned type, and other numbers as float64."""
    if np.issubdtype(values.dtype, np.floating):
        return values.astype(np.float64)
    return values.astype(np.min_scalar_type(int(values.max(initial=0))))
