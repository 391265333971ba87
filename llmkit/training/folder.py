"""The run folder: what lies in it, and who may write to it.

recipe.yaml  manifest.json  log.jsonl  checkpoints/step-N/  model/  metrics.json  report.html
"""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from llmkit.core.errors import ModelError, UsageError
from llmkit.core.files import PARTIAL, check_writable, read_json, write_json, write_text


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Paths and small files of one run."""

    path: Path

    @property
    def recipe(self) -> Path:
        return self.path / "recipe.yaml"

    @property
    def manifest(self) -> Path:
        return self.path / "manifest.json"

    @property
    def log(self) -> Path:
        return self.path / "log.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.json"

    @property
    def data_path(self) -> Path:
        """The prepared folder; written relative to the run, so that both can be moved together."""
        return Path(os.path.normpath(self.path / read_json(self.manifest)["data_path"]))

    def append_log(self, record: dict[str, Any]) -> None:
        """One more line of log.jsonl. A number that is not finite becomes null: NaN is not JSON."""
        clean = {key: None if isinstance(v, float) and v - v != 0 else v for key, v in record.items()}
        with self.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(clean, ensure_ascii=False, allow_nan=False) + "\n")

    def read_log(self, kind: str) -> list[dict[str, Any]]:
        """The records of one kind in log.jsonl."""
        lines = self.log.read_text(encoding="utf-8").split("\n")  # a sample may hold other line ends
        records: list[dict[str, Any]] = [json.loads(line) for line in lines if line]
        return [record for record in records if record["kind"] == kind]

    def truncate_log(self, last_step: int) -> None:
        """Drop what was logged after `last_step`, so that a resumed run logs each step once."""
        if not self.log.exists():
            return
        lines = self.log.read_text(encoding="utf-8").split("\n")  # a sample may hold other line ends
        kept = [line for line in lines if (record := _parse(line)) and record.get("step", 0) <= last_step]
        write_text(self.log, "".join(line + "\n" for line in kept))

    def add_metrics(self, name: str, values: dict[str, Any]) -> None:
        """Set one entry of metrics.json, such as `validation` or `training`."""
        known = read_json(self.metrics) if self.metrics.exists() else {}
        write_json(self.metrics, known | {name: values})


def resolve_resume(path: Path, resume: bool | Literal["auto"], overwrite: bool) -> tuple[bool, bool]:
    """What `auto`, for schedulers that start the same command again, means here, as (resume, overwrite): go on where
    there is a checkpoint, else start, over what a start without one left behind."""
    if resume != "auto":
        return resume, overwrite
    if overwrite:
        hint = "keep one of them"
        raise UsageError("--resume auto and --overwrite exclude each other", where="--overwrite", hint=hint)
    run = RunFolder(path)
    if any(run.checkpoints.glob("step-*")):
        return True, False
    return False, run.recipe.is_file() and _holds_nothing(run)


def _holds_nothing(run: RunFolder) -> bool:
    """Whether only what a start writes is there: no checkpoint, no model, no figures, no series of runs."""
    first = ("recipe.yaml", "manifest.json", "log.jsonl", "checkpoints", "tensorboard", "wandb", "swanlab")
    strange = [each for each in run.path.iterdir() if each.name not in first and not each.name.endswith(PARTIAL)]
    return not strange and not run.checkpoints.is_symlink() and read_series(run.path) == (None, 1)


def is_finished(path: Path) -> bool:
    """Whether the run in `path` has come to its end: the report is what it writes last."""
    return (path / "report.html").is_file() and RunFolder(path).metrics.is_file()


def check_run(path: Path, *, resume: bool, overwrite: bool) -> None:
    """Refuse early what `create_run` would refuse, and change nothing.

    Raises:
        UsageError: the folder has something in it and neither --resume nor --overwrite was given, or both
            were, or --overwrite would delete what is not a run; --resume where there is nothing to resume.
    """
    is_run = RunFolder(path).recipe.is_file()
    # What a killed process had begun to write is nothing.
    taken = any(not each.name.endswith(PARTIAL) for each in path.iterdir()) if path.is_dir() else path.exists()
    if resume and overwrite:
        raise UsageError("--resume and --overwrite exclude each other", where="--overwrite", hint="keep one of them")
    if resume and not is_run:
        hint = "start it without --resume"
        raise UsageError(f"there is no run to resume in {str(path)!r}", where="--resume", hint=hint)
    if path.is_file():
        raise UsageError(f"{str(path)!r} is a file", where="--out", hint="give the name of a folder to make")
    if taken and overwrite and not is_run:
        hint = "give the folder of a run, or an empty one"
        raise UsageError(f"{str(path)!r} is not a run of llmkit; it is not deleted", where="--overwrite", hint=hint)
    if taken and not resume and not overwrite:
        hint = "--resume goes on with it, --overwrite deletes it first; or give another --out"
        raise UsageError(f"{str(path)!r} is not empty", where="--out", hint=hint)


def create_run(path: Path, *, resume: bool, overwrite: bool) -> RunFolder:
    """Make the run folder, or take up an existing one; call it last, as `overwrite` deletes.

    Raises:
        UsageError: as `check_run`.
        EnvironmentFault: it cannot be written to.
    """
    check_writable(path)
    check_run(path, resume=resume, overwrite=overwrite)
    if overwrite and path.exists():
        shutil.rmtree(path)
    path.mkdir(parents=True, exist_ok=True)
    return RunFolder(path)


def open_run(path: Path) -> RunFolder:
    """An existing run.

    Raises:
        ModelError: `path` is not a run folder.
    """
    run = RunFolder(path)
    if not run.recipe.is_file():
        hint = "give the --out folder of a training command"
        raise ModelError(f"{str(path)!r} is not a run folder: it has no recipe.yaml", where=str(path), hint=hint)
    return run


def read_series(path: Path) -> tuple[int | None, int]:
    """Folds and seeds of a series of runs; (None, 1) for a single run."""
    manifest = RunFolder(path).manifest
    series = read_json(manifest).get("series", {}) if manifest.is_file() else {}
    return series.get("folds"), series.get("seeds", 1)


def _parse(line: str) -> dict[str, Any] | None:
    """A log record; None for the torn last line of a killed run."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
