"""Checkpoints: folders `step-N` that are whole or absent, and proven so when they are read.

MANIFEST.json is written last and names every file with its size and SHA-256, and has one of its own. Loading takes
the newest that verifies. Pruning touches only folders of ours.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llmkit.core import console, distributed
from llmkit.core.errors import ModelError
from llmkit.core.files import hash_file, new_folder, reached, read_json, write_json

MANIFEST = "MANIFEST.json"
_NAME = re.compile(r"step-(\d+)")


@contextmanager
def write_checkpoint(folder: Path, step: int, facts: dict[str, Any]) -> Iterator[Path]:
    """A temporary folder to fill, which becomes `folder/step-N` when the block ends well.

    `facts` are all that a resumed run must agree with; they are kept in the manifest.
    """
    with new_folder(folder / f"step-{step}") as partial:
        yield partial
        reached(f"step-{step}: before hashing")
        files = {
            str(path.relative_to(partial)): {"bytes": path.stat().st_size, "sha256": hash_file(path)}
            for path in sorted(partial.rglob("*"))
            if path.is_file()
        }
        manifest = {"step": step, **facts, "files": files}
        write_json(partial / MANIFEST, manifest | {"sha256": _hash_manifest(manifest)})


def find_checkpoint(folder: Path) -> tuple[Path, dict[str, Any], dict[str, str]]:
    """The newest checkpoint that verifies, its manifest, and the fault of each newer one, by its name.

    Raises:
        ModelError: there is none.
    """
    passed_over: dict[str, str] = {}
    for path in reversed(list_checkpoints(folder)):
        fault = verify_checkpoint(path)
        if fault is None:
            return path, read_json(path / MANIFEST), passed_over
        passed_over[path.name] = fault
    faults = (f"{name} is damaged: {fault}" for name, fault in passed_over.items())
    what = "; ".join(faults) or "there is no checkpoint"
    hint = "start again with --overwrite; the folder's own copies, if you have any, can be put back"
    raise ModelError(f"nothing to resume from: {what}", where=str(folder), hint=hint)


def set_aside(path: Path) -> None:
    """Rename a damaged checkpoint, so that it is neither read nor counted again; the user may look at it."""
    aside = path.with_name(f"{path.name}.damaged")
    shutil.rmtree(aside, ignore_errors=True)
    path.rename(aside)


def verify_checkpoint(path: Path) -> str | None:
    """What is wrong with a checkpoint; None where every file has its size and hash."""
    try:
        manifest = read_json(path / MANIFEST)
    except (OSError, ValueError) as error:
        return f"{MANIFEST}: {error}"
    if not isinstance(manifest, dict) or manifest.pop("sha256", None) != _hash_manifest(manifest):
        return f"{MANIFEST} has another SHA-256 than when it was written"
    for name, expected in manifest["files"].items():
        file = path / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != expected["bytes"]:
            return f"{name} has {file.stat().st_size} bytes instead of {expected['bytes']}"
        if hash_file(file) != expected["sha256"]:
            return f"{name} has another SHA-256 than when it was written"
    return None


def _hash_manifest(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def list_checkpoints(folder: Path) -> list[Path]:
    """Our checkpoints, oldest step first; a user's `step-keep` or `checkpoint-10` is none."""
    found = [(int(match[1]), path) for path in folder.glob("step-*") if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def prune_checkpoints(folder: Path, keep_steps: set[int], n_newest: int = 2) -> None:
    """Delete all but the newest `n_newest` and `keep_steps`, each renamed first so no half is ever read.

    Nothing is deleted unless the newest is whole as it lies on the disk.
    """
    for leftover in folder.glob(".step-*.pruned"):  # of a process that died while it pruned
        shutil.rmtree(leftover)
    known = list_checkpoints(folder)
    doomed = [path for path in known[:-n_newest] if int(path.name.removeprefix("step-")) not in keep_steps]
    if doomed and (fault := verify_checkpoint(known[-1])) is not None:
        console.info(f"{known[-1].name} did not get to the disk whole: {fault}; older ones are kept")
        return
    for path in doomed:
        old = path.with_name(f".{path.name}.pruned")
        reached(f"{path.name}: before pruning")
        path.rename(old)
        reached(f"{path.name}: while pruning")
        shutil.rmtree(old)


def find_resume_point(checkpoints: Path) -> Path:
    """The newest sound checkpoint; damaged newer ones are said."""

    def find() -> Path:
        checkpoint, _, passed_over = find_checkpoint(checkpoints)
        for name, fault in passed_over.items():
            console.info(f"{name} is damaged: {fault}; using {checkpoint.name}")
        return checkpoint

    return distributed.broadcast_from_main(find)
