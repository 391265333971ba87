"""The training loop: data, micro-batches, backward, clip, step, log, evaluate, save, stop. Read `_train` first.

- An objective gives sums and counts. The loss is the sums divided by the counts of the whole optimizer step over all
  ranks, so accumulation, ranks and ragged batches cannot change a gradient.
- The order of the data is a function of the step, so resuming is exact and costs nothing.
- A gradient that is not finite never reaches the weights.
- The learning rate is a function of the step, the plan and `Progress.rate_factor`; it has no state of its own.
- Checkpoints are complete or absent (training/checkpoints.py).

Knows nothing of evaluation or generation: `hooks` are functions of the pipeline, which callbacks.py calls.
"""

import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator  # type: ignore[import-untyped]  # it ships no types
from accelerate.utils import set_seed  # type: ignore[import-untyped]
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader
from transformers import PreTrainedModel

from llmkit.config.optim import Optim
from llmkit.config.train import Train
from llmkit.core import console, distributed
from llmkit.core.devices import pick_device
from llmkit.core.files import read_json, write_json
from llmkit.core.machine import describe_versions
from llmkit.core.signals import Abandoned, StopRequest, agree, catch_signals, leave_signals_to_the_parent
from llmkit.training.batches import StepSampler
from llmkit.training.callbacks import IntervalCallbacks
from llmkit.training.checkpoints import MANIFEST, prune_checkpoints, write_checkpoint
from llmkit.training.contract import (
    Batch,
    Hooks,
    MeasuredSeconds,
    Objective,
    Plan,
    Progress,
    Samples,
    StepCounts,
    collate_step,
)
from llmkit.training.engines import gather_full_params, is_sharded, parallelize
from llmkit.training.folder import RunFolder
from llmkit.training.guards import refuse_step
from llmkit.training.memory import align_weights
from llmkit.training.optimizer import build_optimizer, learning_rate_factor
from llmkit.training.saving import gather_states, load_objective_state, load_random, load_states, load_weights
from llmkit.training.speed import autocast
from llmkit.training.time_budget import calibration_step


