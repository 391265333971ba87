"""Convert a model with pickled weights to safetensors, if the user asks for it with `pickle:FOLDER`.

`torch.load(weights_only=True)` refuses arbitrary code but has had vulnerabilities. Recipes therefore cannot name a
pickle; each use must be explicit.
"""

import json
import pickle
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from llmkit.core.console import first_line
from llmkit.core.errors import ModelError
from llmkit.core.files import temporary_folder

PREFIX = "pickle:"
WEIGHTS, INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"


def convert_pickle(folder: Path) -> str:
    """Convert the model in `folder` to safetensors in a temporary folder, which is deleted when the process ends.

    Raises:
        ModelError: there are no pickled weights, they hold more than tensors, or a shard is outside of the folder.
    """
    weights: dict[str, Tensor] = {}
    for name in _list_shards(folder):
        try:
            weights |= torch.load(folder / name, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, pickle.UnpicklingError, TypeError) as error:
            what = f"{name} holds more than tensors, or is damaged: {first_line(error)}"
            raise ModelError(what, where=str(folder / name), hint="give a model in safetensors") from None
    copy = temporary_folder()
    for path in folder.glob("*"):
        if path.suffix in (".json", ".txt", ".model", ".jinja") and path.is_file() and not path.is_symlink():
            shutil.copy(path, copy)
    # safetensors refuses tied weights, which share memory; they are copied, and the model ties them when it is loaded.
    tensors = {name: tensor.clone().contiguous() for name, tensor in weights.items() if isinstance(tensor, Tensor)}
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    return str(copy)


def _list_shards(folder: Path) -> list[str]:
    if (folder / WEIGHTS).is_file() and not (folder / WEIGHTS).is_symlink():
        return [WEIGHTS]
    hint = f"{PREFIX} takes a folder with {WEIGHTS}; a hub model must be downloaded first"
    try:
        named = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values()
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        raise ModelError("there are no pickled weights", where=str(folder), hint=hint) from None
    shards = sorted({str(name) for name in named})
    for name in shards:
        if Path(name).name != name or not (folder / name).is_file() or (folder / name).is_symlink():
            raise ModelError(f"{name!r} is not a file in the folder", where=str(folder / INDEX), hint=hint)
    return shards
