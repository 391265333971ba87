"""A few real training steps in a process of their own, so that its peak of memory is training's and nothing else's.

    python -m llmkit.planning.measure < request.json

Says what a micro-batch and the optimizer take on this machine. `measure_steps` is what starts it.
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
"""Micro-batches of a step; more take no more memory, and each as long."""
UNLIMITED = 1 << 40


@dataclass(frozen=True, slots=True)
class Measured:
    """What was seen on this machine."""

    device: str
    precision: str
    micro_batch_size: int
    seconds_per_micro_batch: float
    seconds_per_optimizer_step: float
    peak_bytes: int
    """Of the process while it trained; on a GPU, of what torch took there."""
    framework_bytes: int
    """Before there was a model; 0 on a GPU."""


def measure_steps(recipe: Recipe, precision: str, n_tokens: int, data: Path | None) -> Measured:
    """Measure in a new process; `n_tokens` is the size of the vocabulary.

    Raises:
        EnvironmentFault: the process ended without a result, as when memory ran out.
    """
    values = recipe.model_dump(mode="json")
    values["train"]["precision"] = precision  # `auto` is a matter of time, and could come out otherwise there
    request = {"recipe": values, "n_tokens": n_tokens, "data": str(data) if data else None, "seconds": BUDGET_SECONDS}
    command = [sys.executable, "-m", "llmkit.planning.measure"]
    done = subprocess.run(command, input=json.dumps(request), stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        killed = "; the system ended it, probably for memory" if done.returncode < 0 else ""
        hint = "see above; a smaller train.micro_batch_size takes less memory"
        raise EnvironmentFault(f"the measured steps came to no end{killed}", where="--measure", hint=hint)
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
    seconds = train_briefly(recipe, task, network, plan, budget)
    peak = peak_bytes()
    move = time_optimizer(network, recipe.optim, precision, device)
    micro = max(0.0, seconds - move) / (batches.global_batch_size / size)
    return Measured(device.type, precision, size, micro, move, peak, before)


class _Enough(Exception):  # noqa: N818 - no error
    """Ends a training that has been watched long enough, before it saves anything."""


def train_briefly(recipe: Recipe, task: PlannedTask, network: PreTrainedModel, plan: Plan, budget: float) -> float:
    """Train as a run does for at least `budget` seconds, and give the median seconds of a step."""
    seconds: list[float] = []
    n_tokens = 0

    def log(record: dict[str, Any]) -> None:
        nonlocal n_tokens
        seconds.append((record["n_tokens"] - n_tokens) / record["tokens_per_second"])
        n_tokens = record["n_tokens"]
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
    return statistics.median(seconds[WARMUP_STEPS:])


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
