"""Decide how long a run is and how it is cut, before its first step; and find those decisions again on resume."""

import math
import os
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import torch
from transformers import PreTrainedModel

from llmkit.config.loading import dump_recipe, load_recipe
from llmkit.config.recipe import Recipe
from llmkit.errors import UsageError, say
from llmkit.files import read_json, write_json, write_text
from llmkit.models.attention import choose_attention
from llmkit.models.dropout import choose_dropout
from llmkit.models.families import family_of, sums_its_loss
from llmkit.models.loading import embedding_rows
from llmkit.pipelines.task import Task
from llmkit.runs.folder import RunFolder
from llmkit.runs.machine import describe_command, describe_machine, describe_versions
from llmkit.training.batches import CPU_BUDGET, GPU_SHARE, BatchPlan, estimate_bytes_a_token, plan_batches
from llmkit.training.contract import Plan, Samples
from llmkit.training.optimizer import as_steps, count_weights
from llmkit.training.speed import choose_precision
from llmkit.training.trial import EVALUATIONS, measure_step_seconds, plan_minutes

TOKENS_A_WEIGHT = 20
"""Hoffmann et al. 2022 (Chinchilla): about the best use of a compute budget."""
MOST_EPOCHS = 10
FREE_TO_CHANGE = ("num_workers", "log_steps", "tensorboard", "sample_prompt")
"""Fields that a resumed run may have otherwise: they change what is shown, never a weight."""


def plan_run(recipe: Recipe, task: Task, network: PreTrainedModel, device: torch.device) -> Plan:
    """Decide everything that must not change later: precision, cut of the batch, number of steps."""
    train, samples = recipe.train, task.samples
    precision, why = choose_precision(train.precision, device)
    say(f"{precision} on {device.type}: {why}")
    choose_attention(network, precision, device)  # before any step is timed
    choose_dropout(network, device)
    n_logits = 0 if sums_its_loss(network.config) else embedding_rows(network)
    bytes_a_token = estimate_bytes_a_token(
        n_logits, network.config.num_hidden_layers, network.config.hidden_size, task.output_share
    )
    batches = plan_batches(
        train, bytes_a_token, _memory_budget(device), world_size=1, by_tokens=recipe.task is not None
    )
    eval_steps = train.eval_steps
    n_steps = train.max_steps or _steps_of_epochs(train.epochs, samples, batches)
    if train.max_minutes is not None:
        budget = min(10.0, 0.05 * 60 * train.max_minutes)
        seconds = measure_step_seconds(
            network, task.objective, samples, recipe.optim, batches, precision, device, budget
        )
        # An evaluation is a forward pass: a third of a training step for as many sequences.
        n_held_out = min(task.data.n_held_out, train.max_eval_blocks)
        evaluation = n_held_out / batches.global_batch_size * seconds / 3
        n_steps, eval_steps = plan_minutes(train.max_minutes, seconds, evaluation, train.eval_steps)
        say(f"{train.max_minutes:g} minutes: {n_steps} steps of {seconds:.3f} s here; this number is now fixed")
    elif train.max_steps is None and train.epochs is None:
        n_steps = _default_steps(network, task, batches)
        epochs = n_steps * batches.global_batch_size / samples.samples_per_epoch
        say(f"no length was given: {n_steps} steps, {epochs:.1f} epochs")
    if as_steps(recipe.optim.warmup_steps, n_steps) >= n_steps:
        say(
            f"warmup_steps {recipe.optim.warmup_steps:g} is no less than all {n_steps} steps: the peak is never reached"
        )
    eval_steps = eval_steps or max(1, -(-n_steps // EVALUATIONS))
    return Plan(n_steps, eval_steps, train.save_steps or eval_steps, batches, precision, _facts(task, precision))


def plan_again(run: RunFolder, recipe: Recipe, task: Task) -> Plan:
    """The plan that the run began with.

    Raises:
        UsageError: recipe or data are not those of the run; names each field, old and new.
    """
    kept = read_json(run.manifest)["plan"]
    facts = _facts(task, kept["precision"])
    before, now = _trained_fields(load_recipe(run.recipe)), _trained_fields(recipe)
    changed = [f"{name}: {before[name]} -> {now[name]}" for name in now if before[name] != now[name]]
    old = kept["facts"]
    changed += [f"{name}: {_short(old.get(name))} -> {_short(v)}" for name, v in facts.items() if old.get(name) != v]
    if changed:
        hint = "resume with the recipe and data it began with, or start a new run with another --out"
        raise UsageError(f"the run began with something else: {'; '.join(changed)}", where=str(run.manifest), hint=hint)
    batches = BatchPlan(**kept["batches"])
    return Plan(kept["n_steps"], kept["eval_steps"], kept["save_steps"], batches, kept["precision"], facts)


def _facts(task: Task, precision: str) -> dict[str, Any]:
    """What resuming depends on beside the recipe's own fields."""
    return {"precision": precision, **task.data.fingerprint}


def _short(fact: Any) -> str:
    """A fingerprint's beginning; anything else whole."""
    return str(fact)[:12] if len(str(fact)) == 64 else str(fact)


def _memory_budget(device: torch.device) -> int:
    return int(GPU_SHARE * torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else CPU_BUDGET


def _trained_fields(recipe: Recipe) -> dict[str, Any]:
    """Every field that decides the weights or the plan, by its dotted name."""
    sections = {
        name: getattr(recipe, name).model_dump(mode="json") for name in ("model", "mlm", "cls", "optim", "train")
    }
    sections["evaluate"] = {"seed": recipe.evaluate.seed}  # which held-out masks the best weights are chosen by
    return {
        f"{name}.{field}": value
        for name, section in sections.items()
        for field, value in section.items()
        if field not in FREE_TO_CHANGE
    }


def _steps_of_epochs(epochs: float | None, samples: Samples, batches: BatchPlan) -> int:
    return max(1, math.ceil((epochs or 1) * samples.samples_per_epoch / batches.global_batch_size))


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
            "plan": {
                "n_steps": plan.n_steps,
                "eval_steps": plan.eval_steps,
                "save_steps": plan.save_steps,
                "precision": plan.precision,
                "batches": asdict(plan.batches),
                "facts": plan.facts,
            },
            **({"data_path": os.path.relpath(task.data.path, run.path)} if task.data.path else {}),
            "data": task.data.manifest,
        },
    )
