"""Restore a run's plan from a checkpoint; refuse changes of recipe or data, except the changes that --allow names."""

import math
import shlex
from collections.abc import Collection
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from llmkit.architectures import ARCHITECTURES
from llmkit.config.loading import dump_recipe
from llmkit.config.recipe import Recipe
from llmkit.core import console, distributed
from llmkit.core.devices import pick_device
from llmkit.core.errors import UsageError, did_you_mean
from llmkit.core.files import read_json, write_json, write_text
from llmkit.core.machine import VARIABLES, describe_versions, thread_count
from llmkit.runs.plan import make_trial, plan_micro_batches, recipe_fields, resume_fingerprint
from llmkit.tasks.base import TrainingTask
from llmkit.tasks.table import TASKS
from llmkit.training.checkpoints import list_checkpoints
from llmkit.training.contract import Plan, read_plan
from llmkit.training.engines import RESHARDS
from llmkit.training.folder import RunFolder
from llmkit.training.run_files import MANIFEST
from llmkit.training.speed import choose_precision, peak_flops, set_threads
from llmkit.training.time_budget import calibration_step

FIXED_FIELDS = ("optim.name", "optim.layer_decay", "train.max_minutes", "train.carry_state")
"""Fields that must not change, in addition to those of model and task: otherwise the saved state would not fit, or the
length would be undefined."""
DECIDED_LATER = ("train.block_size", "train.epochs", "train.eval_steps", "optim.learning_rate")
"""Fields that a task may derive from model and data if the recipe does not set them."""


def restore_plan(
    run: RunFolder,
    checkpoint: Path,
    recipe: Recipe,
    task: TrainingTask,
    network: PreTrainedModel,
    allow: Collection[str],
) -> Plan:
    """Return the checkpoint's plan, or one that continues from its next sample with the changes that `allow` names.

    Raises:
        UsageError: recipe or data differ from the checkpoint's; the error names each field with old and new value.
    """
    saved = read_json(checkpoint / MANIFEST)
    old = choose_plan(saved["plan"], run.read_manifest(), saved["step"])
    before = old.resume_fingerprint
    fingerprint = resume_fingerprint(recipe, task, old.precision)
    changed = {name: value for name, value in fingerprint.items() if name in before and before[name] != value}
    allow = {*allow, *_allowed_before(run, saved["step"])}
    _check(changed, old, allow, run, recipe)
    peak_flops(old.precision, pick_device())  # timed once, before the number of threads changes, as in a new run
    if old.n_threads is not None and thread_count().source not in VARIABLES:
        set_threads(old.n_threads)  # the order of sums depends on it
    _report_machine(saved)
    plan = replace(old, resume_fingerprint=fingerprint, save_steps=recipe.train.save_steps or old.save_steps)
    plan = replace(plan, compiled=_recompile(recipe, saved, old.compiled))
    if not changed:
        return plan
    step = saved["step"]
    plan = _change_plan(plan, changed, recipe, task, network, step)
    if distributed.is_main_process():
        _record(run, recipe, plan, [_describe(name, old, value) for name, value in changed.items()], step)
    return plan


def choose_plan(saved: dict[str, Any], manifest: dict[str, Any], step: int) -> Plan:
    """Return the plan of the checkpoint at `step`, including lengths that were planned right after it was saved."""
    return read_plan(saved | manifest.get("lengths", {}).get(str(step), {}))


def check_recipe(run: RunFolder, recipe: Recipe, allow: Collection[str]) -> None:
    """Compare the recipe with the recipe of the newest checkpoint, before data and model are opened.

    Fields that depend on data and model are compared later, by `restore_plan`. If the newest checkpoint is damaged, all
    fields are compared later.

    Raises:
        UsageError: the recipe differs; the error lists fields with old and new values, and the command to continue.
    """
    manifest = run.read_manifest()
    try:
        saved = read_json(list_checkpoints(run.checkpoints)[-1] / MANIFEST)
        old = choose_plan(saved["plan"], manifest, saved["step"])
    except (IndexError, OSError, ValueError, KeyError, TypeError):
        return
    if manifest.get("task", recipe.task) != recipe.task:
        what = f"the run was started with other values: task: {manifest['task']} -> {recipe.task}"
        raise UsageError(what, where=str(run.manifest), hint="give another --out for a run of another task")
    before = old.resume_fingerprint
    same_family = recipe.model.family == before.get("model.family")  # else --model may change the section
    changed = {
        name: value
        for name, value in recipe_fields(recipe).items()
        if name in before
        and before[name] != value
        and (same_family or not name.startswith("model."))
        and (value is not None or name not in DECIDED_LATER)
    }
    _check(changed, old, {*allow, *_allowed_before(run, saved["step"])}, run, recipe)


