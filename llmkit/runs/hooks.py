"""What a training run does at intervals: log, score held-out text, write a sample."""

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, cast

from torch import nn
from transformers import PreTrainedModel

from llmkit.config.recipe import Recipe
from llmkit.core import distributed
from llmkit.core.devices import pick_device
from llmkit.core.files import read_json, write_json
from llmkit.core.progress import TrainingProgress
from llmkit.runs.plan import LENGTHS, replan, time_final_score
from llmkit.tasks.base import TrainingTask
from llmkit.training.contract import Hooks, MeasuredSeconds, Plan
from llmkit.training.engines import is_sharded
from llmkit.training.folder import RunFolder
from llmkit.training.speed import flops_per_token, peak_flops
from llmkit.training.tracking import track


def make_hooks(
    recipe: Recipe, task: TrainingTask, network: PreTrainedModel, plan: Plan,
    run: RunFolder, line: TrainingProgress, trackers: Sequence[Any],
) -> Hooks:  # fmt: skip
    """Log, evaluation, sample and the second plan, bound to this run. All ranks evaluate; the first alone logs, to
    `trackers` too, and, unless the weights are in shards, writes samples."""

    def evaluate(model: nn.Module, plan: Plan) -> dict[str, Any]:
        return {"split": "validation"} | task.evaluate(cast(PreTrainedModel, model), plan)

    def sample(model: nn.Module) -> dict[str, Any] | None:
        return task.sample(cast(PreTrainedModel, model)) if distributed.is_main_process() or is_sharded(model) else None

    final: tuple[float, float] | None = None

    def fix_lengths(plan: Plan, step: int, measured: MeasuredSeconds) -> Plan:
        nonlocal final
        manifest = read_json(run.manifest)
        known = manifest.get("lengths", {})
        if str(step) in known:  # planned before the run was stopped
            line.n_steps = known[str(step)]["n_steps"]
            return replace(plan, **known[str(step)])
        if final is None and task.data.n_held_out and distributed.world_size() == 1:
            before = time.perf_counter()
            final = time_final_score(recipe, task, network)
            measured = replace(measured, elapsed=measured.elapsed + time.perf_counter() - before)
        plan = replan(recipe, task, network, plan, step, measured, final)
        lengths = known | {str(step): {name: getattr(plan, name) for name in LENGTHS}}
        write_json(run.manifest, manifest | {"plan": asdict(plan), "lengths": lengths})
        line.n_steps = plan.n_steps
        return plan

    if not distributed.is_main_process():
        return Hooks(
            evaluate if task.data.n_held_out else None, sample, lambda record: None, task.selection_key, fix_lengths
        )
    work = flops_per_token(network, task.data.sequence_length, task.output_share)
    peak = peak_flops(plan.precision, pick_device())
    epochs_per_step = plan.batches.global_batch_size / task.samples.samples_per_epoch

    def log(record: dict[str, Any]) -> None:
        if record["kind"] == "train":
            speed = record["tokens_per_second"] / plan.batches.world_size
            record |= {"mfu": speed * work / peak, "epoch": record["step"] * epochs_per_step}
            if plan.batches.world_size > 1:
                record["tokens_per_second_per_device"] = speed
        run.append_log(record)
        line.show(record)
        track(trackers, record)

    return Hooks(evaluate if task.data.n_held_out else None, sample, log, task.selection_key, fix_lengths)
