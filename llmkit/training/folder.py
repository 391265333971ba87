"""The run folder: its files, rules for creating, resuming and replacing it, and the origin of its model and data.

recipe.yaml manifest.json log.jsonl checkpoints/step-N/ model/ metrics.json predictions/ report.html

Paths in the manifest are relative to the run, so that run, model and data can be moved together.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal, NamedTuple

from llmkit.core.errors import UsageError
from llmkit.core.files import PARTIAL, nan_to_null, write_json, write_text
from llmkit.core.lock import lock_output
from llmkit.core.output_paths import check_writable, expand_home, refuse_inputs_inside
from llmkit.training import run_state
from llmkit.training.run_files import delete_run, is_run, refuse_foreign_files
from llmkit.training.run_record import not_a_run


class RunFolder:
    """Paths and small files of a run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recipe = path / "recipe.yaml"
        self.manifest = path / "manifest.json"
        self.log = path / "log.jsonl"
        self.checkpoints = path / "checkpoints"
        self.model = path / "model"
        self.metrics = path / "metrics.json"

    @property
    def data_path(self) -> Path:
        """Return the prepared folder on which the run was trained."""
        return Path(os.path.normpath(self.path / self.read_manifest()["data_path"]))

    def read_manifest(self) -> dict[str, Any]:
        """Read manifest.json. Raises ModelError if it is damaged."""
        return run_state.read_manifest(self.manifest)

    def read_metrics(self) -> dict[str, Any]:
        """Read metrics.json; empty if there is none. Raises ModelError if it is damaged."""
        return run_state.read_metrics(self.metrics)

    def check_files(self) -> None:
        """Read all files that a later step needs, so that damage is reported before long work.

        Raises:
            ModelError: a file is damaged; the error names the file and how to continue.
        """
        if self.manifest.exists():
            self.read_manifest()
        self.read_metrics()
        for _ in run_state.read_log(self.log):
            pass

    def append_log(self, record: dict[str, Any]) -> None:
        """Append a line to log.jsonl. A number that is not finite becomes null, as JSON has no NaN."""
        with self.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(nan_to_null(record), ensure_ascii=False, allow_nan=False) + "\n")

    def read_log(self, kind: str) -> list[dict[str, Any]]:
        """Return the records of one kind in log.jsonl. Raises ModelError if it is damaged."""
        return [record for _, record in run_state.read_log(self.log) if record["kind"] == kind]

    def truncate_log(self, last_step: int) -> None:
        """Delete records after `last_step`, so a resumed run logs each step once.

        Also deletes the last line of a killed run if it is incomplete.
        """
        if self.log.exists():
            kept = [line for line, record in run_state.read_log(self.log) if record["step"] <= last_step]
            write_text(self.log, "".join(line + "\n" for line in kept))

    def add_metrics(self, name: str, values: dict[str, Any]) -> None:
        """Set one entry of metrics.json, such as `validation` or `training`; NaN and infinity become null."""
        write_json(self.metrics, nan_to_null(self.read_metrics() | {name: values}))


def resolve_resume(path: Path, resume: bool | Literal["auto"], overwrite: bool) -> tuple[bool, bool]:
    """Return whether to resume the run in `path`, and whether to overwrite its files.

    A run that was killed before its first checkpoint starts again at step 0. `auto` is for schedulers that repeat a
    command: it starts a new run if there is none.

    Raises:
        UsageError: both `resume` and `overwrite` are set.
    """
    if not resume:
        return False, overwrite
    if overwrite:
        option = "--resume auto" if resume == "auto" else "--resume"
        raise UsageError(f"{option} and --overwrite cannot be used together", where="--overwrite", hint="remove one")
    run, is_auto = RunFolder(path), resume == "auto"
    if any(run.checkpoints.glob("step-*")):
        return True, False
    if not is_run(path):
        return not is_auto, False
    known = ("recipe.yaml", "manifest.json", "log.jsonl", "checkpoints", "tensorboard", "wandb", "swanlab")
    others = [each for each in run.path.iterdir() if each.name not in known and not each.name.endswith(PARTIAL)]
    starts_again = not others and not run.checkpoints.is_symlink() and not read_series(run.path).has_several_runs
    return not (is_auto or starts_again), starts_again


def is_finished(path: Path) -> bool:
    """Whether the run in `path` has ended; it writes its report last."""
    return (path / "report.html").is_file() and RunFolder(path).metrics.is_file()


