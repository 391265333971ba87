"""Compare finished runs on the same held-out data: a table, a chart, tests of differences, and notes.

Runs are ranked only by comparable metrics: every run must have been scored on the same text or rows, and metrics per
token rank only runs with the same tokenizer.

Reads small files of the run folders; opens no model and does not import torch.
"""

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llmkit.core import console
from llmkit.core.errors import LlmkitError, ModelError, Problem, UsageError, did_you_mean
from llmkit.core.files import nan_to_null, write_json
from llmkit.core.output_paths import check_writable
from llmkit.metrics.spec import Metric, MetricSet
from llmkit.reporting.compare_page import PAGE, write_comparison
from llmkit.reporting.comparison_notes import write_notes
from llmkit.reporting.significance import compare_with_best
from llmkit.tasks.base import HeldOut, Task
from llmkit.tasks.table import TASKS, describe_run, task_of_run
from llmkit.training.run_record import Record, RunRecord, get_number, get_section, read_run

SPEED = Metric("tokens_per_second", "tokens/s", "{:,.0f}", column="tokens/s")
"""In addition to the metrics of the task, any runs can be ranked by speed."""
SPLITS = ("test", "validation")
"""Splits to compare on, the preferred one first: checkpoints are selected on validation, which makes it optimistic."""
FILE = "compare.json"


@dataclass(frozen=True, slots=True)
class _Run:
    """A run with a unique name; `path` is as the user typed it."""

    name: str
    path: Path
    record: RunRecord

    @property
    def task(self) -> Task:
        return task_of_run(self.record)

    @property
    def metrics(self) -> MetricSet:
        return self.task.metrics(describe_run(self.record))

    @property
    def headline(self) -> str:
        """Return the key of the task's main metric."""
        return self.metrics.headlines[0].key

    def scored(self, split: str) -> Record:
        """Return the run's metrics on a split; empty if there are none."""
        figures = get_section(self.record.metrics, split)
        return figures if get_number(figures, self.headline) is not None else {}

    def prepared(self, split: str) -> Record:
        """Return the entry of a split in the manifest of the run's data."""
        return get_section(get_section(get_section(self.record.manifest, "data"), "splits"), split)


def compare(paths: Sequence[Path], *, by: str | None, out: Path) -> dict[str, Any]:
    """Compare runs, write compare.json and compare.html to `out`, and return the content of compare.json, best run
    first. `by` is the metric that ranks the runs; None: the main metric of their task.

    A folder that is given twice counts once.

    Raises:
        UsageError: fewer than two runs, runs of tasks that cannot be compared, runs scored on different data, or a
            metric that cannot rank them.
        ModelError: a folder that is not a run, or a run that is unfinished, damaged or not scored.
        EnvironmentFault: `out` cannot be written.
    """
    runs = _read_runs(_drop_repeats(paths))
    task = _require_same_task(runs)
    by = by or runs[0].metrics.compared[-1].key
    known = {metric.key for task in TASKS.values() for metric in _ranking_metrics(task)}
    known |= {metric.key for metric in runs[0].metrics.compared}
    if by not in known:
        raise UsageError(f"runs cannot be ranked by {by!r}", where="--by", hint=did_you_mean(by, known))
    split = _choose_split(runs)
    held_out = _require_same_data(runs, split)
    rows = [_measure(run, split) for run in runs]
    same_tokenizer = task.reads_rows or len({row["tokenizer"]["fingerprint"] or row["run"] for row in rows}) == 1
    ranked_by = _check_ranking(rows, by, runs[0], same_tokenizer)
    rows.sort(key=lambda row: -row[by] if ranked_by.higher_is_better else row[by])
    tests, untested = compare_with_best(rows, task, split, ranked_by)
    notes = [*_note_unused_test(runs, split), *_note_unknown_rows(runs, split), *untested]
    notes += write_notes(rows, same_tokenizer=same_tokenizer)
    comparison = {
        "task": task.name,
        "label_type": describe_run(runs[0].record)["label_type"],
        "split": split,
        f"n_{held_out.unit}": held_out.size,
        "held_out": f"{held_out.size:,} {held_out.unit}",
        "by": by,
        "best": "highest" if ranked_by.higher_is_better else "lowest",
        "same_tokenizer": same_tokenizer,
        "runs": rows,
        "tests": tests,
        "notes": notes,
    }
    if out.is_file():
        raise UsageError(f"{str(out)!r} is a file", where="--out", hint="give the name of a new folder")
    check_writable(out)
    out.mkdir(exist_ok=True)
    write_json(out / FILE, nan_to_null(comparison))
    write_comparison(comparison, out)
    console.info(f"written: {out / PAGE} and {out / FILE}")
    return comparison


