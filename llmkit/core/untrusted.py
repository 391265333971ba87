"""Checks of untrusted model folders before a library opens them.

`from_pretrained` follows names in a folder's JSON files (weight shards, a base model, a kernel, a class) and symbolic
links. This module checks all of them first; `models/loading.py` and `tokens/loading.py` call it. Pickles are refused
unless the user writes `pickle:FOLDER` (models/pickles.py).

Knows nothing of architectures. The safetensors library checks its own files.
"""

import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from llmkit.core.errors import EnvironmentFault, ModelError
from llmkit.core.output_paths import expand_home

CONFIG, INDEX, TOKENIZER = "config.json", "model.safetensors.index.json", "tokenizer_config.json"
ADAPTER = "adapter_config.json"
CHECKED = (CONFIG, INDEX, TOKENIZER, ADAPTER)
"""JSON files that name other files, models or classes, which libraries open."""

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.msgpack", "*.h5")
CONVERT = "convert it to safetensors (docs/faults.md, row 41), or if you trust it, give pickle:FOLDER as its name"

_KERNELS = ("attn_implementation", "experts_implementation", "attn_implementation_internal")
_TOKENIZER_CLASSES = ("Tokenizer", "TokenizerFast", "Backend")


def check_model_files(name: str, fetch: Callable[[str], Path | None] | None = None, *, weights: bool = True) -> None:
    """Check that a folder, or a hub model whose files `fetch` gets by name, refers to nothing outside of itself.

    With `weights`, also refuse a folder whose weights are only pickles.

    Raises:
        ModelError: it refers to something outside; the error names the file and the key.
        EnvironmentFault: there is no permission to read a file of the folder.
    """
    folder = expand_home(name)
    if folder.is_dir():
        _check_links(folder)
        _check_names(name, lambda file: folder / file)
        if weights and (folder / CONFIG).is_file() and not any(folder.glob("*.safetensors")):
            _refuse_pickles(name, folder)
    elif fetch is not None:
        _check_names(name, fetch)


def _check_links(folder: Path) -> None:
    """Check symbolic links; links from a snapshot in the hub's cache to its blobs are allowed."""
    home = folder.resolve()
    allowed = [home, home.parent.parent / "blobs"] if home.parent.name == "snapshots" else [home]
    for path in [*folder.iterdir(), *folder.glob("additional_chat_templates/*")]:
        target = path.resolve()
        kind = path.stat().st_mode if path.exists() else 0
        is_other_folder = path.is_symlink() and stat.S_ISDIR(kind) and path.name != "additional_chat_templates"
        if not any(target.is_relative_to(place) for place in allowed) and not is_other_folder:
            hint = "if you trust the target of the link, replace the link with a copy of it"
            raise ModelError(
                f"{path.name} is a link to a place outside of the model's folder", where=str(path), hint=hint
            )
        if kind and not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
            raise ModelError(f"{path.name} is not a regular file", where=str(path), hint="remove it from the folder")
        if kind and not os.access(path, os.R_OK):  # libraries would say that there is no such file
            hint = f"ask its owner for read permission: chmod a+rX {folder}/*"
            raise EnvironmentFault(f"no permission to read {path.name}", where=str(path), hint=hint)


def _check_names(name: str, fetch: Callable[[str], Path | None]) -> None:
    found = {file: _read_object(fetch(file)) for file in CHECKED}
    if found[ADAPTER] is not None:
        hint = "merge it into its base model (peft: merge_and_unload, then save_pretrained) and give the merged folder"
        raise ModelError("this is an adapter, which names another model to load", where=f"{name}/{ADAPTER}", hint=hint)
    shards = (found[INDEX] or {}).get("weight_map")
    for shard in {str(each) for each in shards.values()} if isinstance(shards, dict) else ():
        _check_weights_name(shard, f"{name}/{INDEX}, weight_map")
    config = found[CONFIG] or {}
    if (weights := config.get("transformers_weights")) is not None:
        _check_weights_name(str(weights).removesuffix(".index.json"), f"{name}/{CONFIG}, transformers_weights")
    for key, value in _flatten(config):
        if key.endswith(_KERNELS) and "/" in str(value):
            hint = "kernels are third-party code, which is never run; remove the key from the file"
            raise ModelError(
                f"the model refers to a kernel of the hub: {value!r}", where=f"{name}/{CONFIG}, {key}", hint=hint
            )
    for file in (CONFIG, TOKENIZER):
        kind = (found[file] or {}).get("tokenizer_class")
        if kind is not None and not str(kind).endswith(_TOKENIZER_CLASSES):
            what = f"{kind!r} is not a tokenizer class"
            raise ModelError(what, where=f"{name}/{file}, tokenizer_class", hint="remove the key from the file")


def _flatten(config: dict[str, Any]) -> Iterator[tuple[str, object]]:
    """Yield all keys with their values, including the keys of nested configurations."""
    for key, value in config.items():
        yield key, value
        if isinstance(value, dict):
            yield from _flatten(value)


def _check_weights_name(shard: str, where: str) -> None:
    if "/" in shard or "\\" in shard or ":" in shard or not shard.endswith(".safetensors"):
        hint = "such a model is damaged or hostile; only .safetensors files in the folder itself are read"
        raise ModelError(f"the model refers to {shard!r} as a file of its weights", where=where, hint=hint)


def _refuse_pickles(name: str, folder: Path) -> None:
    pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
    if pickles:
        what = f"the weights are not safetensors but {pickles[0]}; reading a pickle can run any code"
        raise ModelError(what, where=name, hint=CONVERT)


def _read_object(path: Path | None) -> dict[str, Any] | None:
    """Read a JSON object; None without such a file. The library reports a file that cannot be read."""
    if path is None or not path.is_file():
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