def check_run(path: Path, *, resume: bool, overwrite: bool, inputs: Iterable[str | None] = ()) -> None:
    """Check whether a run may be created or resumed here, without changing anything.

    `inputs` are the files and the model that an overwritten run must not contain.

    Raises:
        UsageError: the folder is not empty and neither --resume nor --overwrite was given, or both were; --overwrite
            would delete an input or files that do not belong to a run; --resume without a run.
    """
    # Partial files of a killed process do not count.
    taken = any(not each.name.endswith(PARTIAL) for each in path.iterdir()) if path.is_dir() else path.exists()
    if resume and overwrite:
        raise UsageError("--resume and --overwrite cannot be used together", where="--overwrite", hint="remove one")
    if resume and not RunFolder(path).recipe.is_file():
        hint = "start a run without --resume"
        raise UsageError(f"there is no run to resume in {str(path)!r}", where="--resume", hint=hint)
    if path.is_file():
        raise UsageError(f"{str(path)!r} is a file", where="--out", hint="give the name of a new folder")
    if not taken or resume:
        return
    if not is_run(path):
        what = f"{str(path)!r} is not empty and not a run of llmkit"
        if overwrite:
            what = f"{str(path)!r} is not a run of llmkit; it is not deleted"
        raise UsageError(what, where="--overwrite" if overwrite else "--out", hint="choose a new or empty --out")
    if not overwrite:
        hint = "--resume continues the run, --overwrite deletes it first; or give another --out"
        raise UsageError(f"{str(path)!r} is not empty", where="--out", hint=hint)
    refuse_inputs_inside(path, [name for name in inputs if name])
    refuse_foreign_files(path)


def check_out(
    path: Path, *, resume: bool, overwrite: bool, dry_run: bool = False, inputs: Iterable[str | None] = ()
) -> None:
    """Check, before slow imports, whether a command may write the run `path`. Training checks again and keeps the lock.

    Raises:
        UsageError, EnvironmentFault: see `check_writable`, `lock_output` and `check_run`.
    """
    check_writable(path, dry_run=dry_run)
    with nullcontext() if dry_run else lock_output(path):
        check_run(path, resume=resume, overwrite=overwrite, inputs=inputs)


def create_run(path: Path, *, overwrite: bool) -> RunFolder:
    """Create the run folder. Call it after all checks, as `overwrite` deletes the old run.

    Raises:
        UsageError: see `check_run`.
        EnvironmentFault: `path` is not writable.
    """
    check_writable(path)
    check_run(path, resume=False, overwrite=overwrite)
    if overwrite and is_run(path):
        delete_run(path)
    path.mkdir(parents=True, exist_ok=True)
    return RunFolder(path)


def open_run(path: Path) -> RunFolder:
    """Open an existing run.

    Raises:
        ModelError: `path` is not a run folder.
    """
    run = RunFolder(path)
    if not run.recipe.is_file():
        raise not_a_run(path)
    return run


class Series(NamedTuple):
    """The runs of one command: one for each combination of size, fold and seed."""

    folds: int | None = None
    seeds: int = 1
    sizes: tuple[int | None, ...] = ()
    """Ascending numbers of train rows of a learning curve; None: all rows."""

    @property
    def has_several_runs(self) -> bool:
        return bool(self.folds or self.sizes) or self.seeds > 1

    def describe(self) -> dict[str, Any]:
        """Return the entry of the manifest; `sizes` is omitted if empty, as in earlier versions."""
        return {"folds": self.folds, "seeds": self.seeds} | ({"sizes": list(self.sizes)} if self.sizes else {})


def read_sizes(text: str | None) -> tuple[int | None, ...]:
    """Return the ascending sizes of `--learning-curve`, with None for `all`; empty without the option.

    Raises:
        UsageError: a size is neither a positive whole number nor `all`.
    """
    words = [] if text is None else [word.strip() for word in re.split("[,，、]", text)]
    wrong = next((word for word in words if word != "all" and not (word.isdecimal() and int(word))), None)
    if wrong is not None:
        hint = "give numbers of rows or `all`, for example --learning-curve 10,100,all"
        what = f"{wrong!r} in --learning-curve is not a number of rows"
        raise UsageError(what, where=f"--learning-curve {text}", hint=hint)
    sizes: list[int | None] = [*sorted({int(word) for word in words if word != "all"})]
    return (*sizes, *([None] if "all" in words else []))


def read_series(path: Path) -> Series:
    """Return the series in a folder; a single run is `Series()`."""
    run = RunFolder(path)
    series = run.read_manifest().get("series", {}) if run.manifest.is_file() else {}
    return Series(series.get("folds"), series.get("seeds", 1), tuple(series.get("sizes", ())))


def describe_origin(model: str, files: Mapping[str, str], out: Path) -> dict[str, Any]:
    """Return the model and the files that a run in `out` is trained from, for its manifest."""
    start = model if not Path(model).exists() else os.path.relpath(expand_home(model), out)
    relative = {
        name: path if path.startswith("hf:") else os.path.relpath(expand_home(path), out)
        for name, path in files.items()
    }
    return {"start": start, "files": relative}


def load_origin(run: RunFolder, model: str | None, files: Mapping[str, str]) -> tuple[str | None, Mapping[str, str]]:
    """Return model and files; missing values come from the run's manifest."""
    origin = run.read_manifest().get("origin", {}) if run.manifest.is_file() else {}
    start = origin.get("start")
    if model is None and start is not None:
        model = str(run.path / start) if (run.path / start).exists() else start
    return model, files or origin_files(run.path, origin)


def origin_files(run: Path, origin: Mapping[str, Any]) -> dict[str, str]:
    """Return the paths of the files that a run was trained on, relative to the current folder."""
    files = origin.get("files", {})
    return {n: path if path.startswith("hf:") else os.path.normpath(run / path) for n, path in files.items()}
