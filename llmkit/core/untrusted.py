"""Model folders from strangers: refused before a library opens them, where they name what is not theirs.

`from_pretrained` follows the names that a folder's JSON files hold: shards of weights, a base model, a kernel, a class.
And a link in the folder is read like a file. So all names and links are looked at first, in this one place, which
`models/loading.py` and `tokens/tokenizer.py` go through. Pickles are refused unless the model's name allows them
(models/pickles.py).

Does not know architectures, and does not look into safetensors files, whose library checks them itself.
"""

import json
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from llmkit.core.errors import ModelError

CONFIG, INDEX, TOKENIZER = "config.json", "model.safetensors.index.json", "tokenizer_config.json"
ADAPTER = "adapter_config.json"
CHECKED = (CONFIG, INDEX, TOKENIZER, ADAPTER)
"""The files with names in them that are followed."""

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.msgpack", "*.h5")
CONVERT = "convert it to safetensors (docs/faults.md, row 41), or if you trust it, give pickle:FOLDER as its name"

_KERNELS = ("attn_implementation", "experts_implementation", "attn_implementation_internal")
_TOKENIZER_CLASSES = ("Tokenizer", "TokenizerFast", "Backend")


def check_model_files(name: str, fetch: Callable[[str], Path | None] | None = None, *, weights: bool = True) -> None:
    """Refuse a folder, or a hub model whose files `fetch` gets by their names, that reaches beyond itself.

    With `weights` also one whose weights are pickles alone.

    Raises:
        ModelError: names the file, and the key in it.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        _check_links(folder)
        _check_names(name, lambda file: folder / file)
        if weights and (folder / CONFIG).is_file() and not any(folder.glob("*.safetensors")):
            _refuse_pickles(name, folder)
    elif fetch is not None:
        _check_names(name, fetch)


def _check_links(folder: Path) -> None:
    """The hub's own cache is full of links, from a snapshot to blobs beside it; they stay allowed."""
    home = folder.resolve()
    allowed = [home, home.parent.parent / "blobs"] if home.parent.name == "snapshots" else [home]
    for path in [*folder.iterdir(), *folder.glob("additional_chat_templates/*")]:
        target = path.resolve()
        kind = path.stat().st_mode if path.exists() else 0
        is_other_folder = path.is_symlink() and stat.S_ISDIR(kind) and path.name != "additional_chat_templates"
        if not any(target.is_relative_to(place) for place in allowed) and not is_other_folder:
            hint = "put the file itself in its place, if you trust where the link leads"
            raise ModelError(f"{path.name} is a link that leads out of the model's folder", where=str(path), hint=hint)
        if kind and not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
            raise ModelError(f"{path.name} is no ordinary file", where=str(path), hint="remove it from the folder")


def _check_names(name: str, fetch: Callable[[str], Path | None]) -> None:
    found = {file: _read_object(fetch(file)) for file in CHECKED}
    if found[ADAPTER] is not None:
        hint = "merge it into its base model (peft: merge_and_unload, then save_pretrained) and give that folder"
        raise ModelError("this is an adapter, which names another model to load", where=f"{name}/{ADAPTER}", hint=hint)
    shards = (found[INDEX] or {}).get("weight_map")
    for shard in {str(each) for each in shards.values()} if isinstance(shards, dict) else ():
        _check_weights_name(shard, f"{name}/{INDEX}, weight_map")
    config = found[CONFIG] or {}
    if (weights := config.get("transformers_weights")) is not None:
        _check_weights_name(str(weights).removesuffix(".index.json"), f"{name}/{CONFIG}, transformers_weights")
    for key, value in _flatten(config):
        if key.endswith(_KERNELS) and "/" in str(value):
            hint = "kernels are code of strangers and are not run; take it out of the file"
            raise ModelError(
                f"the model wants a kernel from the hub: {value!r}", where=f"{name}/{CONFIG}, {key}", hint=hint
            )
    for file in (CONFIG, TOKENIZER):
        kind = (found[file] or {}).get("tokenizer_class")
        if kind is not None and not str(kind).endswith(_TOKENIZER_CLASSES):
            what = f"{kind!r} is no class of tokenizers"
            raise ModelError(what, where=f"{name}/{file}, tokenizer_class", hint="take it out of the file")


def _flatten(config: dict[str, Any]) -> Iterator[tuple[str, object]]:
    """All keys with their values, those of configurations inside the configuration too."""
    for key, value in config.items():
        yield key, value
        if isinstance(value, dict):
            yield from _flatten(value)


def _check_weights_name(shard: str, where: str) -> None:
    if "/" in shard or "\\" in shard or ":" in shard or not shard.endswith(".safetensors"):
        hint = "such a model is damaged or hostile; only .safetensors files in the folder itself are read"
        raise ModelError(f"the model names {shard!r} as a file of its weights", where=where, hint=hint)


def _refuse_pickles(name: str, folder: Path) -> None:
    pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
    if pickles:
        what = f"the weights are no safetensors but {pickles[0]}, and reading a pickle can run any code"
        raise ModelError(what, where=name, hint=CONVERT)


def _read_object(path: Path | None) -> dict[str, Any] | None:
    """A JSON object; None where there is no such file. What cannot be read is left to the library's own error."""
    if path is None or not path.is_file():
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
