"""Decide how long a run is and how it is cut, before its first step; resuming.py finds those decisions again."""

import math
import os
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import torch
from transformers import PreTrainedModel

from llmkit import ranks
from llmkit.config.loading import dump_recipe
from llmkit.config.recipe import Recipe
from llmkit.errors import UsageError, say
from llmkit.files import write_json, write_text
from llmkit.models.families import family_of
from llmkit.models.kernels import choose_kernels
from llmkit.models.layers import list_blocks
from llmkit.pipelines.task import Task
from llmkit.pipelines.workload import describe_workload
from llmkit.runs.folder import RunFolder
from llmkit.runs.machine import describe_command, describe_machine, describe_versions
from llmkit.training.batches import BatchPlan, activation_budget, plan_batches
from llmkit.training.compiling import find_fastest
from llmkit.training.contract import Plan, Samples
from llmkit.training.engines import RESHARDS
from llmkit.training.forecast import measure_parts
from llmkit.training.optimizer import as_steps, count_weights
from llmkit.training.speed import choose_precision, flops_a_token, peak_flops
from llmkit.training.trial import (
    EVALUATIONS,
    fit_in_memory,
    measure_exchange_seconds,
    measure_step_seconds,
    plan_minutes,
)

TOKENS_A_WEIGHT = 20
"""Hoffmann et al. 2022 (Chinchilla): about the best use of a compute budget."""
MOST_EPOCHS = 10
WORTH_A_TRIAL = 15.0
"""Minutes a run must take for ways to compile it to be tried: each takes up to one."""
TRIAL_SECONDS = 3.0
FREE_TO_CHANGE = (
    "num_workers", "log_steps", "save_steps", "tensorboard", "sample_prompt", "skip_nonfinite", "stop_on_spike",
    "ddp_timeout", "engine", "gradient_checkpointing", "compile",
)  # fmt: skip
"""Fields that a resumed run may have otherwise: they change what is shown or kept. `compile` may also change the last
bits of weights, and which units are dropped."""


