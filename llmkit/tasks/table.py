"""All tasks by their names in recipes and manifests."""

import re
from pathlib import Path
from typing import Any

from llmkit.config.renamed import RENAMED_VALUES
from llmkit.core.errors import ModelError, did_you_mean
from llmkit.tasks.base import Task
from llmkit.tasks.clm import ClmTask
from llmkit.tasks.cls import ClsTask
from llmkit.tasks.mlm import MlmTask
from llmkit.training.run_record import Record, RunRecord, read_run

LABEL_TYPE_NAMES = RENAMED_VALUES["cls", "labels"]
TASKS: dict[str, Task] = {task.name: task for task in (ClmTask(), MlmTask(), ClsTask())}


def describe_run(record: RunRecord) -> Record:
    """Of which task and type of labels a run is: by its manifest, its figures or its recipe, whichever can be read.
    Earlier versions called the task the objective, and the type of labels the kind."""
    figures = [part for part in record.metrics.values() if isinstance(part, dict) and "task" in part]
    known = {**(figures[0] if figures else {}), **record.manifest}
    in_recipe = (re.search(rf"^{key}: (\w+)$", record.recipe, re.MULTILINE) for key in ("task", "objective"))
    written = [found[1] for found in in_recipe if found and found[1] != "null"]
    label_type = known.get("label_type") or known.get("kind")
    return {
        "task": known.get("task") or known.get("objective") or (written[0] if written else "clm"),
        "label_type": LABEL_TYPE_NAMES.get(str(label_type), label_type),
    }


def read_figures(run: Path) -> dict[str, Any]:
    """metrics.json of a finished run; figures of earlier versions get their task and type of labels."""
    record = read_run(run)
    facts = {name: value for name, value in describe_run(record).items() if value is not None}
    return {name: part if name == "training" else facts | part for name, part in record.metrics.items()}


def task_of_run(record: RunRecord) -> Task:
    """The task of a run.

    Raises:
        ModelError: this llmkit does not know it.
    """
    name = str(describe_run(record)["task"])
    if name not in TASKS:
        hint = did_you_mean(name, TASKS)
        raise ModelError(
            f"the run is of task {name!r}, which this llmkit does not know", where="manifest.json", hint=hint
        )
    return TASKS[name]


def task_of_model(path: str) -> Task:
    """The task of a model, by its configuration.

    Raises:
        UsageError: it is of none.
        ModelError, EnvironmentFault: as models/loading.py.
    """
    from llmkit.models.loading import read_kind

    kind = read_kind(path)
    return next(task for task in TASKS.values() if task.model_kind == kind)
