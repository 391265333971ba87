"""Decide how long a run is and how it is cut, before its first step; resuming.py finds those decisions again."""

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
from llmkit.core import console, distributed
from llmkit.core.devices import free_bytes
from llmkit.core.errors import UsageError
from llmkit.core.files import write_json, write_text
from llmkit.core.machine import describe_command, describe_machine, describe_versions
from llmkit.models.families import family_of
from llmkit.models.kernels.optimized import optimized
from llmkit.models.layers import list_blocks
from llmkit.runs.model_cost import measure_model_cost
from llmkit.tasks.base import MeasuredTask, TrainingTask
from llmkit.training.batches import BatchPlan, activation_budget, plan_batches
from llmkit.training.compiling import find_fastest
from llmkit.training.contract import MeasuredSeconds, Plan, Samples
from llmkit.training.engines import RESHARDS
from llmkit.training.folder import RunFolder
from llmkit.training.forecast import measure_parts
from llmkit.training.optimizer import as_steps, count_weights
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
from llmkit.training.trial import fit_in_memory, measure_exchange_seconds, measure_step_seconds

TOKENS_PER_WEIGHT = 20
"""Hoffmann et al. 2022 (Chinchilla): about the best use of a compute budget."""
MAX_EPOCHS = 10
WORTH_A_TRIAL = 15.0
"""Minutes a run must take for ways to compile it to be tried: each takes up to one."""
COMPILE_TRIAL_SECONDS = 3.0
STEP_TRIAL_SHARE, MAX_STEP_TRIAL_SECONDS = 0.02, 3.0
"""Of `train.max_minutes`, for steps that are timed before the first one."""
FINAL_TRIAL_BLOCKS = (8, 32)
"""Held-out blocks that are scored as at the end, to time them."""
MAX_FIT_FLOPS_SECONDS = 10.0
"""A micro-batch whose products take longer than this is not tried on a CPU; the estimate of its memory is trusted."""
FREE_TO_CHANGE = (
    "num_workers", "log_steps", "save_steps", "trackers", "sample_prompt", "skip_nonfinite", "stop_on_spike",
    "ddp_timeout", "engine", "gradient_checkpointing", "compile",
)  # fmt: skip
"""Fields that a resumed run may have otherwise: they change what is shown or kept. `compile` may also change the last
bits of weights, and which units are dropped."""


NOT_TRAINED = ("prepare", "evaluate", "generate", "report")
"""Sections that training does not read."""
LENGTHS = (*(field.name for field in fields(RunLength)), "calibration_step", "step_seconds")
"""Fields of a plan that are planned again under `train.max_minutes`; see training/time_budget.py."""