class TrainingLoop:
    """Trains `model` on `samples` (indexed by sample number, endless) for `plan.n_steps` optimizer steps."""

    def __init__(
        self,
        model: PreTrainedModel,
        objective: Objective,
        samples: Samples,
        *,
        run: RunFolder,
        train: Train,
        optim: Optim,
        plan: Plan,
        hooks: Hooks,
    ) -> None:
        if plan.batches.world_size != distributed.world_size():
            raise ValueError(
                f"planned for {plan.batches.world_size} ranks, of which there are {distributed.world_size()}"
            )
        self.model, self.objective, self.samples, self.run = model, objective, samples, run
        self.train, self.optim, self.plan = train, optim, plan
        self.callbacks = IntervalCallbacks(plan, train, optim, hooks)
        self.window = self.callbacks.window
        self.step = self.first_step = 0
        """Optimizer steps that were taken, and those of them before this process."""
        self.stop_signal: int | None = None
        """The signal on which the run was saved and ended."""
        self._stop = StopRequest()
        self._agreed: int | None = None
        self._timed_from = (0, 0.0)
        self._last_save = 0.0
        self.accelerator = Accelerator(cpu=pick_device().type == "cpu", mixed_precision="no")
        self.device: torch.device = self.accelerator.device
        set_seed(train.seed)
        if distributed.rank():  # or each rank would drop the same units
            torch.manual_seed(train.seed + (distributed.rank() << 32))
        align_weights(model)
        model.to(self.device)
        model.config.use_cache = True  # a saved model should generate fast

    @property
    def progress(self) -> Progress:
        """What a checkpoint must remember beside weights, optimizer and random numbers."""
        return self.callbacks.progress

    def fit(self, checkpoint: Path | None = None, start_seconds: float = 0.0) -> Progress:
        """Train from the start, or go on from `checkpoint`, `start_seconds` after the command began; SIGINT and SIGTERM
        save at the end of a step.

        Raises:
            TrainingFailed: a gradient that is not finite, or a loss that jumps where the recipe forbids it.
        """
        if checkpoint is not None:
            self._restore(checkpoint)
        self.progress.spent["start"] += start_seconds
        self.callbacks.started = time.perf_counter() - self.progress.seconds
        if self.progress.left_undone is not None:
            undone, self.progress.left_undone = self.progress.left_undone, None
            self.callbacks.on_step_end(self.model, self.step, StopRequest(), is_due=True, **undone)
        if self.plan.calibration_step is not None and self.plan.calibration_step <= self.step:
            # It was stopped before its lengths were fixed.
            again = self.step + calibration_step(self.plan.n_steps)
            self.plan = self.callbacks.plan = replace(self.plan, calibration_step=again)
        self._timed_from = (self.step, self._training_seconds())
        if checkpoint is not None and self._is_over():  # the command was stopped after its last step
            console.info(f"training had ended at step {self.step} already")
            return self.progress
        with catch_signals() as self._stop:
            self._train(checkpoint)
        self.progress.seconds = time.perf_counter() - self.callbacks.started
        return self.progress

    def _train(self, checkpoint: Path | None) -> None:
        self.module = parallelize(self.model, self.objective, self.train.engine, self.device, self.plan.compiled)
        self.weights = list(self.module.parameters())
        self.optimizer = build_optimizer(self.model, self.optim, self.plan.precision)  # after sharding: new parameters
        self._base_rates = [group["lr"] for group in self.optimizer.param_groups]
        if checkpoint is not None:
            load_states(checkpoint, self.optimizer)
            load_random(checkpoint, self.train.seed + (distributed.rank() << 32) + self.first_step)
        steps = iter(self._make_loader())
        while not self._is_over():
            batches, counts = self._next_step(steps)
            rate = self._set_learning_rate()
            grad_norm = self.train_step(batches, counts)
            self.step += 1
            self.progress.n_tokens += counts.n_tokens
            self._after_step(grad_norm, rate)

    def _is_over(self) -> bool:
        return bool(self.stop_signal) or self.step >= self.plan.n_steps or self.callbacks.out_of_patience()

    # ---- one optimizer step ----

    def _make_loader(self) -> DataLoader[list[Batch]]:
        """One item is the micro-batches of one optimizer step on this rank."""
        return DataLoader(
            cast(Any, self.samples),
            batch_sampler=StepSampler(self.plan.batches, distributed.rank(), self.first_step),
            collate_fn=partial(collate_step, self.objective, self.plan.batches),
            # Its own generator: a loader draws a seed when it starts, which must not move the model's dropout.
            generator=torch.Generator().manual_seed(self.train.seed),
            num_workers=self.train.num_workers,
            pin_memory=self.device.type == "cuda",
            worker_init_fn=leave_signals_to_the_parent,
        )

    def _next_step(self, steps: Iterator[list[Batch]]) -> tuple[list[Batch], StepCounts]:
        """The micro-batches of one optimizer step, and the counts of that step over all ranks."""
        started = time.perf_counter()
        batches = next(steps)
        waited = time.perf_counter() - started
        counted = [self.objective.count(batch) for batch in batches]
        labels = {name: sum(count[name] for count in counted) for name in counted[0]}
        n_tokens = sum(self.objective.count_tokens(batch) for batch in batches)
        if distributed.world_size() > 1:
            total = torch.tensor([*self._stop.as_votes(), n_tokens, *labels.values()], device=self.device)
            torch.distributed.all_reduce(total)
            *votes, n_tokens = total[:3].tolist()
            labels = dict(zip(labels, total[3:].tolist(), strict=True))
            self._agreed = agree(votes)
        return batches, StepCounts(labels, n_tokens, waited)

    def train_step(self, batches: list[Batch], counts: StepCounts) -> float:
        """Forward, backward and the optimizer's step; the norm of the gradient before it was clipped."""
        if not self.model.training:  # what is wrapped around it would not know
            self.module.train()
        before = self.window.copy(), dict(self.objective.state)  # tensors are replaced, never changed
        self.window.add_step(counts.labels, counts.n_tokens, counts.waited)
        n_own = len(batches)
        if self.plan.batches.tokens_at_once is not None and is_sharded(self.module):
            # Shards need all ranks in every pass, so ranks with fewer micro-batches repeat one that does not count.
            batches = batches + [batches[-1]] * (max(distributed.gather(n_own)) - n_own)
        for number, batch in enumerate(batches, start=1):
            # Ranks add up their gradients once, with the last micro-batch.
            with nullcontext() if number == len(batches) else self.accelerator.no_sync(self.module):
                self._add_gradient(batch, counts.labels, is_own=number <= n_own)
        norm = self._clip()
        if math.isfinite(norm):
            self.optimizer.step()
        else:
            self._skip_or_refuse(batches, norm)
            window, state = before
            self.window.put_back(window)
            self.objective.state.clear()
            self.objective.state.update(state)
        self.module.zero_grad()
        return norm

    def _add_gradient(self, batch: Batch, labels: dict[str, int], *, is_own: bool) -> None:
        """The gradient of one micro-batch's sums over the counts of the whole step."""
        batch = {name: tensor.to(self.device, non_blocking=True) for name, tensor in batch.items()}
        with autocast(self.plan.precision, self.device):
            sums = cast(dict[str, Tensor], self.module(batch))
        parts = [sums[name] / max(1, count) for name, count in labels.items()]
        # DDP averages gradients over ranks; the counts are already those of all ranks together.
        self.accelerator.backward(torch.stack(parts).sum() * distributed.world_size() * is_own)
        if is_own:
            self.window.add_sums(sums)

    def _clip(self) -> float:
        """Clip the gradient; its norm before that."""
        norm = torch.nn.utils.clip_grad_norm_(self.weights, self.optim.max_grad_norm or float("inf"))
        return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)

    def _skip_or_refuse(self, batches: list[Batch], grad_norm: float) -> None:
        """Leave out this step where the recipe allows it.

        Raises:
            TrainingFailed: the recipe does not allow it, or not once more.
        """
        allowed = self.train.skip_nonfinite
        if self.progress.n_skipped >= allowed:
            refuse_step(
                self.run.path, self.plan.batches, batches, self.window.sums, step=self.step, rank=distributed.rank(),
                rate=self.optimizer.param_groups[0]["lr"], grad_norm=grad_norm,
            )  # fmt: skip
        self.progress.n_skipped += 1
        skipped = f"left out, {self.progress.n_skipped} of at most {allowed}"
        console.info(f"the gradient is {grad_norm} at step {self.step + 1}: {skipped}")

    def _set_learning_rate(self) -> float:
        """Set every group's rate for this step; returns that of the first group, which is logged."""
        factor = learning_rate_factor(self.optim, self.step, self.plan.n_steps) * self.progress.rate_factor
        for group, base in zip(self.optimizer.param_groups, self._base_rates, strict=True):
            group["lr"] = base * factor
        return float(self._base_rates[0] * factor)

    # ---- between steps ----

    def _after_step(self, grad_norm: float, learning_rate: float) -> None:
        """Evaluate, log and save if due, handle a stop signal, and plan the lengths of a timed run again."""
        step, better = self.step, False
        try:
            stop = self._stop if distributed.world_size() == 1 else self._agree_once_more()
            with gather_full_params(self.module):
                better = self.callbacks.on_step_end(self.model, step, stop, grad_norm, learning_rate)
        except Abandoned:
            self.progress.left_undone = {"grad_norm": grad_norm, "learning_rate": learning_rate}
        if step == self.first_step + 1 < (self.plan.calibration_step or 0):
            self._timed_from = (step, self._training_seconds())  # the first step is slower than the others
        if better or self._asked_to_stop() or self.plan.saves_at(step):
            self._save()
            self.stop_signal = self._asked_to_stop()  # which may have come while it was saved: that will do
            if self.stop_signal:
                distributed.barrier()  # a launcher ends rank 0 in the middle of its write where the others have left
        if step == self.plan.calibration_step and not self.stop_signal:
            self._fix_lengths()

    def _asked_to_stop(self) -> int | None:
        """The signal that came; with several ranks, one that all of them know of."""
        return self._stop.number if distributed.world_size() == 1 else self._agreed

    def _agree_once_more(self) -> StopRequest:
        """With several ranks nobody leaves before all know of it, so also before what takes long, and at the end."""
        stop = StopRequest()
        if self.plan.evaluates_at(self.step):
            votes = distributed.gather(self._stop.as_votes())
            self._agreed = self._agreed or agree([sum(each) for each in zip(*votes, strict=True)])
        if self._agreed is not None:
            stop.note(self._agreed)
        return stop

    def _training_seconds(self) -> float:
        """Since the first step, without evaluations, samples and checkpoints."""
        spent = self.progress.spent
        return time.perf_counter() - self.callbacks.started - sum(spent.values()) + spent["start"]

    def _fix_lengths(self) -> None:
        """Plan the number of steps and evaluations once more, with what the first steps took. Every rank calls it."""
        replan = self.callbacks.hooks.replan
        if replan is None:
            return
        first, began = self._timed_from
        paused = time.perf_counter()
        measured = MeasuredSeconds(
            elapsed=self.progress.spent["start"] + paused - self.callbacks.started,
            step=(self._training_seconds() - began) / (self.step - first),
            evaluation=self.progress.last_evaluation,
            sample=self.progress.last_sample,
            save=self._last_save,
        )
        plan = self.plan
        self.plan = self.callbacks.plan = distributed.broadcast_from_main(lambda: replan(plan, self.step, measured))
        seconds = time.perf_counter() - paused
        self.progress.spent["evaluation"] += seconds  # held-out blocks were scored to time them
        self.window.pause(seconds)
        self._timed_from = (self.step, self._training_seconds())

    # ---- checkpoints ----

    def _save(self) -> None:
        """Weights, optimizer, random numbers and progress, complete or absent. Every rank calls it."""
        paused = time.perf_counter()
        states = gather_states(self.model, self.optimizer, self.window, self.objective, self.plan.batches.per_rank)
        self.progress.seconds = paused - self.callbacks.started
        self.progress.window_sums = states.window_sums
        self.progress.window_counts = dict(self.window.counts)
        if distributed.rank() == 0:
            with write_checkpoint(self.run.checkpoints, self.step, self._describe()) as folder:
                states.write(folder, self.model)
                progress = {name: getattr(self.progress, name) for name in Progress.__slots__}
                write_json(folder / "progress.json", progress)
            best = self.progress.best_step
            prune_checkpoints(self.run.checkpoints, {best} if best is not None else set())
        self._last_save = time.perf_counter() - paused
        self.progress.spent["saving"] += self._last_save
        self.window.pause(self._last_save)

    def _describe(self) -> dict[str, Any]:
        """What resuming depends on, for the checkpoint's manifest."""
        return {
            "next_sample": self.plan.batches.numbers(self.step, 0)[0],
            "seed": self.train.seed,
            "world_size": distributed.world_size(),
            "device": self.device.type,
            "threads": torch.get_num_threads(),
            "versions": describe_versions(),
            "plan": asdict(self.plan),
        }

    def _restore(self, checkpoint: Path) -> None:
        """All but the optimizer and the random numbers, which wait until the model lies on its ranks."""
        load_weights(self.model, checkpoint)
        load_objective_state(checkpoint, self.objective)
        self.callbacks.progress = Progress(**read_json(checkpoint / "progress.json"))
        self.step = self.first_step = self.callbacks.first_step = read_json(checkpoint / MANIFEST)["step"]
        sums = self.progress.window_sums  # which are added up over ranks
        self.window.restore(sums if distributed.rank() == 0 else dict.fromkeys(sums, 0.0), self.progress.window_counts)