def _ranking_metrics(task: Task) -> tuple[Metric, ...]:
    """Return the metrics that can rank runs of a task; empty for tasks that cannot be compared."""
    compared = task.metrics({}).compared
    return (*compared, SPEED) if compared else ()


def _require_same_task(runs: Sequence[_Run]) -> Task:
    tasks = {run.task.name: run.task for run in runs}
    if len(tasks) > 1:
        shown = ", ".join(f"{run.name} is {run.task.model_is}" for run in runs)
        raise UsageError(f"the runs are of different tasks: {shown}", where="RUN...", hint="compare runs of one task")
    if len({run.metrics.compared for run in runs}) > 1:
        shown = ", ".join(f"{run.name} {describe_run(run.record)['label_type']}" for run in runs)
        hint = "compare runs with the same cls.labels"
        raise UsageError(f"the runs have labels of different types: {shown}", where="RUN...", hint=hint)
    return next(iter(tasks.values()))


def _drop_repeats(paths: Sequence[Path]) -> list[Path]:
    """Return each folder once, because a folder may be named by the user and also matched by a glob."""
    kept: dict[Path, Path] = {}
    for path in paths:
        if path.resolve() in kept:
            console.info(f"{path} and {kept[path.resolve()]} are the same folder; it is shown once")
        kept.setdefault(path.resolve(), path)
    if len(kept) < 2:
        raise UsageError("there is only one run to compare", where="RUN...", hint="give two or more run folders")
    return list(kept.values())


def _read_runs(paths: Sequence[Path]) -> list[_Run]:
    """Read all runs; raises the problems of all runs in one error."""
    folders = [path.resolve() for path in paths]
    runs: list[_Run] = []
    faults: list[LlmkitError] = []
    for path, folder in zip(paths, folders, strict=True):
        try:
            run = _Run(_unique_name(folder, folders), path, read_run(path))
            _require_finished(run)
            runs.append(run)
        except LlmkitError as fault:
            faults.append(fault)
    if faults:
        raise type(faults[0]).from_problems(problem for fault in faults for problem in fault.problems)
    return runs


def _unique_name(folder: Path, folders: Sequence[Path]) -> str:
    """Return the folder's name, preceded by as many parent folders as make it unique."""
    for length in range(1, len(folder.parts)):
        name = folder.parts[-length:]
        if sum(other.parts[-length:] == name for other in folders) == 1:
            return "/".join(name)
    return str(folder)


def _require_finished(run: _Run) -> None:
    """Raise ModelError or UsageError unless the run is finished and its task can be compared."""
    record, shown = run.record, str(run.path)
    for name, known in (("manifest.json", record.manifest), ("metrics.json", record.metrics)):
        reason = next((line for line in record.missing if line.startswith(f"{name} ")), f"no {name}")
        if not known and ((run.path / name).exists() or name == "manifest.json"):
            again = "delete the file and run the training command with --resume, which writes it again"
            hint = again if name == "metrics.json" else "restore the file from a backup, or train again"
            raise ModelError(f"{shown!r} is damaged: {reason}", where=str(run.path / name), hint=hint)
    if not _ranking_metrics(run.task):
        fitting = " or ".join(task.model_is for task in TASKS.values() if _ranking_metrics(task))
        what = f"{shown!r} is {run.task.model_is}; compare takes runs of {fitting}"
        hint = f"llmkit report {shlex.quote(shown)} shows this run"
        raise UsageError(what, where=shown, hint=hint)
    if not get_section(record.metrics, "training"):
        last = max((logged[-1]["step"] for logged in record.log.values()), default=0)
        planned = get_section(record.manifest, "plan").get("n_steps")
        what = f"{shown!r} is not finished: step {last}" + (f" of {planned}" if planned else "")
        raise ModelError(what, where=str(run.path / "metrics.json"), hint=f"continue it with: {_resume_command(run)}")


