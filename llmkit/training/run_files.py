"""Decide which paths in a run folder were written by llmkit: --overwrite deletes only those.

Does not import torch, so that a wrong --out is reported before slow imports.
"""

import json
import re
import shutil
from pathlib import Path
from typing import Any

from llmkit.core.files import link_or_copy, read_json
from llmkit.core.output_paths import IsOurs, delete_ours, find_foreign, refuse_foreign

MANIFEST = "MANIFEST.json"
"""The manifest of a checkpoint."""
_TOP = re.compile(
    r"(recipe\.yaml|manifest\.json|log\.jsonl|metrics\.json|report\.html"
    r"|\.(recipe\.yaml|manifest\.json|log\.jsonl|metrics\.json|report\.html)(\.[0-9a-f-]+)?\.partial"
    r"|refused-step-[0-9]+(-rank-[0-9]+)?\.json|\.llmkit-probe-[0-9]+"
    r"|predictions/((validation|test)\.safetensors|\.(validation|test)\.safetensors\.partial)?"
    r"|(checkpoints|model)/|(tensorboard|wandb|swanlab|\.model\.(partial|old))/.*)",
    re.DOTALL,
)
"""In the folders of trackers and in unfinished folders, every path counts as written by llmkit."""
_UNFINISHED_STEP = re.compile(
    r"checkpoints/(\.step-[0-9]+\.(partial|old|pruned)|step-[0-9]+\.damaged(-[0-9]+)?)/.*", re.DOTALL
)
_STEP = re.compile(r"checkpoints/(step-[0-9]+)/(.*)", re.DOTALL)
_MODEL_FILE = re.compile(
    r"README\.md|(config|generation_config|adapter_config|preprocessor_config|tokenizer|tokenizer_config|added_tokens"
    r"|special_tokens_map|vocab|vocab_bpe|quantization_config)\.json|vocab\.txt|merges\.txt|bpe\.codes|dict\.txt|emoji\.json"
    r"|(adapter_)?model(-[0-9]+-of-[0-9]+)?\.safetensors|(adapter_)?model\.safetensors\.index\.json|[^/]*\.model|[^/]*\.tiktoken|chat_template\.(jinja|json)"
    r"|additional_chat_templates/([^/]*\.jinja)?"
)
"""The files that `save_pretrained` of models, adapters and tokenizers writes."""
_PART_NAME = r"(?:rows-(?:[0-9]+|all))?-?(?:fold-[0-9]+)?-?(?:seed-[0-9]+)?"
_PART = re.compile(rf"({_PART_NAME})/(.*)", re.DOTALL)
_PART_LOCK = re.compile(rf"\.(?=[rfs]){_PART_NAME}\.lock")


def is_run(path: Path) -> bool:
    """Whether a training command created this folder: it has a run's manifest.

    A recipe alone may be the user's own, and a prepared folder has a manifest too. The manifest is written before the
    recipe and deleted after it, so a process that is killed in between leaves a run.
    """
    if not (path / "recipe.yaml").is_file():
        manifest = _read_object(path / "manifest.json")
        return "task" in manifest and not {"plan", "series"}.isdisjoint(manifest)
    if not (path / "manifest.json").is_file():
        return any(path.glob(".manifest.json*.partial"))  # killed while it was written
    try:
        manifest = read_json(path / "manifest.json")
    except (OSError, ValueError):  # damaged; the names of both files still identify a run
        return True
    return not (isinstance(manifest, dict) and str(manifest.get("format", "")).startswith("llmkit-prepared"))


def refuse_foreign_files(path: Path) -> None:
    """Check that llmkit wrote all files of a run that is to be deleted.

    Raises:
        UsageError: there are other files; the error names the first three.
    """
    refuse_foreign(path, _is_ours(path), where="--overwrite")


def delete_run(path: Path) -> None:
    """Delete the files that llmkit wrote; delete the recipe and the manifest, which identify a run, last."""
    delete_ours(path, _is_ours(path), last=["recipe.yaml", "manifest.json"])


def keep_foreign_files(model: Path, replacement: Path) -> None:
    """Link or copy files that users added to the folder `model` to the folder that replaces it."""
    for name in find_foreign(model, lambda name: _MODEL_FILE.fullmatch(name) is not None):
        source, target = model / name, replacement / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir() and not source.is_symlink():
            shutil.copytree(source, target, symlinks=True, copy_function=link_or_copy)
        elif not target.exists():
            link_or_copy(source, target)


def list_files(folder: Path) -> set[str] | None:
    """Return the paths in a checkpoint that llmkit wrote, folders with a slash; None if its manifest cannot be read."""
    try:
        files = read_json(folder / MANIFEST)["files"]
        return {"", MANIFEST, *files, *(f"{parent.as_posix()}/" for name in files for parent in Path(name).parents)}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_ours(path: Path) -> IsOurs:
    steps: dict[str, set[str] | None] = {}
    parts: dict[str, IsOurs] = {}
    has_parts = isinstance(_read_object(path / "manifest.json").get("series"), dict)

    def is_ours(name: str) -> bool:
        if _TOP.fullmatch(name) or _UNFINISHED_STEP.fullmatch(name):
            return True
        if name.startswith("model/"):
            return _MODEL_FILE.fullmatch(name.removeprefix("model/")) is not None
        if match := _STEP.fullmatch(name):
            step, inner = match[1], match[2]
            if step not in steps:
                steps[step] = list_files(path / "checkpoints" / step)
            known = steps[step]
            return known is None or inner in known
        if has_parts and _PART_LOCK.fullmatch(name):
            return True
        if has_parts and (match := _PART.fullmatch(name)) and match[1]:
            inside = parts.setdefault(match[1], _is_ours(path / match[1]))
            return not match[2] or inside(match[2])
        return False

    return is_ours


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = read_json(path)
    except (OSError, json.JSONDecodeError, UnicodeDecodeError):
        return {}
    return value if isinstance(value, dict) else {}
