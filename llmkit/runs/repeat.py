"""Cross-validation, repeated seeds and learning curves: a series of fine-tuning runs and statistics of their metrics.

Each run has its own folder in `out`. Finished runs are not repeated, so an interrupted series can be resumed.
"""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from llmkit.config.loading import dump_recipe, load_recipe, require_named_code
from llmkit.config.recipe import Recipe
from llmkit.core import console
from llmkit.core.console import count
from llmkit.core.errors import Interrupted, UsageError
from llmkit.core.files import nan_to_null, write_json, write_text
from llmkit.core.lock import lock_output
from llmkit.core.output_paths import check_writable
from llmkit.runs.resuming import resume_command
from llmkit.runs.train import finetune
from llmkit.tasks.table import TASKS, read_figures
from llmkit.training.checkpoints import delete_checkpoints, list_checkpoints
from llmkit.training.folder import (
    RunFolder,
    Series,
    check_run,
    create_run,
    describe_origin,
    is_finished,
    load_origin,
)
from llmkit.training.inputs import record_inputs


class _Part(NamedTuple):
    """One run of a series."""

    name: str
    recipe: Recipe
    fold: tuple[int, int] | None
    size: int | None
    """Number of train rows; None: all rows."""


def finetune_repeatedly(
    recipe: Recipe,
    series: Series,
    *,
    files: Mapping[str, str],
    out: Path,
    model: str | None,
    resume: bool | Literal["auto"] = False,
    overwrite: bool = False,
    show_samples: bool = False,
) -> dict[str, Any]:
    """Fine-tune one model per size, fold and seed; returns `runs` and `summary`, also written to `out/metrics.json`.

    `summary` has mean, standard deviation, minimum, maximum and interval of each metric by split. Each fold is used for
    validation once; copies of a text are in the same fold. Each run scores the test file. Seeds count up from the
    recipe's `train.seed`. The sizes of the series are values of `train.max_rows`. With sizes, the result has
    `learning_curve` instead of `summary`, with one entry per size. If several sizes exceed the number of train rows,
    only the smallest of these sizes is run.

    Raises the errors of `finetune`. Raises UsageError for folds with a validation file, for sizes with
    `train.max_rows`, and if `resume` finds another series.
    """
    if series.folds and "validation" in files:
        hint = "remove one of them: each run uses its fold for validation"
        raise UsageError("--folds and --validation cannot be used together", where="--folds", hint=hint)
    if series.sizes and recipe.train.max_rows is not None:
        what = "train.max_rows and --learning-curve cannot be used together"
        hint = "remove train.max_rows: --learning-curve sets the number of rows of each run"
        raise UsageError(what, where="train.max_rows", hint=hint)
    check_writable(out)
    with lock_output(out):
        is_resumed = RunFolder(out).manifest.is_file() if resume == "auto" else resume
        check_run(out, resume=is_resumed, overwrite=overwrite, inputs=[*files.values(), model])
        return _run_all(recipe, files, out, model, series, is_resumed, overwrite, show_samples)


def _run_all(
    recipe: Recipe, files: Mapping[str, str], out: Path, model: str | None, series: Series, resume: bool,
    overwrite: bool, show_samples: bool,
) -> dict[str, Any]:  # fmt: skip
    group = RunFolder(out)
    if resume:
        _check_series(group, series, recipe)
        model, files = load_origin(group, model, files)
    else:
        create_run(out, overwrite=overwrite)
        origin = describe_origin(model, files, out) if model else {}
        write_json(group.manifest, {"task": recipe.task, "series": series.describe(), "origin": origin})
        write_text(group.recipe, dump_recipe(record_inputs(recipe, out, model, files, resume=False)))
    runs: dict[str, Any] = {}
    curve: dict[int | None, list[str]] = {}
    complete: dict[Any, int] = {}  # by fold: the smallest size above its number of train rows
    for part in _list_parts(recipe, series):
        if part.fold in complete and (part.size is None or part.size > complete[part.fold]):
            continue
        runs[part.name] = _run_once(part.recipe, out / part.name, files, model, part.fold, show_samples, first=not runs)
        console.info(f"{part.name} is done: {_describe(recipe, runs[part.name])}")
        curve.setdefault(part.size, []).append(part.name)
        train = _read_train_split(out / part.name)
        if without := [label for label, n in train.get("labels", {}).items() if not n]:
            console.info(f"{part.name}: {count(len(without), 'label')} without train rows, for example {without[0]!r}")
        if part.size is not None and train["rows"] < part.size and part.fold not in complete:
            complete[part.fold] = part.size
            few = f"there are only {count(train['rows'], 'train row')}, and all of them are used"
            console.info(f"{part.name}: {few}; larger sizes are skipped")
    result: dict[str, Any] = {"runs": runs}
    if series.sizes:
        result["learning_curve"] = [_summarize_size(out, size, names, runs) for size, names in curve.items()]
    else:
        result["summary"] = summarize(list(runs.values()))
    write_json(group.metrics, nan_to_null(result))
    from llmkit.reporting.report import write_report  # training does not need this import

    write_report(out)
    return result