def _resume_command(run: _Run) -> str:
    if run.task.reads_rows:
        return shlex.join(["llmkit", "finetune", str(run.path / "recipe.yaml"), "--out", str(run.path), "--resume"])
    data = run.record.manifest.get("data_path")
    folder = os.path.normpath(run.path / data) if isinstance(data, str) else "DATA"
    parts = ["llmkit", "pretrain", run.path / "recipe.yaml", "--data", folder, "--out", run.path, "--resume"]
    return shlex.join(map(str, parts))


def _choose_split(runs: Sequence[_Run]) -> str:
    """Return the held-out split on which all runs were scored."""
    scored = {split: [run for run in runs if run.scored(split)] for split in SPLITS}
    for split in SPLITS:
        if len(scored[split]) == len(runs):
            return split
    split = max(reversed(SPLITS), key=lambda name: len(scored[name]))
    problems = []
    for run in runs:
        if run in scored[split]:
            continue
        hint = f"llmkit eval {shlex.quote(str(run.path))} --split {split}"
        if not run.prepared(split) and run.task.reads_rows:
            hint = f"the data has no {split} rows: train again with --{split} FILE or {run.task.name}.{split} above 0"
        elif not run.prepared(split):
            hint = f"the data has no {split} split: prepare it with prepare.split.{split} above 0, and train again"
        problems.append(
            Problem(f"{str(run.path)!r} was not scored on its {split} split", str(run.path / "metrics.json"), hint)
        )
    raise ModelError.from_problems(problems)


def _require_same_data(runs: Sequence[_Run], split: str) -> HeldOut:
    """Check that every run was scored on the same text or rows; returns their size and digest."""
    found = [run.task.describe_held_out(run.record, split) for run in runs]
    sizes, hashes = {each.size for each in found}, {each.digest for each in found if each.digest is not None}
    if len(sizes) == 1 and len(hashes) <= 1 and None not in sizes:
        return found[0]
    shown = ", ".join(f"{run.name} on {each.describe()}" for run, each in zip(runs, found, strict=True))
    what, hint = (
        ("text", "score each run on one file with `llmkit eval RUN --data FILE`; or prepare the data of all runs from "
         "the same files with the same prepare.clean and prepare.split, and train again"),
         ("rows", "train each run with the same --test FILE; or with the same --data, {task}.split_seed, "
          "{task}.validation and {task}.test, without --folds"),
    )[runs[0].task.reads_rows]  # fmt: skip
    hint = hint.format(task=runs[0].task.name)
    what = f"the runs were scored on different {what}, so they cannot be ranked: {shown}"
    raise UsageError(what, where=f"their {split} splits", hint=hint)


def _check_ranking(rows: Sequence[Record], by: str, run: _Run, same_tokenizer: bool) -> Metric:
    """Return the metric `by`; raises UsageError if it cannot rank these runs, of which `run` is one."""
    figures = {metric.key: metric for metric in (*run.metrics.compared, SPEED)}
    of_text = [metric.key for metric in run.metrics.compared[::-1] if not metric.per_token]
    if by not in figures:
        raise UsageError(f"{run.task.model_is} has no {by}", where="--by", hint=did_you_mean(by, figures))
    if figures[by].per_token and not same_tokenizer:
        shown = ", ".join(f"{row['run']} {str(row['tokenizer']['fingerprint'])[:12]}" for row in rows)
        raise UsageError(
            f"{by} cannot rank runs with different tokenizers, because it is per token: {shown}",
            where="--by",
            hint=f"rank by {' or '.join(of_text)}, which do not depend on the tokenizer",
        )
    if without := [row["run"] for row in rows if row[by] is None]:
        hint = f"rank by {of_text[0]}, which every run has"
        if by == "word_perplexity":
            hint += "; words are not counted in old prepared folders, nor in scripts without spaces such as Chinese"
        raise UsageError(f"there is no {by} for {', '.join(without)}", where="--by", hint=hint)
    return figures[by]


