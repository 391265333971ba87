"""Model and data of a training command: from its options, else from the section `inputs` of its recipe.

Does not import torch, so that a moved file is reported before slow imports.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from llmkit.config.inputs import Inputs
from llmkit.config.loading import find_line, load_recipe
from llmkit.config.recipe import Recipe
from llmkit.core import console
from llmkit.core.errors import DataError, ModelError, UsageError
from llmkit.core.output_paths import expand_home
from llmkit.text.inputs import find_files, is_stream
from llmkit.training.folder import RunFolder, read_series

OPTIONS = {"model": "model", "data": "train", "validation": "validation", "test": "test"}
"""Maps keys of the section `inputs` to the splits of their files, and `model` to itself."""


def choose_inputs(
    recipe: Recipe, path: Path | None, model: str | None, files: Mapping[str, str]
) -> tuple[str | None, dict[str, str]]:
    """Return (model, files by split) from the options, else from the recipe in `path`; logs values from the recipe.

    Raises:
        DataError, ModelError: the recipe names a file or folder that does not exist; the error names the key.
        UsageError: the recipe names a pickle.
    """
    given = {key: files.get(split) if key != "model" else model for key, split in OPTIONS.items()}
    taken = {key: value for key, value in recipe.inputs.given.items() if given[key] is None}
    for key, value in taken.items():
        _check(key, value, path)
    if taken:
        listed = ", ".join(f"{key} {value}" for key, value in taken.items())
        console.info(f"from {path or 'the recipe'}: {listed}")
        if path is not None:
            _note_series(path.parent)
    chosen = {key: value for key, value in (given | taken).items() if value is not None}
    return chosen.pop("model", None), {OPTIONS[key]: value for key, value in chosen.items()}


def choose_prepared(
    recipe: Recipe, path: Path | None, model: str | None, data: str | Path | None, run: Path | None = None
) -> tuple[str | None, Path]:
    """Return (model, prepared folder) for pretraining from the options, else from the recipe.

    If a `run` is resumed, its own data is the default.

    Raises:
        UsageError: no data is named. See also `choose_inputs`.
    """
    if run is not None:
        folder = RunFolder(run)
        found = data if data is not None or not folder.manifest.is_file() else folder.data_path
    else:
        model, files = choose_inputs(recipe, path, model, {} if data is None else {"train": str(data)})
        found = files.get("train")
    if found is None:
        hint = "give --data with a folder from `llmkit prepare`, or set inputs.data in the recipe"
        raise UsageError("no training data is given", where="--data", hint=hint)
    return model, Path(found)


def is_resumed_alone(out: Path, resume: bool | Literal["auto"], recipe: object) -> bool:
    """Whether a command resumes a run without giving a recipe; the run's manifest then names model and data."""
    if not resume or recipe is not None:
        return False
    started = any(RunFolder(out).checkpoints.glob("step-*"))
    return resume is True or started or read_series(out).has_several_runs


def record_inputs(recipe: Recipe, out: Path, model: str | None, files: Mapping[str, str], *, resume: bool) -> Recipe:
    """Return the recipe with the paths of model and files relative to `out`, where it is written.

    A resumed run keeps its model and files unless others are given. Paths that are not UTF-8 cannot be written to a
    recipe and are omitted.
    """
    given = {key: files.get(split) if key != "model" else model for key, split in OPTIONS.items()}
    given = {key: value for key, value in given.items() if value is not None and _is_text(value)}
    inputs = load_recipe(RunFolder(out).recipe).inputs if resume else Inputs()
    return recipe.with_updates(inputs=inputs.with_updates(**given).written_to(out))


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check(key: str, value: str, path: Path | None) -> None:
    """Check that a file or folder of the recipe exists."""
    where = "inputs" if path is None else find_line(path, ("inputs", key))
    option = f"--{key}"
    if value.startswith("pickle:"):
        hint = f"give it on the command line every time: {option} {value}"
        raise UsageError("a recipe cannot name a pickle", where=where, hint=hint)
    if _exists(key, value):
        return
    hint = f"change inputs.{key} in the recipe, or give {option}"
    if path is not None and not Path(value).is_absolute():
        raw = os.path.relpath(value, path.parent)
        hint = f"paths are relative to the folder of the recipe; {hint}"
        if Path(raw).exists():
            hint = f"paths are relative to the folder of the recipe, not to the current folder; give {option} {raw}"
    kind, noun = (ModelError, "model") if key == "model" else (DataError, "file or folder")
    raise kind(f"there is no {noun} {value!r}", where=where, hint=hint)


def _exists(key: str, value: str) -> bool:
    """Whether a file or folder exists; True for names of the hub, which are looked up later."""
    if value.startswith("hf:") or expand_home(value).exists() or is_stream(value):
        return True
    if key == "model":
        return not value.startswith((".", "/", "~"))
    try:
        return bool(find_files([value]))  # a glob
    except DataError:
        return False


def _note_series(folder: Path) -> None:
    """Print which options are needed to repeat a run, if its recipe alone is not sufficient."""
    run = RunFolder(folder)
    manifest = run.read_manifest() if run.manifest.is_file() else {}
    origin = manifest.get("origin", {})
    if fold := origin.get("fold"):
        console.info(f"the run was fold {fold[0]} of {fold[1]}; the new run holds out other rows")
    series = read_series(folder) if run.manifest.is_file() else None
    if series is not None and series.has_several_runs:
        sizes = ",".join("all" if size is None else str(size) for size in series.sizes)
        options = [f"--folds {series.folds}"] if series.folds else []
        options += [f"--seeds {series.seeds}"] if series.seeds > 1 else []
        options += [f"--learning-curve {sizes}"] if sizes else []
        console.info(f"the recipe belongs to a series of runs; to repeat the series, add {' '.join(options)}")