def _list_parts(recipe: Recipe, series: Series) -> Iterator[_Part]:
    for size in series.sizes or [None]:
        for fold in range(series.folds) if series.folds else [None]:
            for number in range(series.seeds):
                seed = recipe.train.seed + number
                words = [
                    f"rows-{'all' if size is None else size}" if series.sizes else "",
                    f"fold-{fold}" if fold is not None else "",
                    f"seed-{seed}" if series.seeds > 1 else "",
                ]
                changes: dict[str, Any] = {"seed": seed, "keep_checkpoints": bool(recipe.train.keep_checkpoints)}
                train = recipe.train.with_updates(**changes, **({"max_rows": size} if series.sizes else {}))
                part = (fold, series.folds) if fold is not None and series.folds else None
                yield _Part("-".join(filter(None, words)), recipe.with_updates(train=train), part, size)


def _summarize_size(out: Path, size: int | None, names: Sequence[str], runs: Mapping[str, Any]) -> dict[str, Any]:
    """Return one entry of a learning curve: sizes, statistics by split, and for a single run its intervals."""
    found = [runs[name] for name in names]
    n_rows = round(statistics.fmean(_read_train_split(out / name)["rows"] for name in names))
    splits: dict[str, Any] = summarize(found)
    for split, metrics in splits.items() if len(found) == 1 else ():
        for name, bounds in found[0][split].get("intervals", {}).items():
            if name in metrics:
                metrics[name]["interval"] = bounds
    return {"max_rows": size, "n_train_rows": n_rows, "n_runs": len(names), **splits}


def _read_train_split(out: Path) -> dict[str, Any]:
    """Return the description of a run's train rows."""
    return dict(RunFolder(out).read_manifest()["data"]["splits"]["train"])


def summarize(runs: list[Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return mean, sample standard deviation, minimum and maximum by split and metric, for metrics that all runs
    have; with two or more runs, also the 95% `interval` of the mean, from Student's t distribution.
    """
    summary: dict[str, dict[str, dict[str, Any]]] = {}
    for split in (name for name in ("validation", "test") if all(name in run for run in runs)):
        names = [name for name in runs[0][split] if all(isinstance(run[split].get(name), float) for run in runs)]
        values = {name: [float(run[split][name]) for run in runs] for name in names}
        summary[split] = {
            name: {
                "mean": statistics.fmean(found),
                "std": statistics.stdev(found) if len(found) > 1 else 0.0,
                "min": min(found),
                "max": max(found),
                **_estimate_interval(found),
            }
            for name, found in values.items()
        }
    return summary


def _estimate_interval(values: list[float]) -> dict[str, list[float]]:
    """Return the 95% interval of the mean of independent values; empty for a single value."""
    if len(values) < 2:
        return {}
    from scipy.special import stdtrit

    margin = float(stdtrit(len(values) - 1, 0.975)) * statistics.stdev(values) / len(values) ** 0.5
    mean = statistics.fmean(values)
    return {"interval": [mean - margin, mean + margin]}


def _run_once(
    recipe: Recipe, out: Path, files: Mapping[str, str], model: str | None, fold: tuple[int, int] | None,
    show_samples: bool, *, first: bool,
) -> dict[str, Any]:  # fmt: skip
    run = RunFolder(out)
    if is_finished(out):
        if load_recipe(run.recipe).train.keep_checkpoints is False:  # the run was killed before it deleted them
            delete_checkpoints(run.checkpoints)
        return read_figures(out)
    started = bool(list_checkpoints(run.checkpoints)) and run.manifest.is_file()
    kept = load_recipe(run.recipe) if started else recipe
    if kept is not recipe:
        require_named_code(kept, run.recipe, recipe.code)
    try:
        return finetune(
            kept, files=files, out=out, model=model, resume=started, overwrite=not started and run.recipe.is_file(),
            show_samples=show_samples, fold=fold, quiet=not first,
        )  # fmt: skip
    except Interrupted as stop:
        what = f"{out.name} was interrupted; continue the series with: --resume"
        raise Interrupted(stop.signal_number, what) from None


def _check_series(group: RunFolder, series: Series, recipe: Recipe) -> None:
    kept = group.read_manifest().get("series")
    if kept is None:
        hint = "resume without --folds, --seeds and --learning-curve, or give another --out"
        raise UsageError("the folder holds a single run, not a series", where=str(group.manifest), hint=hint)
    if kept != series.describe():
        hint = "resume with the same --folds, --seeds and --learning-curve, or give another --out"
        what = f"the series was started with {kept}, not {series.describe()}"
        raise UsageError(what, where=str(group.manifest), hint=hint)
    before, now = (
        {f"{name}.{field}": value for name, section in each.model_dump(exclude={"task", "inputs"}).items()
         for field, value in section.items()} for each in (load_recipe(group.recipe), recipe)
    )  # fmt: skip
    if changed := [
        f"{name}: {before.get(name)} -> {value}" for name, value in now.items() if before.get(name) != value
    ]:
        hint = f"the series continues with: {resume_command(group, recipe)}; or give another --out"
        what = f"the series was started with other values: {'; '.join(changed)}"
        raise UsageError(what, where=str(group.recipe), hint=hint)


def _describe(recipe: Recipe, metrics: Mapping[str, Any]) -> str:
    split = "test" if "test" in metrics else "validation"
    shown = metrics.get(split, {})
    return f"{split} {TASKS[recipe.task].metrics(shown).describe_progress(shown)}"
