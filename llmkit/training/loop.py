"""The training loop: data, micro-batches, backward, clip, step, evaluate, log, save, stop. Read `_train` first.

- An objective returns sums and counts. The loss is the sums divided by the counts of the whole optimizer step over all
  ranks, so accumulation, ranks and ragged batches cannot change a gradient.
- The order of the data is a function of the step, so resuming is exact and needs no replay.
- A gradient that is not finite never reaches the weights.
- The learning rate is a function of the step, the plan and `Progress.rate_factor`; it has no state of its own.
- Checkpoints are complete or absent (checkpoints.py).

Evaluation and generation are hooks, which callbacks.py calls.
"""

import math
import time
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
from llmkit.core.devices import align_weights, pick_device
from llmkit.core.files import read_json, write_json
from llmkit.core.machine import describe_versions
from llmkit.core.process import SIGNALS, EvaluationAborted, StopRequest, catch_signals, combine_votes, init_worker
from llmkit.training.batches import StepSampler, limit_workers
from llmkit.training.callbacks import IntervalCallbacks
from llmkit.training.checkpoints import (
    gather_state,
    load_objective_state,
    load_optimizer_state,
    load_rng_state,
    load_weights,
    prune_checkpoints,
    write_checkpoint,
)
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
    read_progress,
)
from llmkit.training.engines import gather_full_params, is_sharded, parallelize
from llmkit.training.folder import RunFolder
from llmkit.training.losses import fail_on_nonfinite
from llmkit.training.optimizer import build_optimizer, learning_rate_factor
from llmkit.training.run_files import MANIFEST
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
            raise ValueError(f"planned for {plan.batches.world_size} ranks, but there are {distributed.world_size()}")
        self.model, self.objective, self.samples, self.run = model, objective, samples, run
        self.train, self.optim, self.plan = train, optim, plan
        self.callbacks = IntervalCallbacks(plan, train, optim, hooks)
        self.window = self.callbacks.window
        self.step = self.first_step = 0
        """Optimizer steps done in total, and before this process started."""
        self.stop_signal: int | None = None
        """The signal on which the run was saved and stopped."""
        self._stop = StopRequest()
        self._agreed_signal: int | None = None
        """With several ranks, the signal that all ranks know of."""
        self._timed_from = (0, 0.0)
        self._last_save = 0.0
        self.accelerator = Accelerator(cpu=pick_device().type == "cpu", mixed_precision="no")
        self.device: torch.device = self.accelerator.device
        set_seed(train.seed)
        self._rank_seed = train.seed + (distributed.rank() << 32)
        if distributed.rank():  # otherwise all ranks would drop the same units
            torch.manual_seed(self._rank_seed)
        align_weights(model)
        model.to(self.device)
        model.config.use_cache = True  # saved with the model, for fast generation

    @property
    def progress(self) -> Progress:
        """Return the contents of a checkpoint besides weights, optimizer and random number generators."""
        return self.callbacks.progress

    def fit(self, checkpoint: Path | None = None, start_seconds: float = 0.0) -> Progress:
        """Train from the start or from `checkpoint`; SIGINT, SIGTERM and SIGHUP save at the end of a step.

        `start_seconds` have passed since the command started.

        Raises:
            TrainingFailed: a gradient or held-out loss is not finite, or the loss spikes and the recipe forbids it.
        """
        if checkpoint is not None:
            load_weights(self.model, checkpoint)
            load_objective_state(checkpoint, self.objective)
            self.callbacks.progress = read_progress(read_json(checkpoint / "progress.json"))
            self.step = self.first_step = self.callbacks.first_step = read_json(checkpoint / MANIFEST)["step"]
            sums = self.progress.window_sums
            if distributed.rank():  # sums are reduced over ranks when they are logged
                sums = dict.fromkeys(sums, 0.0)
            self.window.restore(sums, self.progress.window_counts)
        self.progress.spent["start"] += start_seconds
        self.callbacks.started = time.perf_counter() - self.progress.seconds
        if self.progress.unlogged_step is not None:
            values, self.progress.unlogged_step = self.progress.unlogged_step, None
            self.callbacks.on_step_end(self.model, self.step, StopRequest(), is_due=True, **values)
        if self.plan.calibration_step is not None and self.plan.calibration_step <= self.step:
            # The run was stopped between its calibration step and the new plan.
            following = self.step + calibration_step(self.plan.n_steps)
            self.plan = self.callbacks.plan = replace(self.plan, calibration_step=following)
        self._timed_from = (self.step, self._training_seconds())
        if checkpoint is not None and self._is_over():  # the command was stopped after its last step
            console.info(f"training already ended at step {self.step}")
            return self.progress
        with catch_signals() as self._stop:
            self._train(checkpoint)
        self.progress.seconds = time.perf_counter() - self.callbacks.started
        return self.progress

    def _train(self, checkpoint: Path | None) -> None:
        self.module = parallelize(self.model, self.objective, self.train.engine, self.device, self.plan.compiled)
        self.weights = list(self.module.parameters())
        self.optimizer = build_optimizer(self.model, self.optim, self.plan.precision)  # sharding replaces parameters
        base_rates = [group["lr"] for group in self.optimizer.param_groups]
        if checkpoint is not None:
            load_optimizer_state(checkpoint, self.optimizer)
            load_rng_state(checkpoint, self._rank_seed + self.first_step)
        steps = iter(self._make_loader())
        while not self._is_over():
            started = time.perf_counter()
            batches = next(steps)
            counts = self._count(batches, time.perf_counter() - started)
            factor = learning_rate_factor(self.optim, self.step, self.plan.n_steps) * self.progress.rate_factor
            for group, rate in zip(self.optimizer.param_groups, base_rates, strict=True):
                group["lr"] = rate * factor
            grad_norm = self.train_step(batches, counts)
            self.step += 1
            self.progress.n_tokens += counts.n_tokens
            self._after_step(grad_norm, float(base_rates[0] * factor))

    def _is_over(self) -> bool:
        return bool(self.stop_signal) or self.step >= self.plan.n_steps or self.callbacks.out_of_patience()

    # ---- one optimizer step ----

    def _make_loader(self) -> DataLoader[list[Batch]]:
        """Return a loader whose items are the micro-batches of one optimizer step on this rank."""
        return DataLoader(
            cast(Any, self.samples),
            batch_sampler=StepSampler(self.plan.batches, distributed.rank(), self.first_step),
            collate_fn=partial(collate_step, self.objective, self.plan.batches),
            # The loader draws a seed when it starts; from the global generator, that would change the model's dropout.
            generator=torch.Generator().manual_seed(self.train.seed),
            num_workers=limit_workers(self.train.num_workers),
            pin_memory=self.device.type == "cuda",
            worker_init_fn=init_worker,
        )

    def _count(self, batches: list[Batch], waited: float) -> StepCounts:
        """Return labels and tokens of an optimizer step over all ranks; also exchanges stop signals between ranks."""
        counted = [self.objective.count(batch) for batch in batches]
        labels = {name: sum(count[name] for count in counted) for name in counted[0]}
        n_tokens = sum(self.objective.count_tokens(batch) for batch in batches)
        if distributed.world_size() > 1:
            total = torch.tensor([*self._stop.as_votes(), n_tokens, *labels.values()], device=self.device)
            torch.distributed.all_reduce(total)
            votes, (n_tokens, *sums) = total[: len(SIGNALS)].tolist(), total[len(SIGNALS) :].tolist()
            labels = dict(zip(labels, sums, strict=True))
            self._agreed_signal = combine_votes(votes)
        return StepCounts(labels, n_tokens, waited)

    def train_step(self, batches: list[Batch], counts: StepCounts) -> float:
        """Run forward, backward and optimizer step; returns the norm of the gradient before clipping."""
        if not self.model.training:  # an evaluation changes the mode of the model, but not of its wrappers
            self.module.train()
        window, state = self.window.copy(), dict(self.objective.state)  # tensors are replaced, never changed
        self.window.add_step(counts.labels, counts.n_tokens, counts.waited)
        n_own = len(batches)
        if self.plan.batches.tokens_at_once is not None and is_sharded(self.module):
            # With shards, all ranks must run the same passes: ranks with fewer micro-batches repeat one without effect.
            batches = batches + [batches[-1]] * (max(distributed.gather(n_own)) - n_own)
        for number, batch in enumerate(batches, start=1):
            # DDP reduces gradients over ranks only with the last micro-batch, FSDP with every one.
            with nullcontext() if number == len(batches) else self.accelerator.no_sync(self.module):
                self._backward(batch, counts.labels, is_own=number <= n_own)
        grad_norm = self._clip()
        if math.isfinite(grad_norm):
            self.optimizer.step()
        else:
            self._skip_or_fail(batches, grad_norm)
            self.window.rollback(window)
            self.objective.state.clear()
            self.objective.state.update(state)
        self.module.zero_grad()
        return grad_norm

    def _backward(self, batch: Batch, labels: dict[str, int], *, is_own: bool) -> None:
        """Add the gradient of one micro-batch: its summed losses divided by the counts of the optimizer step."""
        batch = {name: tensor.to(self.device, non_blocking=True) for name, tensor in batch.items()}
        with autocast(self.plan.precision, self.device):
            sums = cast(dict[str, Tensor], self.module(batch))
        parts = [sums[name] / max(1, count) for name, count in labels.items()]
        # Gradients are averaged over ranks, but the counts are sums over all ranks: undo the division of the average.
        self.accelerator.backward(torch.stack(parts).sum() * distributed.world_size() * is_own)
        if is_own:
            self.window.add_sums(sums)

    def _clip(self) -> float:
        """Clip the gradient; returns the norm before clipping."""
        norm = torch.nn.utils.clip_grad_norm_(self.weights, self.optim.max_grad_norm or float("inf"))
        return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)

    def _skip_or_fail(self, batches: list[Batch], grad_norm: float) -> None:
        """Skip a step whose gradient is not finite, if the recipe allows it.

        Raises:
            TrainingFailed: the recipe does not allow another skipped step.
        """
        allowed = self.train.skip_nonfinite
        if self.progress.n_skipped >= allowed:
            fail_on_nonfinite(
                self.run.path, self.plan.batches, batches, self.window.sums, step=self.step, rank=distributed.rank(),
                rate=self.optimizer.param_groups[0]["lr"], grad_norm=grad_norm,
            )  # fmt: skip
        self.progress.n_skipped += 1
        skipped = f"skipped, {self.progress.n_skipped} of at most {allowed}"
        console.info(f"the gradient is {grad_norm} at step {self.step + 1}: {skipped}")

    # ---- between steps ----

    def _after_step(self, grad_norm: float, learning_rate: float) -> None:
        """Evaluate, log and save if due, handle a stop signal, and replan a run of limited time."""
        step, is_best = self.step, False
        try:
            stop = self._sync_stop()
            with gather_full_params(self.module):
                is_best = self.callbacks.on_step_end(self.model, step, stop, grad_norm, learning_rate)
        except EvaluationAborted:
            self.progress.unlogged_step = {"grad_norm": grad_norm, "learning_rate": learning_rate}
        if step == self.first_step + 1 < (self.plan.calibration_step or 0):
            self._timed_from = (step, self._training_seconds())  # the first step is slower
        if is_best or self._received_signal() or self.plan.saves_at(step):
            self._save()
            self.stop_signal = self._received_signal()  # also a signal that came during the save
            if self.stop_signal:
                distributed.barrier()  # when other ranks exit, a launcher kills rank 0 even while it writes
        if step == self.plan.calibration_step and not self.stop_signal:
            self._replan()

    def _received_signal(self) -> int | None:
        """Return the signal that came; with several ranks, the signal that all ranks know of."""
        return self._stop.number if distributed.world_size() == 1 else self._agreed_signal

    def _sync_stop(self) -> StopRequest:
        """Return the stop request for an evaluation.

        Several ranks must start or skip an evaluation together, so they exchange signals before it and ignore signals
        that come during it.
        """
        if distributed.world_size() == 1:
            return self._stop
        stop = StopRequest()
        if self.plan.evaluates_at(self.step):
            votes = distributed.gather(self._stop.as_votes())
            self._agreed_signal = self._agreed_signal or combine_votes([sum(each) for each in zip(*votes, strict=True)])
        if self._agreed_signal is not None:
            stop.set(self._agreed_signal)
        return stop

    def _training_seconds(self) -> float:
        """Return the seconds since the first step, without evaluations, samples and checkpoints."""
        spent = self.progress.spent
        return time.perf_counter() - self.callbacks.started - sum(spent.values()) + spent["start"]

    def _replan(self) -> None:
        """Plan the number of steps and evaluations again with measured costs. Every rank calls it."""
        replan = self.callbacks.hooks.replan
        if replan is None:
            return
        first, began = self._timed_from
        started = time.perf_counter()
        measured = MeasuredSeconds(
            elapsed=self.progress.spent["start"] + started - self.callbacks.started,
            step=(self._training_seconds() - began) / (self.step - first),
            evaluation=self.progress.last_evaluation,
            sample=self.progress.last_sample,
            save=self._last_save,
        )
        plan = self.plan
        self.plan = self.callbacks.plan = distributed.broadcast_from_main(lambda: replan(plan, self.step, measured))
        seconds = time.perf_counter() - started
        self.progress.spent["evaluation"] += seconds  # `replan` scores held-out blocks to time them
        self.window.pause(seconds)
        self._timed_from = (self.step, self._training_seconds())

    def _save(self) -> None:
        """Write a checkpoint. Every rank calls it."""
        started = time.perf_counter()
        state = gather_state(self.model, self.optimizer, self.window, self.objective, self.plan.batches.per_rank)
        self.progress.seconds = started - self.callbacks.started
        self.progress.window_sums = state.window_sums
        self.progress.window_counts = dict(self.window.counts)
        if distributed.rank() == 0:
            facts = {
                "next_sample": self.plan.batches.numbers(self.step, 0)[0],
                "seed": self.train.seed,
                "world_size": distributed.world_size(),
                "device": self.device.type,
                "threads": torch.get_num_threads(),
                "versions": describe_versions(),
                "plan": asdict(self.plan),
            }
            with write_checkpoint(self.run.checkpoints, self.step, facts) as folder:
                state.write(folder, self.model)
                write_json(folder / "progress.json", asdict(self.progress))
            best = self.progress.best_step
            prune_checkpoints(self.run.checkpoints, {best} if best is not None else set())
        self._last_save = time.perf_counter() - started
        self.progress.spent["saving"] += self._last_save
        self.window.pause(self._last_save)
