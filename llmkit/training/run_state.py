"""Schemas of the JSON files in a run folder, which are checked before a command uses the files.

Reports also read damaged files, as far as possible: see `run_record.py`.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic requires this TypedDict before Python 3.12

from llmkit.core.errors import ModelError

Step = Annotated[int, Field(ge=0, le=10**12)]


class Origin(TypedDict, total=False):
    """Where the model and the files of a run come from; paths are relative to the run."""

    start: str | None
    files: dict[str, str]
    fold: tuple[Step, Step] | None


class Series(TypedDict, total=False):
    """The folds, seeds and sizes of a series of runs."""

    folds: Step | None
    seeds: Step
    sizes: list[Step | None]


class Change(TypedDict):
    """A change of the recipe at a step, `name: old -> new`."""

    step: Step
    changed: list[str]


class Lengths(TypedDict, total=False):
    """The lengths that were planned again at a step (time_budget.py)."""

    n_steps: Step
    eval_steps: Annotated[Step, Field(ge=1)]
    save_steps: Annotated[Step, Field(ge=1)]
    max_eval_samples: Step | None
    final_share: Annotated[float, Field(ge=0, le=1)]
    calibration_step: Step | None
    step_seconds: list[Annotated[float, Field(ge=0, allow_inf_nan=False)]]


class SavedPlan(TypedDict, total=False):
    """The part of the plan that `eval` reads; `facts` is the name of `resume_fingerprint` in 0.1.0."""

    resume_fingerprint: dict[str, Any]
    facts: dict[str, Any]


class Manifest(TypedDict, total=False):
    """manifest.json, with the keys that commands use; other keys are for reports."""

    task: str
    data_path: str
    origin: Origin
    series: Series
    plan: SavedPlan
    lengths: dict[Annotated[str, Field(pattern=r"^[0-9]{1,12}$")], Lengths]
    changes: list[Change]


class Metrics(TypedDict, total=False):
    """metrics.json of a run, or of a series of runs."""

    training: dict[str, Any]
    train: dict[str, Any]
    validation: dict[str, Any]
    test: dict[str, Any]
    runs: dict[str, dict[str, Any]]
    summary: dict[str, Any]
    learning_curve: list[dict[str, Any]]


class LogRecord(TypedDict, total=False):
    """A line of log.jsonl."""

    kind: str
    step: Step
    loss: float | None


_MANIFEST = TypeAdapter(Manifest)
_METRICS = TypeAdapter(Metrics)
_RECORD = TypeAdapter(LogRecord)


def read_manifest(path: Path) -> dict[str, Any]:
    """Read a run's manifest.json. Raises ModelError if it is damaged."""
    hint = "restore the file from a backup, or start a new run from these weights with --model"
    return _read(path, _MANIFEST, "manifest", hint)


def read_metrics(path: Path) -> dict[str, Any]:
    """Read a run's metrics.json; empty if there is none. Raises ModelError if it is damaged."""
    if not path.exists():
        return {}
    hint = f"delete the file; `llmkit eval {path.parent}` then computes the metrics again"
    return _read(path, _METRICS, "metrics file", hint)


def check_recipe(path: Path) -> None:
    """Raise ModelError if a run's recipe.yaml is not YAML with sections; its keys are not checked."""
    try:
        recipe = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
        if not isinstance(recipe, dict):
            raise ValueError("it has no sections")
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        reason = str(getattr(error, "problem", None) or error).splitlines()[0]
        hint = "restore the file from a backup, or replace it with the recipe of the training command"
        raise ModelError(f"the run's recipe is damaged: {reason}", where=str(path), hint=hint) from None


def read_log(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each line of log.jsonl with its record; skips an incomplete last line, which a killed process leaves.

    Raises:
        ModelError: another line is damaged; the error gives its number.
    """
    if not path.exists():
        return
    lines = path.read_bytes().split(b"\n")  # text may contain other line ends
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            text = line.decode()
            record = _parse(text, _RECORD)
            if not {"kind", "step"} <= record.keys():
                raise ValueError("it has no kind or no step")
        except ValueError as error:
            if number == len(lines):
                return
            hint = f"delete the line, which only reports need: sed -i {number}d {path}"
            what = f"line {number} of the run's log is damaged: {_describe(error)}"
            raise ModelError(what, where=str(path), hint=hint) from None
        yield text, record


def _read(path: Path, schema: TypeAdapter[Any], name: str, hint: str) -> dict[str, Any]:
    try:
        return _parse(path.read_bytes().decode(), schema)
    except ValueError as error:
        raise ModelError(f"the run's {name} is damaged: {_describe(error)}", where=str(path), hint=hint) from None


def _parse(text: str, schema: TypeAdapter[Any]) -> dict[str, Any]:
    """Return a JSON object that fits the schema. Raises ValueError."""
    schema.validate_json(text, strict=True)
    value: dict[str, Any] = json.loads(text)  # includes keys that the schema does not name
    return value


def _describe(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False)[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg'].lower()}" if place else first["msg"].lower()