def plan_run(
    recipe: Recipe, task: TrainingTask, network: PreTrainedModel, device: torch.device, elapsed: float = 0.0
) -> Plan:
    """Decide everything that must not change later: precision, cut of the batch, number of steps.

    `elapsed` seconds of `train.max_minutes` have passed when it is called.
    """
    started = time.perf_counter() - elapsed
    train, samples = recipe.train, task.samples
    if train.max_minutes is not None and distributed.world_size() > 1 and train.engine in RESHARDS:
        what, hint = f"steps under {train.engine} cannot be timed beforehand", "set train.max_steps instead"
        raise UsageError(what, where="train.max_minutes", hint=hint)
    precision, why = distributed.broadcast_from_main(lambda: choose_precision(train.precision, device))
    console.info(f"training in {precision}: {why}")
    peak_flops(precision, device)  # is kept; once torch's threads are set, one alone can no longer be timed
    fewer = choose_threads(device, torch.get_num_threads()) if distributed.world_size() == 1 else None
    if fewer is not None:
        console.info(f"{fewer}; set OMP_NUM_THREADS to choose the number yourself")
    optimized(network, precision, device)  # before any step is timed
    batches = plan_cut(recipe, task, network, precision, device)
    n_steps = train.max_steps or _steps_of_epochs(train.epochs, samples, batches)
    if train.max_minutes is None and train.max_steps is None and train.epochs is None:
        n_steps = _default_steps(network, task, batches)
        epochs = n_steps * batches.global_batch_size / samples.samples_per_epoch
        console.info(f"no length was given: {n_steps} steps, {epochs:.1f} epochs")
    compiled = choose_compiling(
        recipe, task, network, batches, precision, device,
        lambda: train.max_minutes or _min_minutes(n_steps, network, task, batches, precision, device),
    )  # fmt: skip
    fingerprint = resume_fingerprint(recipe, task, precision)
    if train.max_minutes is None:
        eval_steps = train.eval_steps or max(1, -(-n_steps // MAX_EVALUATIONS))
        plan = Plan(n_steps, eval_steps, train.save_steps or eval_steps, batches, precision, fingerprint, compiled)
    else:
        costs = _measure_costs(recipe, task, network, batches, precision, device, compiled)
        request = _length_request(recipe, task)
        length = distributed.broadcast_from_main(lambda: fit_length(request, costs, time.perf_counter() - started))
        plan = Plan(0, 0, 0, batches, precision, fingerprint, compiled, step_seconds=[costs.step])
        plan = replace(plan, **asdict(length), calibration_step=calibration_step(length.n_steps))
        if recipe.evaluate.pseudo_perplexity:
            console.info("evaluate.pseudo_perplexity takes its time on top of train.max_minutes")
        console.info(
            f"{train.max_minutes:g} minutes: about {plan.n_steps} steps of {costs.step:.3f} s; planned again after "
            f"step {plan.calibration_step}"
        )
    if fewer is not None:
        plan = replace(plan, n_threads=torch.get_num_threads())
    if as_steps(recipe.optim.warmup_steps, plan.n_steps) >= plan.n_steps:
        console.info(
            f"warmup_steps {recipe.optim.warmup_steps:g} is no less than all {plan.n_steps} steps: the peak is never "
            "reached"
        )
    return plan


def _measure_costs(
    recipe: Recipe, task: TrainingTask, network: PreTrainedModel, batches: BatchPlan, precision: str,
    device: torch.device, compiled: str,
) -> Costs:  # fmt: skip
    """Rough costs before the first step. An evaluation is a forward pass: a third of forward and backward."""
    assert recipe.train.max_minutes is not None
    budget = min(MAX_STEP_TRIAL_SECONDS, STEP_TRIAL_SHARE * 60 * recipe.train.max_minutes)
    step = measure_step_seconds(
        network, task.objective, task.samples, recipe.optim, batches, precision, device, budget, compiled
    )
    exchange = measure_exchange_seconds(count_weights(network.parameters()), device, budget)
    n_ranks = distributed.world_size()
    block = max(distributed.gather(step.compute)) / 3 / batches.per_rank
    total = max(distributed.gather(step.total)) + exchange
    final = block * task.data.n_final * _final_slowdown(recipe, precision, device)
    return Costs(total, block / n_ranks, final)


def replan(
    recipe: Recipe, task: TrainingTask, network: PreTrainedModel, plan: Plan, step: int, measured: MeasuredSeconds,
    final: tuple[float, float] | None,
) -> Plan:  # fmt: skip
    """The plan with its lengths measured once more, after `step` steps; fixed unless it has a `calibration_step`.

    At the half of a run only the number of steps changes, and the share of held-out data that is scored at the end.
    `final` is what `time_final_score` measured; without it the final score is estimated by an evaluation.
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
        slowdown = distributed.world_size() * _final_slowdown(recipe, plan.precision, network.device)
        final = (block * slowdown * task.data.n_final, 0.0)
    final_score, fixed = final
    finish = FINISH_SECONDS + fixed + 2 * measured.save  # the best weights are read back, and written once more
    step_seconds = [*plan.step_seconds, measured.step]  # of which one may be a moment that something else disturbed
    of_step = measured.step if is_last else statistics.median(step_seconds)
    costs = Costs(of_step, block, final_score, measured.sample, measured.save, finish)
    length = fit_length(request, costs, time.perf_counter() - started, step)
    following = None if is_last else next_calibration(length.n_steps, step, step_seconds)
    plan = replace(plan, **asdict(length), step_seconds=step_seconds, calibration_step=following)
    evaluations = ""
    if n_scored:
        evaluations = (
            f"; an evaluation of {plan.max_eval_samples:,} held-out blocks every {plan.eval_steps} steps, and of "
            f"{plan.final_share:.0%} of all {request.n_held_out:,} at the end"
        )
    state = "this is fixed" if following is None else f"planned again after step {following}"
    console.info(f"{request.seconds / 60:g} minutes: {plan.n_steps} steps of {costs.step:.3f} s{evaluations}; {state}")
    return plan


def time_final_score(recipe: Recipe, task: TrainingTask, network: PreTrainedModel) -> tuple[float, float]:
    """Seconds that the final score takes for all held-out data, and seconds that do not depend on how much it is."""
    few, more = (min(1.0, n_blocks / task.data.n_final) for n_blocks in FINAL_TRIAL_BLOCKS)
    settings = recipe.evaluate.with_updates(pseudo_perplexity=0)
    network.eval()
    seconds = []
    for share in (more, few, more):  # the first is slower, as all first calls are
        started = time.perf_counter()
        with contextlib.redirect_stderr(io.StringIO()):  # its notes belong to the final score
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


def _final_slowdown(recipe: Recipe, precision: str, device: torch.device) -> float:
    """How many times as long a held-out block takes at the end, where it is scored in `evaluate.precision`."""
    if precision == recipe.evaluate.precision or "bf16" not in (precision, recipe.evaluate.precision):
        return 1.0
    gain = peak_flops("bf16", device) / peak_flops("fp32", device)
    return gain if precision == "bf16" else 1 / gain


def plan_cut(
    recipe: Recipe, task: MeasuredTask, network: PreTrainedModel, precision: str, device: torch.device
) -> BatchPlan:
    """How the global batch is cut, tried on the machine.

    Raises:
        UsageError: the recipe's batch cannot be cut.
        EnvironmentFault: not even so does a step fit into memory; says which setting does.
    """
    bf16, on_cpu = precision == "bf16", device.type == "cpu"
    work = measure_model_cost(network, recipe, task, bf16=bf16, on_cpu=on_cpu)
    free = free_bytes(device)
    n_ranks = distributed.world_size()
    budget = activation_budget(free, measure_parts(work, recipe.train.engine, n_ranks, 1, bf16=bf16).state)
    batches = plan_batches(
        recipe.train, recipe.block_size, work.bytes_per_token, min(distributed.gather(budget)), n_ranks,
        by_tokens=task.cuts_by_tokens,
    )  # fmt: skip
    if n_ranks > 1 and recipe.train.engine in RESHARDS:  # one device alone need not hold what a trial would take
        return batches
    tokens = min(batches.micro_batch_size * recipe.block_size, batches.tokens_at_once or 1 << 60)
    flops = tokens * work.flops_per_token * work.passes
    # One answer for all ranks, each of which would measure a rate of its own.
    if on_cpu and distributed.broadcast_from_main(
        lambda: flops > MAX_FIT_FLOPS_SECONDS * peak_flops(precision, device)
    ):
        return batches
    fitting = fit_in_memory(
        network, task.objective, task.samples, recipe.optim, batches, precision, device,
        may_cut=recipe.train.micro_batch_size == "auto",
    )  # fmt: skip
    return min(distributed.gather(fitting), key=lambda cut: cut.tokens_at_once or cut.micro_batch_size)


def choose_compiling(
    recipe: Recipe, task: MeasuredTask, network: PreTrainedModel, batches: BatchPlan, precision: str,
    device: torch.device, minutes: Callable[[], float],
) -> str:  # fmt: skip
    """What of a step is compiled: as the recipe says, or in a run of many minutes what a trial finds fastest.

    On CPUs it gained nothing (docs/log.md), and what is spread in shards cannot be tried alone.

    Raises:
        UsageError: CUDA graphs, for steps of which one is not like the other.
    """
    train = recipe.train
    alike = batches.tokens_at_once is None and batches.micro_batch_size >= batches.per_rank
    if train.compile == "graphs" and not alike:
        what = "CUDA graphs want steps of one micro-batch, and all of one shape"
        raise UsageError(what, where="train.compile", hint="set it to whole")
    if train.compile != "auto":
        return train.compile
    in_shards = distributed.world_size() > 1 and train.engine in RESHARDS
    if device.type != "cuda" or in_shards or not list_blocks(network):
        return "none"
    if distributed.broadcast_from_main(minutes) < WORTH_A_TRIAL:
        return "none"
    best, why = find_fastest(
        lambda way: (
            measure_step_seconds(
                network,
                task.objective,
                task.samples,
                recipe.optim,
                batches,
                precision,
                device,
                COMPILE_TRIAL_SECONDS,
                way,
            ).total
        )
    )
    console.info(why)
    return best


def resume_fingerprint(recipe: Recipe, task: TrainingTask, precision: str) -> dict[str, Any]:
    """What a resumed run must agree with: precision, fingerprints of the data, and by its dotted name every field of
    the recipe that decides the weights or the plan."""
    sections = {
        name: section.model_dump(mode="json")
        for name, section in recipe
        if isinstance(section, Section) and name not in NOT_TRAINED
    }
    sections["evaluate"] = {"seed": recipe.evaluate.seed}  # which held-out masks the best weights are chosen by
    fields = {
        f"{name}.{field}": value
        for name, section in sections.items()
        for field, value in section.items()
        if field not in FREE_TO_CHANGE
    }
    return {"precision": precision, "world_size": distributed.world_size(), **task.data.fingerprint, **fields}


def _steps_of_epochs(epochs: float | None, samples: Samples, batches: BatchPlan) -> int:
    return max(1, math.ceil((epochs or 1) * samples.samples_per_epoch / batches.global_batch_size))


def _min_minutes(
    n_steps: int, network: PreTrainedModel, task: TrainingTask, batches: BatchPlan, precision: str, device: torch.device
) -> float:
    """Those of a run that does nothing but products of matrices."""
    n_tokens = n_steps * batches.global_batch_size * task.data.sequence_length
    work = n_tokens * flops_per_token(network, task.data.sequence_length, task.output_share)
    return work / peak_flops(precision, device) / distributed.world_size() / 60


def _default_steps(network: PreTrainedModel, task: TrainingTask, batches: BatchPlan) -> int:
    """20 tokens a weight, but at most ten times over the text."""
    tokens = min(TOKENS_PER_WEIGHT * count_weights(network.parameters()), MAX_EPOCHS * task.data.n_train_tokens)
    return max(1, tokens // (batches.global_batch_size * task.samples.block_size))


def write_start(run: RunFolder, recipe: Recipe, task: TrainingTask, network: PreTrainedModel, plan: Plan) -> None:
    """recipe.yaml and manifest.json: what this run is, before its first step."""
    write_text(run.recipe, dump_recipe(recipe))
    write_json(
        run.manifest,
        {
            "command": describe_command(),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": describe_machine(),
            "versions": describe_versions(),
            "task": recipe.task,
            **task.describe(),
            "model": {"family": family_of(network.config), "n_parameters": count_weights(network.parameters())},
            "precision": plan.precision,
            "plan": asdict(plan),
            **({"data_path": os.path.relpath(task.data.path, run.path)} if task.data.path else {}),
            "data": task.data.manifest,
        },
    )