def _measure(run: _Run, split: str) -> dict[str, Any]:
    """Return a row of the table, unrounded, with the values that the notes and the chart need."""
    record, scored = run.record, run.scored(split)
    training, manifest = get_section(record.metrics, "training"), record.manifest
    model, data = get_section(manifest, "model"), get_section(manifest, "data")
    tokenizer, machine = get_section(data, "tokenizer"), get_section(manifest, "machine")
    unknown = (get_number(scored, "n_unknown_tokens"), get_number(run.prepared(split), "unknown_tokens"))
    trained = record.log.get("train", [])
    compared, settings = run.metrics.compared, run.task.describe_compared(record, split)
    bounds = get_section(scored, "intervals")
    return {
        "run": run.name,
        "path": str(run.path),
        # The recipe does not name the family when training starts from a model.
        "family": str(model.get("family", "")) or None,
        "n_parameters": get_number(training, "n_parameters") or get_number(model, "n_parameters"),
        "n_training_tokens": get_number(training, "n_tokens"),
        "seconds": get_number(training, "seconds"),
        **{metric.key: get_number(scored, metric.key) for metric in compared},
        "intervals": {metric.key: bounds[metric.key] for metric in compared if metric.key in bounds},
        "tokens_per_second": _measure_speed(trained),
        "n_tokens": get_number(scored, "n_tokens"),
        "n_words": get_number(scored, "n_words"),
        "n_unknown_tokens": next((n for n in unknown if n is not None), None),
        "method": {} if settings else get_section(scored, "method"),
        "settings": settings,
        "tokenizer": {key: tokenizer.get(key) for key in ("kind", "vocab_size", "fingerprint")},
        "train_documents": run.task.describe_held_out(record, split).train_digest,
        "machine": {key: machine.get(key) for key in ("cpu", "cores", "accelerator")},
        "curve": _make_curve(record, training, run.headline),
    }


def _measure_speed(trained: Sequence[Record]) -> float | None:
    """Return tokens per second over all training steps, without evaluation and saving."""
    seconds = n_tokens = before = 0.0
    for record in trained:
        total, speed = get_number(record, "n_tokens"), get_number(record, "tokens_per_second")
        if total is None:
            continue
        if speed:
            n_tokens += total - before
            seconds += (total - before) / speed
        before = total
    return n_tokens / seconds if seconds else None


def _make_curve(record: RunRecord, training: Record, headline: str) -> dict[str, list[float]]:
    """Return the main metric on held-out data as a function of the number of training tokens.

    Evaluations log only their step; the number of tokens is interpolated between steps that log it.
    """
    known = [(0.0, 0.0)]
    for logged in [*record.log.get("train", []), {"step": training.get("steps"), "n_tokens": training.get("n_tokens")}]:
        step, n_tokens = get_number(logged, "step"), get_number(logged, "n_tokens")
        if step is not None and n_tokens is not None:
            known.append((step, n_tokens))
    evals = [(logged["step"], get_number(logged, headline)) for logged in record.log.get("eval", [])]
    steps = [step for step, bits in evals if bits is not None]
    if len(known) == 1 or not steps:
        return {"n_tokens": [], headline: []}
    known_steps, known_tokens = np.array(sorted(known)).T
    return {
        "n_tokens": np.interp(steps, known_steps, known_tokens).tolist(),
        headline: [bits for _, bits in evals if bits is not None],
    }


def _note_unused_test(runs: Sequence[_Run], split: str) -> list[str]:
    """Return a note on how to score the remaining runs on the test split if only some were scored there."""
    without = [run for run in runs if not run.scored("test")]
    if split == "test" or len(without) == len(runs):
        return []
    commands = "; ".join(f"llmkit eval {shlex.quote(str(run.path))} --split test" for run in without)
    return [f"compared on validation, as not every run was scored on its test split; to score the others: {commands}"]


def _note_unknown_rows(runs: Sequence[_Run], split: str) -> list[str]:
    """Return a note that names the runs of earlier versions, whose held-out rows are not recorded."""
    without = [run.name for run in runs if run.task.describe_held_out(run.record, split).digest is None]
    if not without or not runs[0].task.reads_rows:
        return []
    what = f"runs of an earlier version do not record their {split} rows: {', '.join(without)}"
    task = runs[0].task.name
    keys = f"{task}.split_seed, {task}.validation and {task}.test"
    return [f"{what}; compare them only if they have the same --data, {keys}"]
