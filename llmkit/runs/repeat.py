"""Cross-validation and repeated seeds: a series of fine-tuning runs and statistics of their metrics.

Each run has its own folder in `out`. Finished runs are not repeated, so an interrupted series can be resumed.
"""

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from llmkit.config.loading import dump_recipe, load_recipe, require_named_code
from llmkit.config.recipe import Recipe
from llmkit.core import console
from llmkit.core.errors import Interrupted, UsageError
from llmkit.core.files import check_writable, write_json, write_text
from llmkit.core.lock import lock_folder
from llmkit.runs.resuming import resume_command
from llmkit.runs.train import finetune
from llmkit.tasks.table import TASKS, read_figures
from llmkit.training.checkpoints import delete_checkpoints, list_checkpoints
from llmkit.training.folder import RunFolder, check_run, create_run, describe_origin, is_finished, load_origin


def finetune_repeatedly(
    recipe: Recipe,
    *,
    files: Mapping[str, str],
    out: Path,
    model: str | None,
    folds: int | None,
    seeds: int,
    resume: bool | Literal["auto"] = False,
    overwrite: bool = False,
    show_samples: bool = False,
) -> dict[str, Any]:
    """Fine-tune one model per fold and seed; returns `runs` and `summary`, also written to `out/metrics.json`.

    `summary` has mean, standard deviation, minimum, maximum and interval of each metric by split. Each fold is used for
    validation once; copies of a text are in the same fold. Each run scores the test file. Seeds count up from the
    recipe's `train.seed`.

    Raises the errors of `finetune`, and UsageError if folds are combined with a validation file, or if --resume is used
    with another series.
    """
    if folds and "validation" in files:
        hint = "leave one of them out: a fold is the validation rows of its run"
        raise UsageError("--folds and --validation exclude each other", where="--folds", hint=hint)
    check_writable(out)
    with lock_folder(out):
        is_resumed = RunFolder(out).manifest.is_file() if resume == "auto" else resume
        check_run(out, resume=is_resumed, overwrite=overwrite, inputs=[*files.values(), model])
        series = {"folds": folds, "seeds": seeds}
        return _run_all(recipe, files, out, model, series, is_resumed, overwrite, show_samples)


def _run_all(
    recipe: Recipe, files: Mapping[str, str], out: Path, model: str | None, series: dict[str, Any], resume: bool,
    overwrite: bool, show_samples: bool,
) -> dict[str, Any]:  # fmt: skip
    folds, seeds = series["folds"], series["seeds"]
    group = RunFolder(out)
    if resume:
        _check_series(group, series, recipe)
        model, files = load_origin(group, model, files)
    else:
        create_run(out, resume=False, overwrite=overwrite)
        write_text(group.recipe, dump_recipe(recipe))
        origin = describe_origin(model, files, out) if model else {}
        write_json(group.manifest, {"task": recipe.task, "series": series, "origin": origin})
    runs: dict[str, Any] = {}
    for fold in range(folds) if folds else [None]:
        for number in range(seeds):
            seed = recipe.train.seed + number
            name = "-".join([*([f"fold-{fold}"] if fold is not None else []), *([f"seed-{seed}"] if seeds > 1 else [])])
            keep = bool(recipe.train.keep_checkpoints)
            seeded = recipe.with_updates(train=recipe.train.with_updates(seed=seed, keep_checkpoints=keep))
            part = (fold, folds) if fold is not None and folds else None
            runs[name] = _run_once(seeded, out / name, files, model, part, show_samples, first=not runs)
            console.info(f"{name} is done: {_describe(recipe, runs[name])}")
    result = {"runs": runs, "summary": summarize(list(runs.values()))}
    write_json(group.metrics, result)
    from llmkit.reporting.report import write_report  # training does not need this import

    write_report(out)
    return result


def summarize(runs: list[Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return mean, sample standard deviation, minimum and maximum by split and metric, for metrics that all runs
    have; from two runs on also the 95% `interval` of the mean, from Student's t distribution.
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
    """Return the 95% interval of the mean of independent values; nothing for a single value."""
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
        if load_recipe(run.recipe).train.keep_checkpoints is False:  # killed before they were deleted
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


def _check_series(group: RunFolder, series: Mapping[str, Any], recipe: Recipe) -> None:
    kept = group.read_manifest().get("series")
    if kept != series:
        hint = "resume with the same --folds and --seeds, or give another --out"
        raise UsageError(
            f"the series was started with {kept}, not {dict(series)}", where=str(group.manifest), hint=hint
        )
    before, now = (
        {f"{name}.{field}": value for name, section in each.model_dump(exclude={"task"}).items()
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