def _check(changed: dict[str, Any], old: Plan, allow: Collection[str], run: RunFolder, recipe: Recipe) -> None:
    if unknown := [name for name in allow if name not in old.resume_fingerprint]:
        hint = did_you_mean(unknown[0], old.resume_fingerprint)
        raise UsageError(f"{unknown[0]!r} is not a field that a run depends on", where="--allow", hint=hint)
    refused = [name for name in changed if name not in allow]
    fixed = (*FIXED_FIELDS, *TASKS[recipe.task].fixed_fields)
    if recipe.train.carry_state and ARCHITECTURES[recipe.model.family].carries_state:
        fixed += ("train.global_batch_size", "train.block_size")  # the state fits only streams cut in this way
    never = [name for name in changed if name in fixed or name.startswith("model.")]
    if not refused and not never:
        return
    hint = f"to continue the run with its own values: {resume_command(run, recipe)}"
    if never:
        hint += "; for a new run, give another --out"
    else:
        hint += "; to continue with the new values from the next sample, add: "
        hint += " ".join(f"--allow {name}" for name in changed)
    what = "; ".join(_describe(name, old, changed[name]) for name in changed)
    raise UsageError(f"the run was started with other values: {what}", where=str(run.manifest), hint=hint)


def resume_command(run: RunFolder, recipe: Recipe) -> str:
    """Return the command line that continues a run with its own recipe, including the code that the recipe names."""
    words = ["llmkit", f"{recipe.COMMANDS[0]}-{recipe.task}"]
    if "data_path" in run.read_manifest():  # a run on rows reads its files from its manifest
        words += ["--data", str(run.data_path)]
    code = [word for setting in recipe.code for word in ("-s", setting)]
    return shlex.join([*words, "--out", str(run.path), "--resume", *code])


def _describe(name: str, old: Plan, new: Any) -> str:
    values = ["null" if value is None else str(value) for value in (old.resume_fingerprint[name], new)]
    return f"{name}: " + " -> ".join(value[:12] if len(value) == 64 else value for value in values)  # 64: a SHA-256


def _change_plan(
    plan: Plan, changed: Collection[str], recipe: Recipe, task: TrainingTask, network: PreTrainedModel, step: int
) -> Plan:
    """Return the plan with changes that apply from optimizer step `step`; counting of steps and samples continues.

    If the length is unchanged, the total number of samples stays the same, rounded up to a complete step.
    """
    before = plan.batches
    done = before.first_sample + step * before.global_batch_size
    until = before.first_sample + plan.n_steps * before.global_batch_size
    precision = plan.precision
    if "train.precision" in changed:
        precision, reason = distributed.broadcast_from_main(
            lambda: choose_precision(recipe.train.precision, pick_device())
        )
        console.info(f"training in {precision}: {reason}")
    batches = plan_micro_batches(recipe, task, make_trial(recipe, task, network, precision, pick_device()))
    size = batches.global_batch_size
    if "train.epochs" in changed and recipe.train.epochs:
        until = math.ceil(recipe.train.epochs * task.samples.samples_per_epoch)
    n_steps = step + max(0, math.ceil((until - done) / size))
    if "train.max_steps" in changed and recipe.train.max_steps:
        n_steps = recipe.train.max_steps
    batches = replace(batches, first_sample=done - step * size)
    if plan.calibration_step is not None:
        step_seconds = [seconds * size / before.global_batch_size for seconds in plan.step_seconds[-1:]]
        again = step + calibration_step(n_steps - step)
        plan = replace(plan, calibration_step=again, step_seconds=step_seconds)
    eval_steps = recipe.train.eval_steps or plan.eval_steps
    fingerprint = {**plan.resume_fingerprint, "precision": precision}
    console.info(
        f"continuing from sample {done:,} with {', '.join(changed)} changed: {console.count(n_steps, 'step')} in total"
    )
    return replace(
        plan, n_steps=n_steps, eval_steps=eval_steps, batches=batches, precision=precision,
        resume_fingerprint=fingerprint,
    )  # fmt: skip


def _allowed_before(run: RunFolder, step: int) -> set[str]:
    """Return the fields whose changes were allowed in earlier resumes from the checkpoint of `step`."""
    changes = run.read_manifest().get("changes", [])
    return {text.partition(":")[0] for change in changes if change["step"] == step for text in change["changed"]}


def _record(run: RunFolder, recipe: Recipe, plan: Plan, changed: list[str], step: int) -> None:
    """Write the changes to the run's manifest, and the new recipe."""
    manifest = run.read_manifest()
    lengths = {name: known for name, known in manifest.get("lengths", {}).items() if int(name) <= step}
    change = {"step": step, "changed": changed}
    changes = [*(known for known in manifest.get("changes", []) if known != change), change]
    updates = {"plan": asdict(plan), "precision": plan.precision, "changes": changes, "lengths": lengths}
    write_json(run.manifest, manifest | updates)
    write_text(run.recipe, dump_recipe(recipe))


def _recompile(recipe: Recipe, saved: dict[str, Any], before: str) -> str:
    """Return the recipe's compile mode; for `auto` the previous mode, unless the device differs or the model is
    sharded.
    """
    if recipe.train.compile != "auto":
        return recipe.train.compile
    in_shards = distributed.world_size() > 1 and recipe.train.engine in RESHARDS
    return "none" if in_shards or saved.get("device") != pick_device().type else before


def _report_machine(saved: dict[str, Any]) -> None:
    """Log a change of device, number of threads or versions, which may change the order of sums."""
    now = {"threads": torch.get_num_threads(), "device": pick_device().type, **describe_versions()}
    before = {"threads": saved.get("threads"), "device": saved.get("device"), **saved.get("versions", {})}
    other = [f"{name} {before[name]} -> {now[name]}" for name in now if before.get(name) not in (None, now[name])]
    if other:
        console.info(
            f"{', '.join(other)}: the weights may differ in their last bits from those of an uninterrupted run"
        )
