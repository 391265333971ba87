"""The one Trainer: transformers' loop with llmkit's losses, order of data, log and checkpoints.

What it changes, and why:
- An objective gives sums and counts; here they are divided by the count of the whole optimizer step
  over all ranks. transformers leaves that to each model, and most models do it wrong.
- Data comes from a sampler that is a function of the step, so resuming costs nothing and is exact.
- A gradient that is not finite stops the run before the optimizer step; a loss that jumps is warned of.
- Checkpoints are whole or absent (runs/checkpoints.py).
- One item of the loader is one optimizer step, cut into micro-batches here: their number may differ from step to step.
- No work per micro-batch that nobody asked for: no NaN filter, no FLOP counting, no token gathers.

It knows nothing of evaluation or generation: `hooks` are functions that the pipeline hands in, and looks.py calls.
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
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, PrinterCallback, Trainer

from llmkit import ranks
from llmkit.config.optim import Optim
from llmkit.config.train import Train
from llmkit.errors import ModelError, say
from llmkit.files import read_json, write_json
from llmkit.runs.checkpoints import prune_checkpoints, write_checkpoint
from llmkit.runs.folder import RunFolder
from llmkit.runs.machine import describe_versions
from llmkit.training.arguments import build_arguments
from llmkit.training.batches import StepSampler
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
from llmkit.training.engines import is_sharded, spread, whole
from llmkit.training.guards import refuse_step
from llmkit.training.looks import Looks
from llmkit.training.memory import align_weights
from llmkit.training.optimizer import build_optimizer, learning_rate_factor
from llmkit.training.saving import STATE, gather_states, load_random, load_states
from llmkit.training.signals import Abandoned, StopRequest, agree, catch_signals, leave_signals_to_the_parent
from llmkit.training.speed import autocast


class LlmkitTrainer(Trainer):
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
        if plan.batches.world_size != ranks.world_size():
            raise ValueError(f"planned for {plan.batches.world_size} ranks, of which there are {ranks.world_size()}")
        self.objective: Objective = objective
        self.samples, self.run, self.plan = samples, run, plan
        self.train_section, self.optim_section = train, optim
        self.looks = Looks(plan, train, optim, hooks)
        self.first_step = 0
        self._window = self.looks.window
        self._before_step = self._window.copy()
        self._state_before_step: dict[str, Tensor] = {}
        self._batches: list[Batch] = []
        self._n_own = 0
        self._weights: list[nn.Parameter] = []
        self._stop = StopRequest()
        self._agreed: int | None = None
        self.stop_signal: int | None = None
        self._timed_from: tuple[int, float] | None = None
        self._n_timed = 0
        self._last_save = 0.0
        align_weights(model)
        super().__init__(model, build_arguments(run, train, optim, plan), train_dataset=cast(Any, samples))
        self.remove_callback(PrinterCallback)
        self.model_accepts_loss_kwargs = False
        if ranks.rank():  # transformers seeds all alike, and then each would drop the same units
            torch.manual_seed(train.seed + (ranks.rank() << 32))

    @property
    def progress(self) -> Progress:
        """What a checkpoint must remember beside weights, optimizer and random numbers."""
        return self.looks.progress

    def fit(self, checkpoint: Path | None = None, start_seconds: float = 0.0) -> Progress:
        """Train from the start, or go on from `checkpoint`, `start_seconds` after the command began; SIGINT and SIGTERM
        save at the end of a step.

        Raises:
            TrainingFailed: a gradient that is not finite, or a loss that jumps where the recipe forbids it.
        """
        if checkpoint is not None:
            self.looks.progress = Progress(**read_json(checkpoint / "progress.json"))
            self.first_step = self.looks.first_step = read_json(checkpoint / "trainer_state.json")["global_step"]
            own = self.progress.window_sums  # which are added up over ranks
            sums = own if ranks.rank() == 0 else dict.fromkeys(own, 0.0)
            self._window.restore(sums, self.progress.window_counts)
            if (checkpoint / STATE).is_file():
                state = load_file(checkpoint / STATE)
                self.objective.state.update({name: value.clone() for name, value in state.items()})
        self.progress.spent["start"] += start_seconds
        self.looks.started = time.perf_counter() - self.progress.seconds
        if checkpoint is not None and self.progress.left_undone is not None:
            self._load_from_checkpoint(str(checkpoint))
            self.state.global_step = self.first_step
            undone, self.progress.left_undone = self.progress.left_undone, None
            self.looks.look(cast(nn.Module, self.model), self.first_step, StopRequest(), is_due=True, **undone)
        if self.plan.calibration_step is not None and self.plan.calibration_step <= self.first_step:
            # It was stopped before its lengths were fixed.
            self.plan = self.looks.plan = replace(
                self.plan, calibration_step=self.first_step + 1, step_seconds=self.plan.step_seconds[:1]
            )
        self._timed_from = (self.first_step, self._training_seconds())
        if checkpoint is not None and (self.first_step >= self.plan.n_steps or self.looks.out_of_patience()):
            # The command was stopped between the last step and its own end.
            say(f"training had ended at step {self.first_step} already")
            self._load_from_checkpoint(str(checkpoint))
            self.state.global_step = self.first_step
            return self.progress
        with catch_signals() as self._stop:
            self.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        self.progress.seconds = time.perf_counter() - self.looks.started
        return self.progress

    # ---- data ----

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The micro-batches of each step; has no length, so that the loop counts steps and not epochs."""
        sampler = StepSampler(self.plan.batches, self.args.process_index, self.first_step)
        return DataLoader(
            cast(Any, self.samples),
            batch_sampler=sampler,
            collate_fn=partial(collate_step, self.objective, self.plan.batches),
            # Its own generator: a loader draws a seed when it starts, which must not move the model's dropout.
            generator=torch.Generator().manual_seed(self.args.seed),
            num_workers=self.train_section.num_workers,
            pin_memory=self.args.device.type == "cuda",
            worker_init_fn=leave_signals_to_the_parent,
        )

    def get_batch_samples(
        self, epoch_iterator: Iterator[list[Batch]], num_batches: int, device: torch.device
    ) -> tuple[list[list[Batch]], Any]:
        """The micro-batches of one optimizer step, and the counts of that step over all ranks."""
        started = time.perf_counter()
        batches = next(epoch_iterator)
        waited = time.perf_counter() - started
        counted = [self.objective.count(batch) for batch in batches]
        counts = {name: sum(count[name] for count in counted) for name in counted[0]}
        n_tokens = sum(self.objective.count_tokens(batch) for batch in batches)
        self._n_own = len(batches)
        if self.plan.batches.tokens_at_once is not None and is_sharded(self.model_wrapped):
            batches = batches + [batches[-1]] * (max(ranks.gather(len(batches))) - len(batches))
        if ranks.world_size() > 1:
            total = torch.tensor([*self._stop.as_votes(), n_tokens, *counts.values()], device=device)
            torch.distributed.all_reduce(total)
            *votes, n_tokens = total[:3].tolist()
            counts = dict(zip(counts, total[3:].tolist(), strict=True))
            self._agreed = agree(votes)
        return [batches], StepCounts(counts, n_tokens, waited)

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """A checkpoint that lacks a weight is damaged; transformers only warns, for tied weights too."""
        missing = set(load_result.missing_keys) - set(cast(PreTrainedModel, self.model).all_tied_weights_keys)
        if missing or load_result.unexpected_keys:
            what = f"the checkpoint's weights do not fit the model: {sorted(missing) + load_result.unexpected_keys}"
            raise ModelError(what, where=str(self.run.checkpoints), hint="resume with the recipe the run began with")

    # ---- one step ----

    def training_step(  # type: ignore[override]  # inputs are a list of micro-batches
        self, model: nn.Module, inputs: list[Batch], num_items_in_batch: Any = None
    ) -> Tensor:
        """Forward and backward of one optimizer step; the gradient of (sum / count of the whole step)."""
        if not cast(nn.Module, self.model).training:  # what is wrapped around it would not know
            model.train()
        self._set_rates()
        step: StepCounts = num_items_in_batch
        self._batches, self._before_step = inputs, self._window.copy()
        self._state_before_step = dict(self.objective.state)  # its tensors are replaced, never changed
        self._window.add_step(step.labels, step.n_tokens, step.waited)
        losses = []
        for number, batch in enumerate(inputs, start=1):
            # Ranks add up their gradients once, with the last micro-batch.
            with nullcontext() if number == len(inputs) else self.accelerator.no_sync(model):
                losses.append(self._add_gradient(model, batch, step.labels, counts=number <= self._n_own))
        return torch.stack(losses).sum()

    def _add_gradient(self, model: nn.Module, inputs: Batch, labels: dict[str, int], *, counts: bool) -> Tensor:
        """One micro-batch. One that does not count keeps the others company, whose shards need all ranks."""
        batch = {name: tensor.to(self.args.device, non_blocking=True) for name, tensor in inputs.items()}
        with autocast(self.plan.precision, self.args.device):
            sums = cast(dict[str, Tensor], model(batch))
        parts = [sums[name] / max(1, count) for name, count in labels.items()]
        # DDP averages gradients over ranks; the counts are already those of all ranks together.
        loss: Tensor = torch.stack(parts).sum() * self.args.world_size * counts
        self.accelerator.backward(loss)
        if counts:
            self._window.add_sums(sums)
        return loss.detach()

    def _clip_grad_norm(self, model: nn.Module) -> Tensor:
        """The gradient's norm before it is clipped; transformers would walk through the model for it twice."""
        return torch.nn.utils.clip_grad_norm_(self._weights, self.args.max_grad_norm or float("inf"))

    def _get_grad_norm(self, model: nn.Module, grad_norm: Tensor | None = None) -> float:
        """The same as a number; the last gate before the weights change."""
        norm = self._clip_grad_norm(model) if grad_norm is None else grad_norm
        value = float(norm.full_tensor() if isinstance(norm, DTensor) else norm)
        if not math.isfinite(value):
            self._refuse_step(model, value)
        return value

    def _refuse_step(self, model: nn.Module, grad_norm: float) -> None:
        """Leave this step out where the recipe allows it; else stop."""
        step, allowed = self.state.global_step, self.train_section.skip_nonfinite
        if self.progress.n_skipped >= allowed:
            refuse_step(
                self.run.path, self.plan.batches, self._batches, self._window.sums,
                step=step, rank=self.args.process_index, rate=self._get_learning_rate(), grad_norm=grad_norm,
            )  # fmt: skip
        self.progress.n_skipped += 1
        say(f"the gradient is {grad_norm} at step {step + 1}: left out, {self.progress.n_skipped} of at most {allowed}")
        model.zero_grad()  # without gradients the optimizer changes nothing
        self._window.put_back(self._before_step)
        self.objective.state.clear()
        self.objective.state.update(self._state_before_step)

    def floating_point_ops(self, inputs: Batch) -> int:
        """Never counted per batch: MFU comes from the model's shape."""
        return 0

    def _wrap_model(self, model: nn.Module, training: bool = True, dataloader: Any = None) -> nn.Module:
        """Called once, before the first step."""
        module = spread(
            cast(PreTrainedModel, model), self.objective, self.train_section.engine, self.args.device,
            self.plan.compiled,
        )  # fmt: skip
        if is_sharded(module):
            self.optimizer = None
            self.create_optimizer()
        self._weights = list(module.parameters())
        return module

    # ---- optimizer ----

    def create_optimizer(self, model: nn.Module | None = None) -> Optimizer:
        if self.optimizer is None:
            self.optimizer = build_optimizer(model or self.model_wrapped, self.optim_section, self.plan.precision)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Optimizer | None = None) -> LambdaLR:
        if self.lr_scheduler is None:
            # accelerate's wrapper looks for a package on disk at every step; it is for loss scales and XLA, of which we
            # have none.
            self.optimizer = self._own_optimizer()
            self._schedule = LambdaLR(self.optimizer, self._rate_factor)
            self.lr_scheduler = self._schedule
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def _rate_factor(self, step: int) -> float:
        return learning_rate_factor(self.optim_section, step, self.plan.n_steps) * self.progress.rate_factor

    def _set_rates(self) -> None:
        """The rates of this step: the scheduler set them before the evaluation that may have lowered them."""
        factor = self._rate_factor(self.state.global_step)
        rates = [base * factor for base in self._schedule.base_lrs]
        for group, rate in zip(self._schedule.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        self._schedule._last_lr = rates  # what is logged

    # ---- at intervals ----

    def _maybe_log_save_evaluate(  # type: ignore[override]  # takes only what it reads
        self, tr_loss: Tensor, grad_norm: float | None, model: nn.Module, *_: Any, learning_rate: float | None = None
    ) -> None:
        """Called after every optimizer step, and once more at the end of the loop."""
        step = self.state.global_step
        if step == self._globalstep_last_logged:
            return
        self._globalstep_last_logged = step
        self.progress.n_tokens += self._window.n_last_step
        better = False
        try:
            stop = self._stop if ranks.world_size() == 1 else self._agree_once_more(step)
            with whole(self.model_wrapped):
                better = self.looks.look(cast(nn.Module, self.model), step, stop, grad_norm, learning_rate)
        except Abandoned:
            self.progress.left_undone = {"grad_norm": grad_norm, "learning_rate": learning_rate}
        if self._n_timed == 0 and step < (self.plan.calibration_step or 0):
            self._timed_from = (step, self._training_seconds())  # the first step is slower than the others
        self._n_timed += 1
        if better or self._asked_to_stop() or self.plan.saves_at(step):
            self._save_checkpoint(model)
            self.stop_signal = self._asked_to_stop()  # which may have come while it was saved: that will do
            if self.stop_signal:
                ranks.meet()  # a launcher ends rank 0 in the middle of its write where the others have left
        if step == self.plan.calibration_step and not self.stop_signal:
            self._fix_lengths(step)
        if self.stop_signal or self.looks.out_of_patience() or step >= self.plan.n_steps:
            self.control.should_training_stop = True

    def _training_seconds(self) -> float:
        """Since the first step, without evaluations, samples and checkpoints."""
        spent = self.progress.spent
        return time.perf_counter() - self.looks.started - sum(spent.values()) + spent["start"]

    def _fix_lengths(self, step: int) -> None:
        """Plan the number of steps and evaluations once more, with what the first steps took. Every rank calls it."""
        replan = self.looks.hooks.replan
        if replan is None:
            return
        assert self._timed_from is not None
        first, began = self._timed_from
        paused = time.perf_counter()
        measured = MeasuredSeconds(
            elapsed=self.progress.spent["start"] + paused - self.looks.started,
            step=(self._training_seconds() - began) / (step - first),
            evaluation=self.looks.last_evaluation,
            sample=self.looks.last_sample,
            save=self._last_save,
        )
        plan = self.plan
        self.plan = self.looks.plan = ranks.from_first(lambda: replan(plan, step, measured))
        seconds = time.perf_counter() - paused
        self.progress.spent["evaluation"] += seconds  # held-out blocks were scored to time them
        self._window.pause(seconds)
        self._timed_from = (step, self._training_seconds())

    def _save_checkpoint(self, model: nn.Module, trial: Any = None) -> None:
        """Weights, optimizer, schedule, random numbers and progress, whole or absent."""
        step = self.state.global_step
        paused = time.perf_counter()
        network = cast(PreTrainedModel, self.model)
        states = gather_states(network, self._own_optimizer(), self._window, self.objective, self.plan.batches.n_a_rank)
        self.progress.seconds = paused - self.looks.started
        self.progress.window_sums = states.window_sums
        self.progress.window_counts = dict(self._window.counts)
        # transformers counts epochs anew after a resume.
        self.state.epoch = self.plan.batches.numbers(step, 0)[0] / self.samples.samples_per_epoch
        if ranks.rank() == 0:
            with write_checkpoint(self.run.checkpoints, step, self._facts()) as folder:
                states.write(folder, network, self._schedule)
                self.state.save_to_json(str(folder / "trainer_state.json"))
                progress = {name: getattr(self.progress, name) for name in Progress.__slots__}
                write_json(folder / "progress.json", progress)
            best = self.progress.best_step
            prune_checkpoints(self.run.checkpoints, {best} if best is not None else set())
        self._last_save = time.perf_counter() - paused
        self.progress.spent["saving"] += self._last_save
        self._window.pause(self._last_save)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            load_random(Path(checkpoint), self.args.seed + (ranks.rank() << 32) + self.first_step)

    def _asked_to_stop(self) -> int | None:
        """The signal that came; with several ranks, one that all of them know of."""
        return self._stop.number if ranks.world_size() == 1 else self._agreed

    def _agree_once_more(self, step: int) -> StopRequest:
        """With several ranks nobody leaves before all know of it, so also before what takes long, and at the end."""
        stop = StopRequest()
        if self.plan.evaluates_at(step):
            votes = ranks.gather(self._stop.as_votes())
            self._agreed = self._agreed or agree([sum(each) for each in zip(*votes, strict=True)])
        if self._agreed is not None:
            stop.note(self._agreed)
        return stop

    def _facts(self) -> dict[str, Any]:
        """All that resuming depends on, for the checkpoint's manifest."""
        step = self.state.global_step
        return {
            "next_sample": self.plan.batches.numbers(step, 0)[0],
            "seed": self.args.seed,
            "world_size": self.args.world_size,
            "device": self.args.device.type,
            "threads": torch.get_num_threads(),
            "versions": describe_versions(),
            "plan": asdict(self.plan),
        }

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            load_states(Path(checkpoint), self._own_optimizer(), self._schedule)

    def _own_optimizer(self) -> Optimizer:
        """Ours, out of what accelerate wraps around it."""
        return cast(Optimizer, getattr(self.optimizer, "optimizer", self.optimizer))
