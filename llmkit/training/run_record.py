"""Read the files of a run folder for reports, even if some are missing or damaged.

A killed run has a report too, so a missing or truncated file is not an error: `missing` lists the files and lines that
could not be read, for the reader of the report.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmkit.core.errors import ModelError, find_near

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RunRecord:
    """The contents of a run folder. `log` has records by kind; of a step logged twice, only the later record."""

    name: str
    log: dict[str, list[Record]]
    metrics: Record
    manifest: Record
    recipe: str
    missing: tuple[str, ...]


def read_run(run: Path) -> RunRecord:
    """Read everything in the run folder that can be read. Raises ModelError if it is not a run folder."""
    names = ("log.jsonl", "metrics.json", "manifest.json", "recipe.yaml")
    if not any((run / name).is_file() for name in names):
        raise not_a_run(run)
    missing: list[str] = []
    log = _read_log(run / "log.jsonl", missing)
    metrics = _read_json(run / "metrics.json", missing, "the results of the final evaluation are not known")
    manifest = _read_json(run / "manifest.json", missing, "data, machine and versions are not known")
    recipe = _read_text(run / "recipe.yaml", missing, "the recipe is not known") or ""
    return RunRecord(run.resolve().name, log, metrics, manifest, recipe, tuple(missing))


def not_a_run(path: Path) -> ModelError:
    """Return the error for a folder that is not a run; its hint names the runs inside, if there are any."""
    runs = sorted(str(each.parent) for each in path.glob("*/recipe.yaml")) if path.is_dir() else []
    hint = "give the --out folder of a training command"
    if runs:
        hint = f"the folder holds {len(runs)} run{'s' if len(runs) > 1 else ''}: {', '.join(runs[:3])}"
        hint += ", ..." if len(runs) > 3 else ""
    elif not path.exists():
        near = find_near(str(path), map(str, path.parent.glob("*"))) if path.parent.is_dir() else None
        hint = f"there is no such folder; did you mean {near!r}?" if near else "there is no such folder"
    return ModelError(f"{str(path)!r} is not a run folder", where=str(path), hint=hint)


def get_number(record: Mapping[str, Any], key: str) -> float | None:
    """Return the value if it is a finite number, else None."""
    value = record.get(key)
    return value if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) else None


def get_section(record: Mapping[str, Any], key: str) -> Record:
    """Return the value if it is an object, else an empty one."""
    value = record.get(key)
    return value if isinstance(value, dict) else {}


def _read_log(path: Path, missing: list[str]) -> dict[str, list[Record]]:
    # Not splitlines: JSON may contain U+2028 and the like.
    lines = (_read_text(path, missing, "the report has no curves") or "").split("\n")
    lines = lines if lines[-1] else lines[:-1]
    kept: dict[tuple[object, ...], Record] = {}
    unreadable = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            kind, step = str(record["kind"]), int(record["step"])
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            unreadable.append(number)
            continue
        # A resumed run logs the steps after its checkpoint again. Several samples may share a step.
        text = (str(record.get("prompt")), str(record.get("text"))) if kind in ("sample", "note") else ()
        kept[kind, step, str(record.get("split")), *text] = record
    if unreadable:
        torn = " (the last one, cut off when the process was killed)" if unreadable == [len(lines)] else ""
        shown = ", ".join(map(str, unreadable[:5])) + (", …" if len(unreadable) > 5 else "")
        noun, verb = ("line", "is") if len(unreadable) == 1 else ("lines", "are")
        missing.append(f"log.jsonl: {noun} {shown} of {len(lines)} cannot be read{torn} and {verb} left out")
    if not kept and path.is_file() and not unreadable:
        missing.append("log.jsonl is empty: no step has been logged yet")
    log: dict[str, list[Record]] = {}
    for record in sorted(kept.values(), key=lambda record: int(record["step"])):
        log.setdefault(str(record["kind"]), []).append(record)
    return log


def _read_json(path: Path, missing: list[str], consequence: str) -> Record:
    text = _read_text(path, missing, consequence)
    if text is None:
        return {}
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        missing.append(f"{path.name} cannot be read ({error}): {consequence}")
        return {}
    if not isinstance(content, dict):
        missing.append(f"{path.name} is not a JSON object: {consequence}")
        return {}
    return content


def _read_text(path: Path, missing: list[str], consequence: str) -> str | None:
    """Return the file's text, with replacement characters for invalid UTF-8; None if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        missing.append(f"no {path.name}: {consequence}")
    except OSError as error:
        missing.append(f"{path.name} cannot be read ({error.strerror}): {consequence}")
    return None
