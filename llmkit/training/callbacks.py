"""What is due between optimizer steps: held-out figures and a sample, the log, and a word where the loss jumps."""

import math
import time

from torch import nn

from llmkit.config.optim import Optim
from llmkit.config.train import Train
from llmkit.core import console
from llmkit.core.errors import TrainingFailed
from llmkit.core.signals import StopRequest
from llmkit.training.contract import Hooks, Plan, Progress
from llmkit.training.guards import expect_loss
from llmkit.training.loss_window import LossWindow
from llmkit.training.memory import measure_memory


class IntervalCallbacks:
    """Calls the hooks when the plan says so, and keeps what they teach: the best figures, the window of the log."""

    def __init__(self, plan: Plan, train: Train, optim: Optim, hooks: Hooks) -> None:
        self.plan, self.train, self.optim, self.hooks = plan, train, optim, hooks
        self.progress = Progress()
        self.window = LossWindow()
        self.first_step = 0
        self.started = time.perf_counter()

    def on_step_end(
        self, model: nn.Module, step: int, stop: StopRequest, grad_norm: float | None, learning_rate: float | None,
        *, is_due: bool | None = None,
    ) -> bool:  # fmt: skip
        """Evaluation and log, where they are due after `step`, by the plan or as given. Whether its weights are the
        best so far.

        Raises:
            TrainingFailed: a held-out loss that is not finite, or a loss that jumps where the recipe forbids it.
            Abandoned: a signal came while it was evaluated; nothing was kept of it.
        """
        last = step >= self.plan.n_steps
        better = False
        if self.hooks.evaluate is not None and (self.plan.evaluates_at(step) if is_due is None else is_due):
            better = self._evaluate(model, step, stop, learning_rate)
        if last or step % self.train.log_steps == 0:
            self._log_train(step, grad_norm, learning_rate)
        return better

    def out_of_patience(self) -> bool:
        """Whether there were as many evaluations without anything better as the recipe bears."""
        patience = self.train.early_stopping
        return patience is not None and self.progress.stale_evaluations >= patience

    def _evaluate(self, model: nn.Module, step: int, stop: StopRequest, learning_rate: float | None) -> bool:
        model.eval()
        assert self.hooks.evaluate is not None
        paused = time.perf_counter()
        with stop.may_abandon():
            metrics = self.hooks.evaluate(model, self.plan)
        if not math.isfinite(metrics["loss"]):
            raise TrainingFailed(
                f"the held-out loss is {metrics['loss']} after step {step}; this state was not saved",
                where=f"step {step}, learning rate {learning_rate or 0:.3g}",
                hint="lower optim.learning_rate or raise optim.warmup_steps",
            )
        self.hooks.log({"kind": "eval", "step": step, **metrics})
        evaluated = time.perf_counter()
        written = self.hooks.sample(model)
        if written is not None:
            self.hooks.log({"kind": "sample", "step": step, **written})
        ended = time.perf_counter()
        progress = self.progress
        progress.last_evaluation, progress.last_sample = evaluated - paused, ended - evaluated
        progress.spent["evaluation"] += progress.last_evaluation
        progress.spent["samples"] += progress.last_sample
        self.window.pause(ended - paused)
        return self._judge(step, list(self.hooks.selection_key(metrics)))

    def _judge(self, step: int, selection_key: list[float]) -> bool:
        """Whether this is the best so far; if not, the rate may have to fall."""
        progress, best = self.progress, self.progress.best_cost
        if not all(map(math.isfinite, selection_key)) or (best is not None and selection_key >= best):
            progress.stale_evaluations += 1
            if self.optim.schedule == "plateau":
                progress.rate_factor *= self.optim.plateau_factor
            return False
        progress.best_cost, progress.best_step, progress.stale_evaluations = selection_key, step, 0
        return True

    def _log_train(self, step: int, grad_norm: float | None, learning_rate: float | None) -> None:
        losses = self.window.drain()
        self._watch_for_spikes(step, losses["loss"])
        self.hooks.log(
            {
                "kind": "train",
                "step": step,
                **losses,
                "learning_rate": learning_rate,
                "grad_norm": grad_norm,
                "seconds": time.perf_counter() - self.started,
                "n_tokens": self.progress.n_tokens,
                **measure_memory(),
            }
        )

    def _watch_for_spikes(self, step: int, loss: float) -> None:
        expected = self.progress.expected_loss
        jumps, self.progress.expected_loss = expect_loss(expected, loss)
        if not jumps:
            return
        what = f"the loss jumped to {loss:.4g} at step {step}, where about {expected[0]:.4g} was expected"
        where = self.plan.batches.describe(max(self.first_step, step - self.train.log_steps), step - 1)
        if self.train.stop_on_spike:
            hint = "look at these samples, or lower optim.learning_rate; the last checkpoint is from before"
            raise TrainingFailed(what, where=where, hint=hint)
        console.info(f"warning: {what}; {where}")
