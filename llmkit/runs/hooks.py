"""The hooks of a training run: evaluate held-out data, write a sample, log, and replan a run of limited time."""

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, cast

from torch import nn
from transformers import PreTrainedModel

from llmkit.config.recipe import Recipe
from llmkit.core import distributed
from llmkit.core.devices import pick_device
from llmkit.core.files import write_json
from llmkit.core.progress import TrainingProgress
from llmkit.runs.plan import LENGTHS, replan, time_final_evaluation
from llmkit.tasks.base import TrainingTask
from llmkit.training.callbacks import track
from llmkit.training.contract import Hooks, MeasuredSeconds, Plan
from llmkit.training.engines import is_sharded
from llmkit.training.folder import RunFolder
from llmkit.training.speed import flops_per_token, peak_flops


def make_hooks(
    recipe: Recipe, task: TrainingTask, network: PreTrainedModel, plan: Plan,
    run: RunFolder, line: TrainingProgress, trackers: Sequence[Any],
) -> Hooks:  # fmt: skip
    """Return the hooks of this run.

    All ranks evaluate. Only rank 0 logs, also to `trackers`. With sharded weights all ranks write samples, otherwise
    rank 0.
    """
    is_main_process, n_ranks = distributed.is_main_process(), plan.batches.world_size

    def evaluate(model: nn.Module, plan: Plan) -> dict[str, Any]:
        return {"split": "validation"} | task.evaluate(cast(PreTrainedModel, model), plan)

    def sample(model: nn.Module) -> dict[str, Any] | None:
        return task.sample(cast(PreTrainedModel, model)) if is_main_process or is_sharded(model) else None

    flops = flops_per_token(network, task.data.sequence_length, task.output_fraction) if is_main_process else 0.0
    peak = peak_flops(plan.precision, pick_device()) if is_main_process else 1.0
    epochs_per_step = plan.batches.global_batch_size / task.samples.samples_per_epoch

    def log(record: dict[str, Any]) -> None:
        if not is_main_process:
            return
        if record["kind"] == "train":
            per_device = record["tokens_per_second"] / n_ranks
            # The peak of a CPU is measured with a short product, which may run slower than the products of a step.
            mfu = min(1.0, per_device * flops / peak)
            record |= {"mfu": mfu, "epoch": record["step"] * epochs_per_step}
            if n_ranks > 1:
                record["tokens_per_second_per_device"] = per_device
        run.append_log(record)
        line.show(record)
        track(trackers, record)

    final: tuple[float, float] | None = None

    def replan_run(plan: Plan, step: int, measured: MeasuredSeconds) -> Plan:
        nonlocal final
        manifest = run.read_manifest()
        known = manifest.get("lengths", {})
        if str(step) in known:  # this plan was made before the run was stopped
            line.n_steps = known[str(step)]["n_steps"]
            return replace(plan, **known[str(step)])
        if final is None and task.data.n_held_out and distributed.world_size() == 1:
            before = time.perf_counter()
            final = time_final_evaluation(recipe, task, network)
            measured = replace(measured, elapsed=measured.elapsed + time.perf_counter() - before)
        plan = replan(recipe, task, network, plan, step, measured, final)
        lengths = known | {str(step): {name: getattr(plan, name) for name in LENGTHS}}
        write_json(run.manifest, manifest | {"plan": asdict(plan), "lengths": lengths})
        line.n_steps = plan.n_steps
        return plan

    return Hooks(evaluate if task.data.n_held_out else None, sample, log, task.selection_key, replan_run)
