"""Registry of tasks by their names in recipes and manifests."""

import re
from pathlib import Path
from typing import Any

from llmkit.config.renamed import RENAMED_VALUES
from llmkit.core.errors import ModelError, did_you_mean
from llmkit.tasks.base import Task
from llmkit.tasks.clm import ClmTask
from llmkit.tasks.cls import ClsTask
from llmkit.tasks.mlm import MlmTask
from llmkit.tasks.ner import NerTask
from llmkit.tasks.qa import QaTask
from llmkit.training.run_record import Record, RunRecord, read_run

LABEL_TYPE_NAMES = RENAMED_VALUES["cls", "labels"]
TASKS: dict[str, Task] = {task.name: task for task in (ClmTask(), MlmTask(), ClsTask(), NerTask(), QaTask())}


def describe_run(record: RunRecord) -> Record:
    """Return task, label type and custom metrics of a run, from the manifest, else from metrics or recipe."""
    metrics = [part for part in record.metrics.values() if isinstance(part, dict) and "task" in part]
    known = {**(metrics[0] if metrics else {}), **record.manifest}
    in_recipe = re.search(r"^task: (?!null)(\w+)$", record.recipe, re.MULTILINE)
    label_type = known.get("label_type")
    return {
        "task": known.get("task") or (in_recipe[1] if in_recipe else "clm"),
        "label_type": LABEL_TYPE_NAMES.get(str(label_type), label_type),
        "custom_metrics": known.get("custom_metrics"),
    }


def read_figures(run: Path) -> dict[str, Any]:
    """Read metrics.json of a finished run, with task and label type added to each part."""
    record = read_run(run)
    facts = {name: value for name, value in describe_run(record).items() if value is not None}
    return {name: part if name == "training" else facts | part for name, part in record.metrics.items()}


def task_of_run(record: RunRecord) -> Task:
    """Return the task of a run.

    Raises:
        ModelError: the task is unknown to this version of llmkit.
    """
    name = str(describe_run(record)["task"])
    if name not in TASKS:
        hint = did_you_mean(name, TASKS)
        raise ModelError(
            f"the run has task {name!r}, which this version of llmkit does not know", where="manifest.json", hint=hint
        )
    return TASKS[name]


def task_of_model(path: str) -> Task:
    """Return the task of a model, from its config.json.

    Raises:
        UsageError: no task supports the model.
        ModelError, EnvironmentFault: the configuration cannot be loaded, see models/loading.py.
    """
    from llmkit.models.loading import no_head, read_architecture

    architecture, model_type = read_architecture(path)
    for task in TASKS.values():
        if task.claims(architecture, model_type):
            return task
    raise no_head(path, architecture or model_type)
