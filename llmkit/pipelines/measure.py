"""A few real training steps in a process of their own, so that its peak of memory is training's and nothing else's.

    python -m llmkit.pipelines.measure < request.json

Says what a micro-batch and the optimizer take on this machine. `measure_steps` is what starts it.
"""

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch

from llmkit.config.recipe import Recipe
from llmkit.errors import EnvironmentFault, LlmkitError, say
from llmkit.models.attention import choose_attention
from llmkit.models.dropout import choose_dropout
from llmkit.models.loading import pick_device
from llmkit.pipelines.made_up import MadeUpTask, Vocabulary
from llmkit.pipelines.pretrain import TASKS
from llmkit.pipelines.run_plan import plan_cut
from llmkit.pipelines.task import Task
from llmkit.tokens.prepared import load_prepared
from llmkit.tokens.tokenizer import load_tokenizer
from llmkit.training.memory import keep_freed_memory
from llmkit.training.speed import choose_precision
from llmkit.training.trial import time_parts

BUDGET_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Measured:
    """What was seen on this machine."""

    device: str
    precision: str
    micro_batch_size: int
    seconds_a_micro_batch: float
    seconds_an_optimizer_step: float
    peak_bytes: int
    """Of the process; on a GPU, of what torch took there."""
    framework_bytes: int
    """Before there was a model; 0 on a GPU."""


def measure_steps(recipe: Recipe, n_tokens: int, data: Path | None) -> Measured:
    """Measure in a new process; `n_tokens` is the size of the vocabulary.

    Raises:
        EnvironmentFault: the process ended without a result, as when memory ran out.
    """
    request = {"recipe": recipe.model_dump(mode="json"), "n_tokens": n_tokens, "data": str(data) if data else None}
    command = [sys.executable, "-m", "llmkit.pipelines.measure"]
    done = subprocess.run(command, input=json.dumps(request), stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        killed = "; the system ended it, probably for memory" if done.returncode < 0 else ""
        hint = "see above; a smaller train.micro_batch_size takes less memory"
        raise EnvironmentFault(f"the measured steps came to no end{killed}", where="--measure", hint=hint)
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def measure_here(recipe: Recipe, n_tokens: int, data: Path | None) -> Measured:
    """Measure in this process, which should end afterwards."""
    device = pick_device()
    if device.type == "cpu":
        keep_freed_memory()
    before = peak_bytes(device)
    task: Any = MadeUpTask(recipe, Vocabulary(n_tokens))
    if data is not None:
        prepared = load_prepared(data)
        task = TASKS[recipe.objective](recipe, prepared, load_tokenizer(str(prepared.tokenizer_path)))
    network = task.build_model()
    precision, _ = choose_precision(recipe.train.precision, device)
    choose_attention(network, precision, device)
    choose_dropout(network, device)
    batches = plan_cut(recipe, cast(Task, task), network, precision, device)
    micro, move = time_parts(
        network.to(device), task.objective, task.samples, recipe.optim, batches, precision, device, BUDGET_SECONDS
    )
    return Measured(device.type, precision, batches.micro_batch_size, micro, move, peak_bytes(device), before)


def peak_bytes(device: torch.device) -> int:
    """The most that was taken so far: of a GPU's memory, or by this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:  # not getrusage, whose peak a new process inherits from the one that started it
        status = Path("/proc/self/status").read_text()
        return 1024 * int(status.split("VmHWM:")[1].split()[0])
    except (OSError, IndexError):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak


def main() -> int:
    request = json.load(sys.stdin)
    data = Path(request["data"]) if request["data"] else None
    try:
        measured = measure_here(Recipe.model_validate(request["recipe"]), request["n_tokens"], data)
    except LlmkitError as error:
        say(str(error))
        return error.exit_code
    print(json.dumps(asdict(measured)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
