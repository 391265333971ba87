"""Measure a few real training steps, in a separate process, so that its peak memory is that of training alone.

    python -m llmkit.planning.measure < request.json

Measures the time of a micro-batch and of the optimizer, and the memory. `measure_steps` starts the process.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from llmkit.config.optim import Optim
from llmkit.config.recipe import Recipe, make_recipe
from llmkit.core import console
from llmkit.core.devices import peak_bytes, pick_device, synchronize, tune_malloc
from llmkit.core.errors import EnvironmentFault, LlmkitError
from llmkit.models.kernels.optimized import optimized
from llmkit.models.layers import checkpoint_layers
from llmkit.runs.plan import choose_compile_mode, make_trial, plan_micro_batches
from llmkit.tasks.base import PlannedTask
from llmkit.tasks.synthetic import Vocabulary
from llmkit.tasks.table import TASKS
from llmkit.tokens.prepared import load_prepared
from llmkit.tokens.tokenizer import load_tokenizer
from llmkit.training.contract import Hooks, Plan
from llmkit.training.folder import RunFolder
from llmkit.training.loop import TrainingLoop
from llmkit.training.optimizer import build_optimizer
from llmkit.training.speed import choose_precision

BUDGET_SECONDS = 10.0
WARMUP_STEPS, MIN_STEPS = 2, 3
PARTS_TRIED = 2
"""Micro-batches per step; more of them take as much memory, and as much time each."""
UNLIMITED = 1 << 40


@dataclass(frozen=True, slots=True)
class Measured:
    """Time and memory on this machine."""

    device: str
    precision: str
    micro_batch_size: int
    seconds_per_micro_batch: float
    seconds_per_optimizer_step: float
    warm_peak_bytes: int
    """Peak memory after the warm-up steps: of the process, or on a GPU of torch."""
    peak_bytes: int
    """Peak memory after all steps. On a CPU it grows if tensors vary in size, as the logits of masked tokens do: a
    larger one does not fit where a smaller one was freed, and freed memory is kept (training/memory.py)."""
    framework_bytes: int
    """Memory before the model was built; 0 on a GPU."""


def measure_steps(recipe: Recipe, precision: str, n_tokens: int, data: Path | None) -> Measured:
    """Measure in a new process; `n_tokens` is the size of the vocabulary.

    Raises:
        EnvironmentFault: the process ended without a result, as when memory ran out.
    """
    values = recipe.model_dump(mode="json")
    values["train"]["precision"] = precision  # `auto` depends on timing and could differ there
    request = {"recipe": values, "n_tokens": n_tokens, "data": str(data) if data else None, "seconds": BUDGET_SECONDS}
    command = [sys.executable, "-m", "llmkit.planning.measure"]
    done = subprocess.run(command, input=json.dumps(request), stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        killed = "; the system killed them, probably out of memory" if done.returncode < 0 else ""
        hint = "see the message above; a smaller train.micro_batch_size needs less memory"
        raise EnvironmentFault(f"the measured steps did not finish{killed}", where="--measure", hint=hint)
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def measure_here(recipe: Recipe, n_tokens: int, data: Path | None, budget: float) -> Measured:
    """Measure in this process, which should end afterwards, for at least `budget` seconds."""
    device = pick_device()
    if device.type == "cpu":
        tune_malloc()
    before = peak_bytes()
    kind = TASKS[recipe.task]
    if data is None:
        task = kind.make_synthetic(recipe, Vocabulary(n_tokens))
    else:
        prepared = load_prepared(data)
        task = kind.open_prepared(recipe, prepared, load_tokenizer(str(prepared.tokenizer_path)))
    network = task.build_model()
    if recipe.train.gradient_checkpointing:
        checkpoint_layers(network)
    precision, _ = choose_precision(recipe.train.precision, device)
    optimized(network, precision, device)
    trial = make_trial(recipe, task, network, precision, device)
    batches = plan_micro_batches(recipe, task, trial)
    size = batches.micro_batch_size
    n_parts = min(-(-batches.global_batch_size // size), PARTS_TRIED)
    batches = replace(batches, global_batch_size=min(batches.global_batch_size, n_parts * size))
    compiled = choose_compile_mode(recipe.train, trial, batches, lambda: UNLIMITED)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()  # of what was only tried
    plan = Plan(UNLIMITED, UNLIMITED, UNLIMITED, batches, precision, compiled=compiled)
    seconds, warm_peak = train_briefly(recipe, task, network, plan, budget)
    peak = peak_bytes()
    move = time_optimizer(network, recipe.optim, precision, device)
    micro = max(0.0, seconds - move) / (batches.global_batch_size / size)
    return Measured(device.type, precision, size, micro, move, warm_peak, peak, before)


class _Enough(Exception):  # noqa: N818 - no error
    """Stops the training after the budget, before it saves anything."""


def train_briefly(
    recipe: Recipe, task: PlannedTask, network: PreTrainedModel, plan: Plan, budget: float
) -> tuple[float, int]:
    """Train for at least `budget` seconds; returns the median seconds per step and the peak after the warm-up steps."""
    seconds: list[float] = []
    n_tokens = warm_peak = 0

    def log(record: dict[str, Any]) -> None:
        nonlocal n_tokens, warm_peak
        seconds.append((record["n_tokens"] - n_tokens) / record["tokens_per_second"])
        n_tokens = record["n_tokens"]
        if len(seconds) == WARMUP_STEPS:
            warm_peak = peak_bytes()
        if len(seconds) >= WARMUP_STEPS + MIN_STEPS and sum(seconds[WARMUP_STEPS:]) > budget:
            raise _Enough

    train = recipe.train.with_updates(log_steps=1, num_workers=0)
    with tempfile.TemporaryDirectory() as folder:
        trainer = TrainingLoop(
            network, task.objective, task.samples, run=RunFolder(Path(folder)), train=train, optim=recipe.optim,
            plan=plan, hooks=Hooks(None, lambda model: None, log),
        )  # fmt: skip
        with suppress(_Enough):
            trainer.fit()
    return statistics.median(seconds[WARMUP_STEPS:]), warm_peak


def time_optimizer(network: PreTrainedModel, optim: Optim, precision: str, device: torch.device) -> float:
    """Median seconds of clipping and an optimizer's step; steps may be of more micro-batches than were tried."""
    optimizer = build_optimizer(network, optim, precision)
    seconds = []
    for _ in range(1 + MIN_STEPS):
        for weight in network.parameters():
            weight.grad = torch.full_like(weight, 1e-3) if weight.requires_grad else None
        started = time.perf_counter()
        torch.nn.utils.clip_grad_norm_(network.parameters(), optim.max_grad_norm or float("inf")).item()
        optimizer.step()
        synchronize(device)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])


def main() -> int:
    request = json.load(sys.stdin)
    data = Path(request["data"]) if request["data"] else None
    try:
        recipe = make_recipe(request["recipe"])
        measured = measure_here(recipe, request["n_tokens"], data, request["seconds"])
    except LlmkitError as error:
        console.info(str(error))
        return error.exit_code
    print(json.dumps(asdict(measured)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
