"""Measure a few real training steps on this machine: seconds per step and peak memory.

On a CPU, the peak is the peak of the whole process, so it is correct only if the process has not used more memory
before.
"""

import statistics
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from llmkit.config.recipe import Recipe
from llmkit.core.devices import peak_bytes, pick_device, tune_malloc
from llmkit.models.kernels.optimized import optimized
from llmkit.models.layers import checkpoint_layers
from llmkit.runs.plan import choose_compile_mode, make_trial, plan_micro_batches
from llmkit.tasks.base import PlannedTask
from llmkit.training.contract import Hooks, Plan
from llmkit.training.folder import RunFolder
from llmkit.training.loop import TrainingLoop

BUDGET_SECONDS = 10.0
WARMUP_STEPS, MIN_STEPS = 2, 3
MAX_MICRO_BATCHES = 2
"""Maximum number of micro-batches per step. More micro-batches need no more memory; time grows in proportion."""
UNLIMITED = 1 << 40


def measure_steps(recipe: Recipe, task: PlannedTask, precision: str) -> dict[str, Any]:
    """Return micro-batch size, seconds per step and peak bytes of training in this process."""
    device = pick_device()
    if device.type == "cpu":
        tune_malloc()
    network = task.build_model()
    if recipe.train.gradient_checkpointing:
        checkpoint_layers(network)
    optimized(network, precision, device)
    trial = make_trial(recipe, task, network, precision, device)
    batches = plan_micro_batches(recipe, task, trial)
    n_sequences = min(batches.global_batch_size, MAX_MICRO_BATCHES * batches.micro_batch_size)
    tried = replace(batches, global_batch_size=n_sequences)
    compiled = choose_compile_mode(recipe.train, trial, tried, lambda: UNLIMITED)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()  # ignores the peak of trial steps
    plan = Plan(UNLIMITED, UNLIMITED, UNLIMITED, tried, precision, compiled=compiled)
    seconds = train_briefly(recipe, task, network, plan) * batches.global_batch_size / n_sequences
    return {
        "micro_batch_size": batches.micro_batch_size,
        "seconds_per_step": seconds,
        "peak_bytes": peak_bytes(),
    }


class _BudgetSpent(Exception):  # noqa: N818 - no error
    """Stops training after the time budget, before it saves anything."""


def train_briefly(recipe: Recipe, task: PlannedTask, network: PreTrainedModel, plan: Plan) -> float:
    """Train for at least `BUDGET_SECONDS`; returns the median seconds per step."""
    seconds: list[float] = []
    n_tokens = 0

    def log(record: dict[str, Any]) -> None:
        nonlocal n_tokens
        seconds.append((record["n_tokens"] - n_tokens) / record["tokens_per_second"])
        n_tokens = record["n_tokens"]
        if len(seconds) >= WARMUP_STEPS + MIN_STEPS and sum(seconds[WARMUP_STEPS:]) > BUDGET_SECONDS:
            raise _BudgetSpent

    train = recipe.train.with_updates(log_steps=1, num_workers=0)
    with tempfile.TemporaryDirectory() as folder:
        trainer = TrainingLoop(
            network, task.objective, task.samples, run=RunFolder(Path(folder)), train=train, optim=recipe.optim,
            plan=plan, hooks=Hooks(None, lambda model: None, log),
        )  # fmt: skip
        with suppress(_BudgetSpent):
            trainer.fit()
    return statistics.median(seconds[WARMUP_STEPS:])
