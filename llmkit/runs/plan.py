"""Plan a run before its first step: precision, micro-batches, compilation, length. resuming.py restores the plan."""

import contextlib
import io
import math
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime
from typing import Any

import torch
from transformers import PreTrainedModel

from llmkit.config.loading import dump_recipe
from llmkit.config.recipe import Recipe
from llmkit.config.section import Section
from llmkit.config.train import Train
from llmkit.core import console, distributed
from llmkit.core.console import count, show_size
from llmkit.core.devices import free_bytes
from llmkit.core.errors import EnvironmentFault, UsageError
from llmkit.core.files import write_json, write_text
from llmkit.core.machine import describe_command, describe_machine, describe_versions, read_memory
from llmkit.models.families import family_of
from llmkit.models.kernels.optimized import optimized
from llmkit.models.layers import list_blocks
from llmkit.runs.model_cost import estimate_memory, measure_model_cost
from llmkit.tasks.base import MeasuredTask, TrainingTask
from llmkit.training.batches import BatchPlan, activation_budget, check_batch_size, plan_batches
from llmkit.training.contract import MeasuredSeconds, Plan
from llmkit.training.engines import RESHARDS, choose_fastest_mode
from llmkit.training.folder import RunFolder
from llmkit.training.optimizer import as_steps, count_parameters
from llmkit.training.speed import choose_precision, choose_threads, flops_per_token, peak_flops
from llmkit.training.time_budget import (
    FINISH_SECONDS,
    MAX_EVALUATIONS,
    Costs,
    LengthRequest,
    RunLength,
    calibration_step,
    fit_length,
    is_last_calibration,
    next_calibration,
)
from llmkit.training.trial import Trial, measure_all_reduce_seconds

TOKENS_PER_PARAMETER = 20
"""About the compute-optimal number (Hoffmann et al. 2022, Chinchilla)."""
MAX_EPOCHS = 10
MIN_TRIAL_MINUTES = 15.0
"""Minimum length of a run for trying compile modes: each trial takes up to a minute."""
COMPILE_TRIAL_SECONDS = 3.0
STEP_TRIAL_SHARE, MAX_STEP_TRIAL_SECONDS = 0.02, 3.0
"""Time limit of the trial steps before training: a fraction of `train.max_minutes`, and a maximum in seconds."""
FINAL_TRIAL_BLOCKS = (8, 32)
"""Numbers of held-out blocks to score in the same way as at the end, to time the final evaluation."""
MAX_FIT_FLOPS_SECONDS = 10.0
"""If the matrix products of a micro-batch take longer on a CPU, its memory is estimated but not tested."""
CHANGEABLE_FIELDS = (
    "num_workers", "log_steps", "save_steps", "trackers", "sample_prompt", "skip_nonfinite", "stop_on_spike",
    "ddp_timeout", "engine", "gradient_checkpointing", "compile", "metrics", "keep_checkpoints",
)  # fmt: skip
"""Fields that a resumed run may change freely, because they do not determine the weights. `compile` may change the last
bits of the weights, and which units dropout drops."""
UNUSED_SECTIONS = ("inputs", "prepare", "evaluate", "generate", "report")
"""Sections that do not determine the weights; the data has fingerprints of its own."""
LENGTHS = (*(field.name for field in fields(RunLength)), "calibration_step", "step_seconds")
"""Fields of a plan that are planned again under `train.max_minutes`; see training/time_budget.py."""


