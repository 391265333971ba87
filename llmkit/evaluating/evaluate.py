"""Evaluate a model on a prepared split, raw text or labelled rows; its task computes the metrics."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmkit.config.recipe import Recipe
from llmkit.core import console
from llmkit.core.errors import ModelError, UsageError
from llmkit.models.loading import resolve_model
from llmkit.reporting.report import write_report
from llmkit.tasks.base import EvaluationRequest
from llmkit.tasks.table import task_of_model
from llmkit.training.folder import RunFolder


def check_columns(columns: Mapping[str, str | None], data: Sequence[str]) -> None:
    """Check that column options are given only together with a file.

    Raises:
        UsageError: there is no file; the error names the first option.
    """
    given = next((name for name, column in columns.items() if column is not None), None)
    if given and not data:
        hint = f"add --data FILE, or leave out --{given}: without --data, a run is scored on its own held-out data"
        raise UsageError(f"--{given} needs --data: it names a column of a file", where=f"--{given}", hint=hint)


def evaluate(recipe: Recipe, *, model: str, data: Sequence[str] = (), show_samples: bool = False) -> dict[str, Any]:
    """Return the metrics of the model's task on one split of a prepared folder, on text or on labelled rows.

    The result also has the settings of the computation and the name of the task, `task`. Without `data`, a run is
    scored on the held-out data of its training, and its metrics.json and report are updated. `show_samples` adds a
    classifier's worst errors to the result and the report.

    Raises:
        UsageError: there is no data to score, or no task supports the model.
        DataError: a prepared folder that is damaged.
        ModelError: the data was prepared with another tokenizer.
    """
    path = resolve_model(model)
    task = task_of_model(path)
    if recipe.evaluate.stride is not None and not task.takes_stride:
        hint = "remove evaluate.stride: it only applies to causal language models"
        raise UsageError(f"{task.model_is} cannot be evaluated with a stride", where="evaluate.stride", hint=hint)
    if show_samples and not task.reads_rows:
        hint = "remove --show-samples: it shows rows with a wrong prediction"
        raise UsageError(f"{task.model_is} is not evaluated on rows", where="--show-samples", hint=hint)
    run = RunFolder(Path(model))
    is_run = run.manifest.is_file()
    if is_run:
        run.check_files()
    request = EvaluationRequest(model, path, data, run if is_run else None, show_samples)
    metrics = {"task": task.name} | task.evaluate(recipe, request)
    if wrong := [name for name, value in metrics.items() if isinstance(value, float) and not math.isfinite(value)]:
        what, hint = f"{wrong[0]} is not a finite number", "the model's weights are damaged: use an earlier checkpoint"
        raise ModelError(what, where=path, hint=hint)
    if is_run and (not data or show_samples):
        # Keep the suffix, so that validation.csv does not replace the run's own `validation`.
        run.add_metrics(f"file {Path(data[0]).name}" if data else recipe.evaluate.split, metrics)
        console.info(f"report: {write_report(run.path)}")
    return metrics
