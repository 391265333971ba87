"""What a run was trained from and on, in its manifest: as seen from the run, so that all can be moved together."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmkit.core.files import read_json
from llmkit.training.folder import RunFolder


def describe_origin(model: str, files: Mapping[str, str], out: Path) -> dict[str, Any]:
    """Model and files of a run in `out`, for its manifest."""
    start = model if not Path(model).exists() else os.path.relpath(Path(model).expanduser(), out)
    relative = {
        name: path if path.startswith("hf:") else os.path.relpath(Path(path).expanduser(), out)
        for name, path in files.items()
    }
    return {"start": start, "files": relative}


def load_origin(run: RunFolder, model: str | None, files: Mapping[str, str]) -> tuple[str | None, Mapping[str, str]]:
    """Model and files of the run's first start, unless they are given anew."""
    origin = read_json(run.manifest).get("origin", {}) if run.manifest.is_file() else {}
    start = origin.get("start")
    if model is None and start is not None:
        model = str(run.path / start) if (run.path / start).exists() else start
    return model, files or origin_files(run.path, origin)


def origin_files(run: Path, origin: Mapping[str, Any]) -> dict[str, str]:
    """The files that a run was trained on, as seen from here."""
    files = origin.get("files", {})
    return {n: path if path.startswith("hf:") else os.path.normpath(run / path) for n, path in files.items()}