def plan_run(
    recipe: Recipe, task: TrainingTask, network: PreTrainedModel, device: torch.device, elapsed: float = 0.0
) -> Plan:
    """Decide everything that must not change during the run.

    `elapsed` is the number of seconds of `train.max_minutes` that have already passed.

    Raises:
        UsageError: the recipe's lengths or batches do not fit the data, the engine or each other.
        EnvironmentFault: the model or a batch does not fit into memory.
    """
    check_batch_size(recipe.train, task.samples.samples_per_epoch)
    started = time.perf_counter() - elapsed
    train, n_ranks = recipe.train, distributed.world_size()
    if train.max_minutes is not None and n_ranks > 1 and train.engine in RESHARDS:
        what, hint = f"steps under {train.engine} cannot be timed beforehand", "set train.max_steps instead"
        raise UsageError(what, where="train.max_minutes", hint=hint)

    precision, reason = distributed.broadcast_from_main(lambda: choose_precision(train.precision, device))
    console.info(f"training in {precision}: {reason}")
    peak_flops(precision, device)  # timed once, before the number of threads changes
    fewer = choose_threads(device, torch.get_num_threads()) if n_ranks == 1 else None
    if fewer is not None:
        console.info(f"{fewer}; set OMP_NUM_THREADS to choose the number yourself")

    optimized(network, precision, device)  # before any step is timed
    trial = make_trial(recipe, task, network, precision, device)
    batches = plan_micro_batches(recipe, task, trial)
    n_steps = train.max_steps or 0
    if not n_steps and train.epochs is None and train.max_minutes is None:
        n_tokens = min(
            TOKENS_PER_PARAMETER * count_parameters(network.parameters()), MAX_EPOCHS * task.data.n_train_tokens
        )
        n_steps = max(1, n_tokens // (batches.global_batch_size * task.samples.block_size))
        epochs = n_steps * batches.global_batch_size / task.samples.samples_per_epoch
        console.info(f"the recipe sets no length: {count(n_steps, 'step')}, {epochs:.1f} epochs")
    elif not n_steps:
        n_steps = max(1, math.ceil((train.epochs or 1) * task.samples.samples_per_epoch / batches.global_batch_size))

    def estimate_minutes() -> float:
        if train.max_minutes is not None:
            return train.max_minutes
        n_tokens = n_steps * batches.global_batch_size * task.data.sequence_length
        flops = n_tokens * flops_per_token(network, task.data.sequence_length, task.output_fraction)
        return flops / peak_flops(precision, device) / n_ranks / 60

    compiled = choose_compile_mode(train, trial, batches, estimate_minutes)
    fingerprint = resume_fingerprint(recipe, task, precision)
    if train.max_minutes is None:
        eval_steps = train.eval_steps or max(1, -(-n_steps // MAX_EVALUATIONS))
        plan = Plan(n_steps, eval_steps, train.save_steps or eval_steps, batches, precision, fingerprint, compiled)
    else:
        costs = _measure_costs(recipe, task, trial, batches, compiled)
        request = _length_request(recipe, task)
        length = distributed.broadcast_from_main(lambda: fit_length(request, costs, time.perf_counter() - started))
        plan = Plan(0, 0, 0, batches, precision, fingerprint, compiled, step_seconds=[costs.step])
        plan = replace(plan, **asdict(length), calibration_step=calibration_step(length.n_steps))
        if recipe.evaluate.pseudo_perplexity:
            console.info("train.max_minutes does not include the time for evaluate.pseudo_perplexity")
        console.info(
            f"budget {train.max_minutes:g} min: about {count(plan.n_steps, 'step')} of {costs.step:.3f} s; planned "
            f"again after step {plan.calibration_step}"
        )
    if fewer is not None:
        plan = replace(plan, n_threads=torch.get_num_threads())
    if as_steps(recipe.optim.warmup_steps, plan.n_steps) >= plan.n_steps:
        console.info(
            f"warmup_steps {recipe.optim.warmup_steps:g} is not less than the run's {count(plan.n_steps, 'step')}: the "
            "peak learning rate is never reached"
        )
    return plan


def make_trial(
    recipe: Recipe, task: MeasuredTask, network: PreTrainedModel, precision: str, device: torch.device
) -> Trial:
    """Return the Trial of this run, which runs trial steps."""
    return Trial(network, task.objective, task.samples, recipe.optim, precision, device)


def plan_micro_batches(recipe: Recipe, task: MeasuredTask, trial: Trial) -> BatchPlan:
    """Divide the global batch into micro-batches that fit into memory, by an estimate and a trial step.

    Raises:
        UsageError: the recipe's batch cannot be divided.
        EnvironmentFault: the model or a batch does not fit into memory; the error suggests a smaller setting or model.
    """
    network, precision, device = trial.model, trial.precision, trial.device
    bf16, on_cpu = precision == "bf16", device.type == "cpu"
    cost = measure_model_cost(network, recipe, task, bf16=bf16, on_cpu=on_cpu)
    n_ranks = distributed.world_size()
    state_bytes = estimate_memory(cost, recipe.train.engine, n_ranks, 1, bf16=bf16).state
    total = read_memory()
    if on_cpu and total is not None and state_bytes > total:
        needs = f"{show_size(state_bytes)} for weights, gradients and optimizer; this machine has {show_size(total)}"
        hint = "choose a smaller model, or train on another machine; `llmkit plan --gpu` estimates the memory there"
        raise EnvironmentFault(f"training needs {needs}", where="memory", hint=hint)
    budget = min(distributed.gather(activation_budget(free_bytes(device), state_bytes)))
    batches = plan_batches(
        recipe.train, recipe.block_size, cost.bytes_per_token, budget, n_ranks, by_tokens=task.cuts_by_tokens
    )
    if n_ranks > 1 and recipe.train.engine in RESHARDS:  # a single device may not hold the unsharded model
        return batches
    n_tokens = min(batches.micro_batch_size * recipe.block_size, batches.tokens_at_once or 1 << 60)
    flops = n_tokens * cost.flops_per_token * cost.passes
    # Rank 0 decides for all, as measured rates differ.
    if on_cpu and distributed.broadcast_from_main(
        lambda: flops > MAX_FIT_FLOPS_SECONDS * peak_flops(precision, device)
    ):
        return batches
    fitting = trial.fit(batches, may_cut=recipe.train.micro_batch_size == "auto")
    return min(distributed.gather(fitting), key=lambda plan: plan.tokens_at_once or plan.micro_batch_size)


def choose_compile_mode(train: Train, trial: Trial, batches: BatchPlan, minutes: Callable[[], float]) -> str:
    """Return the recipe's compile mode; for `auto` in a long run on a GPU, the fastest mode in a trial.

    `auto` gives `none` on CPUs, where compilation gained nothing (docs/log.md), and for sharded models, which cannot be
    tried on one rank.

    Raises:
        UsageError: CUDA graphs for steps of different shapes.
    """
    same_shapes = batches.tokens_at_once is None and batches.micro_batch_size >= batches.per_rank
    if train.compile == "graphs" and not same_shapes:
        what = "CUDA graphs need steps of one micro-batch, all of the same shape"
        raise UsageError(what, where="train.compile", hint="set train.compile to whole")
    if train.compile != "auto":
        return train.compile
    in_shards = distributed.world_size() > 1 and train.engine in RESHARDS
    if trial.device.type != "cuda" or in_shards or not list_blocks(trial.model):
        return "none"
    if distributed.broadcast_from_main(minutes) < MIN_TRIAL_MINUTES:
        return "none"
    best, reason = choose_fastest_mode(lambda mode: trial.measure(batches, COMPILE_TRIAL_SECONDS, mode).total)
    console.info(reason)
    return best


def _measure_costs(recipe: Recipe, task: TrainingTask, trial: Trial, batches: BatchPlan, compiled: str) -> Costs:
    """Return rough costs before the first step; an evaluation is assumed to cost a third of a training step."""
    assert recipe.train.max_minutes is not None
    budget = min(MAX_STEP_TRIAL_SECONDS, STEP_TRIAL_SHARE * 60 * recipe.train.max_minutes)
    step = trial.measure(batches, budget, compiled)
    all_reduce = measure_all_reduce_seconds(count_parameters(trial.model.parameters()), trial.device, budget)
    block = max(distributed.gather(step.compute)) / 3 / batches.per_rank
    total = max(distributed.gather(step.total)) + all_reduce
    final = block * task.data.n_final * _final_precision_factor(recipe, trial.precision, trial.device)
    return Costs(total, block / distributed.world_size(), final)


def replan(
    recipe: Recipe, task: TrainingTask, network: PreTrainedModel, plan: Plan, step: int, measured: MeasuredSeconds,
    final: tuple[float, float] | None,
) -> Plan:  # fmt: skip
    """Return the plan with new lengths, computed from costs measured until `step`. If the new plan has no
    `calibration_step`, its lengths are final.

    In the second half of a run, only the number of steps and the fraction of held-out data scored at the end change.
    `final` is the result of `time_final_evaluation`; without it, the last evaluation gives an estimate.
    """
    started = time.perf_counter() - measured.elapsed
    request = _length_request(recipe, task)
    is_last = is_last_calibration(plan.n_steps, step, plan.step_seconds)
    if is_last:
        max_eval_samples = plan.max_eval_samples or request.max_eval_samples
        request = replace(
            request, eval_steps=plan.eval_steps, save_steps=plan.save_steps, max_eval_samples=max_eval_samples,
            keeps_blocks=True,
        )  # fmt: skip
    n_scored = min(request.n_held_out, plan.max_eval_samples or request.max_eval_samples)
    block = measured.evaluation / n_scored if n_scored else 0.0
    if final is None:
        slowdown = distributed.world_size() * _final_precision_factor(recipe, plan.precision, network.device)
        final = (block * slowdown * task.data.n_final, 0.0)
    final_score, fixed = final
    finish = FINISH_SECONDS + fixed + 2 * measured.save  # the best weights are read and written once more
    step_seconds = [*plan.step_seconds, measured.step]
    # The median, as another process may have disturbed one measurement.
    step_cost = measured.step if is_last else statistics.median(step_seconds)
    costs = Costs(step_cost, block, final_score, measured.sample, measured.save, finish)
    length = fit_length(request, costs, time.perf_counter() - started, step)
    following = None if is_last else next_calibration(length.n_steps, step, step_seconds)
    plan = replace(plan, **asdict(length), step_seconds=step_seconds, calibration_step=following)
    evaluations = ""
    if n_scored:
        evaluations = (
            f"; an evaluation of {count(plan.max_eval_samples or 0, 'held-out block')} every {plan.eval_steps} steps, "
            f"and of {plan.final_share:.0%} of all {request.n_held_out:,} at the end"
        )
    state = "this plan is final" if following is None else f"planned again after step {following}"
    console.info(
        f"budget {request.seconds / 60:g} min: {count(plan.n_steps, 'step')} of {costs.step:.3f} s"
        f"{evaluations}; {state}"
    )
    return plan


def time_final_evaluation(recipe: Recipe, task: TrainingTask, network: PreTrainedModel) -> tuple[float, float]:
    """Return the (variable, fixed) seconds of the final evaluation on all held-out data.

    The variable part is proportional to the amount of data; the total is the sum of both.
    """
    few, more = (min(1.0, n_blocks / task.data.n_final) for n_blocks in FINAL_TRIAL_BLOCKS)
    settings = recipe.evaluate.with_updates(pseudo_perplexity=0)
    network.eval()
    seconds = []
    for share in (more, few, more):  # the first is a warmup
        started = time.perf_counter()
        with contextlib.redirect_stderr(io.StringIO()):  # its messages belong to the final evaluation
            task.score(network, settings, share)
        seconds.append(time.perf_counter() - started)
    _, short, long = seconds
    whole = max(0.0, long - short) / (more - few) if more > few else short / few
    return whole, max(0.0, short - few * whole)


def _length_request(recipe: Recipe, task: TrainingTask) -> LengthRequest:
    train = recipe.train
    assert train.max_minutes is not None
    return LengthRequest(
        60 * train.max_minutes, task.data.n_held_out, train.max_eval_samples, train.eval_steps, train.save_steps
    )


def _final_precision_factor(recipe: Recipe, precision: str, device: torch.device) -> float:
    """Return the factor on the seconds per held-out block if `evaluate.precision` replaces the training precision."""
    if precision == recipe.evaluate.precision or "bf16" not in (precision, recipe.evaluate.precision):
        return 1.0
    gain = peak_flops("bf16", device) / peak_flops("fp32", device)
    return gain if precision == "bf16" else 1 / gain


def resume_fingerprint(recipe: Recipe, task: TrainingTask, precision: str) -> dict[str, Any]:
    """Return the values that a resumed run must match: precision, world size, data fingerprints, `recipe_fields`."""
    machine = {"precision": precision, "world_size": distributed.world_size()}
    return machine | task.data.fingerprint | recipe_fields(recipe)


def recipe_fields(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe fields, by dotted name, that determine the weights or the plan."""
    sections = {
        name: section.model_dump(mode="json")
        for name, section in recipe
        if isinstance(section, Section) and name not in UNUSED_SECTIONS
    }
    sections["evaluate"] = {"seed": recipe.evaluate.seed}  # determines the held-out masks of model selection
    return {
        f"{name}.{field}": value
        for name, section in sections.items()
        for field, value in section.items()
        if field not in CHANGEABLE_FIELDS
    }


def write_run_files(run: RunFolder, recipe: Recipe, task: TrainingTask, network: PreTrainedModel, plan: Plan) -> None:
    """Write manifest.json and recipe.yaml before the first step; the manifest alone already identifies a run."""
    write_json(
        run.manifest,
        {
            "command": describe_command(),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": describe_machine(),
            "versions": describe_versions(),
            "task": recipe.task,
            **task.describe(),
            "model": {"family": family_of(network.config), "n_parameters": count_parameters(network.parameters())},
            "precision": plan.precision,
            "plan": asdict(plan),
            **({"data_path": os.path.relpath(task.data.path, run.path)} if task.data.path else {}),
            "data": task.data.manifest,
        },
    )
    write_text(run.recipe, dump_recipe(recipe))