def plan_run(recipe: Recipe, task: Task, network: PreTrainedModel, device: torch.device) -> Plan:
    """Decide everything that must not change later: precision, cut of the batch, number of steps."""
    train, samples = recipe.train, task.samples
    if train.max_minutes is not None and ranks.world_size() > 1 and train.engine in RESHARDS:
        what, hint = f"steps under {train.engine} cannot be timed beforehand", "set train.max_steps instead"
        raise UsageError(what, where="train.max_minutes", hint=hint)
    precision, why = ranks.from_first(lambda: choose_precision(train.precision, device))
    say(f"{precision} on {device.type}: {why}")
    choose_kernels(network, precision, device)  # before any step is timed
    batches = plan_cut(recipe, task, network, precision, device)
    eval_steps = train.eval_steps
    n_steps = train.max_steps or _steps_of_epochs(train.epochs, samples, batches)
    if train.max_minutes is None and train.max_steps is None and train.epochs is None:
        n_steps = _default_steps(network, task, batches)
        epochs = n_steps * batches.global_batch_size / samples.samples_per_epoch
        say(f"no length was given: {n_steps} steps, {epochs:.1f} epochs")
    compiled = choose_compiling(
        recipe, task, network, batches, precision, device,
        lambda: train.max_minutes or _least_minutes(n_steps, network, task, batches, precision, device),
    )  # fmt: skip
    if train.max_minutes is not None:
        budget = min(10.0, 0.05 * 60 * train.max_minutes)
        seconds = measure_step_seconds(
            network, task.objective, samples, recipe.optim, batches, precision, device, budget, compiled
        )
        seconds = max(ranks.gather(seconds)) + measure_exchange_seconds(count_weights(network.parameters()), device)
        # An evaluation is a forward pass: a third of a training step for as many sequences.
        n_held_out = min(task.data.n_held_out, train.max_eval_blocks)
        evaluation = n_held_out / batches.global_batch_size * seconds / 3
        n_steps, eval_steps = plan_minutes(train.max_minutes, seconds, evaluation, train.eval_steps)
        say(f"{train.max_minutes:g} minutes: {n_steps} steps of {seconds:.3f} s here; this number is now fixed")
    if as_steps(recipe.optim.warmup_steps, n_steps) >= n_steps:
        say(
            f"warmup_steps {recipe.optim.warmup_steps:g} is no less than all {n_steps} steps: the peak is never reached"
        )
    eval_steps = eval_steps or max(1, -(-n_steps // EVALUATIONS))
    facts = gather_facts(recipe, task, precision)
    return Plan(n_steps, eval_steps, train.save_steps or eval_steps, batches, precision, facts, compiled)


def plan_cut(recipe: Recipe, task: Task, network: PreTrainedModel, precision: str, device: torch.device) -> BatchPlan:
    """How the global batch is cut, tried on the machine.

    Raises:
        UsageError: the recipe's batch cannot be cut.
        EnvironmentFault: not even so does a step fit into memory; says which setting does.
    """
    bf16, on_cpu = precision == "bf16", device.type == "cpu"
    work = describe_workload(network, recipe, output_share=task.output_share, bf16=bf16, on_cpu=on_cpu)
    free = None if on_cpu else torch.cuda.mem_get_info(device)[0]
    n_ranks = ranks.world_size()
    budget = activation_budget(free, measure_parts(work, recipe.train.engine, n_ranks, 1, bf16=bf16).state)
    batches = plan_batches(
        recipe.train, work.bytes_a_token, min(ranks.gather(budget)), n_ranks, by_tokens=recipe.task is not None
    )
    if n_ranks > 1 and recipe.train.engine in RESHARDS:  # one device alone need not hold what a trial would take
        return batches
    fitting = fit_in_memory(
        network, task.objective, task.samples, recipe.optim, batches, precision, device,
        may_cut=recipe.train.micro_batch_size == "auto",
    )  # fmt: skip
    return min(ranks.gather(fitting), key=lambda cut: cut.tokens_at_once or cut.micro_batch_size)


def choose_compiling(
    recipe: Recipe, task: Task, network: PreTrainedModel, batches: BatchPlan, precision: str, device: torch.device,
    minutes: Callable[[], float],
) -> str:  # fmt: skip
    """What of a step is compiled: as the recipe says, or in a run of many minutes what a trial finds fastest.

    On CPUs it gained nothing (docs/log.md), and what is spread in shards cannot be tried alone.

    Raises:
        UsageError: CUDA graphs, for steps of which one is not like the other.
    """
    train = recipe.train
    alike = batches.tokens_at_once is None and batches.micro_batch_size >= batches.n_a_rank
    if train.compile == "graphs" and not alike:
        what = "CUDA graphs want steps of one micro-batch, and all of one shape"
        raise UsageError(what, where="train.compile", hint="set it to whole")
    if train.compile != "auto":
        return train.compile
    in_shards = ranks.world_size() > 1 and train.engine in RESHARDS
    if device.type != "cuda" or in_shards or not list_blocks(network):
        return "none"
    if ranks.from_first(minutes) < WORTH_A_TRIAL:
        return "none"
    best, why = find_fastest(
        lambda way: measure_step_seconds(
            network, task.objective, task.samples, recipe.optim, batches, precision, device, TRIAL_SECONDS, way
        )
    )
    say(why)
    return best


def gather_facts(recipe: Recipe, task: Task, precision: str) -> dict[str, Any]:
    """What a resumed run must agree with: precision, fingerprints of the data, and by its dotted name every field of
    the recipe that decides the weights or the plan."""
    sections = {
        name: getattr(recipe, name).model_dump(mode="json") for name in ("model", "mlm", "cls", "optim", "train")
    }
    sections["evaluate"] = {"seed": recipe.evaluate.seed}  # which held-out masks the best weights are chosen by
    fields = {
        f"{name}.{field}": value
        for name, section in sections.items()
        for field, value in section.items()
        if field not in FREE_TO_CHANGE
    }
    return {"precision": precision, "world_size": ranks.world_size(), **task.data.fingerprint, **fields}


def _steps_of_epochs(epochs: float | None, samples: Samples, batches: BatchPlan) -> int:
    return max(1, math.ceil((epochs or 1) * samples.samples_per_epoch / batches.global_batch_size))


def _least_minutes(
    n_steps: int, network: PreTrainedModel, task: Task, batches: BatchPlan, precision: str, device: torch.device
) -> float:
    """Those of a run that does nothing but products of matrices."""
    n_tokens = n_steps * batches.global_batch_size * task.data.sequence_length
    work = n_tokens * flops_a_token(network, task.data.sequence_length, task.output_share)
    return work / peak_flops(precision, device) / ranks.world_size() / 60


def _default_steps(network: PreTrainedModel, task: Task, batches: BatchPlan) -> int:
    """20 tokens a weight, but at most ten times over the text."""
    tokens = min(TOKENS_A_WEIGHT * count_weights(network.parameters()), MOST_EPOCHS * task.data.n_train_tokens)
    return max(1, tokens // (batches.global_batch_size * task.samples.block_size))


def write_start(run: RunFolder, recipe: Recipe, task: Task, network: PreTrainedModel, plan: Plan) -> None:
    """recipe.yaml and manifest.json: what this run is, before its first step."""
    write_text(run.recipe, dump_recipe(recipe))
    write_json(
        run.manifest,
        {
            "command": describe_command(),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": describe_machine(),
            "versions": describe_versions(),
            "objective": recipe.task or recipe.objective,
            **task.describe(),
            "model": {"family": family_of(network.config), "n_parameters": count_weights(network.parameters())},
            "precision": plan.precision,
            "plan": asdict(plan),
            **({"data_path": os.path.relpath(task.data.path, run.path)} if task.data.path else {}),
            "data": task.data.manifest,
        },
    )
