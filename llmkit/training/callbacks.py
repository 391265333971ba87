"""Actions after an optimizer step at their intervals: evaluation, a text sample, the log, spike detection.

`train.trackers` names accelerate's trackers, which receive the values of every log record.
"""

import importlib.util
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from llmkit.config.optim import Optim
from llmkit.config.train import Train
from llmkit.core import console
from llmkit.core.devices import measure_memory, pick_device
from llmkit.core.errors import EnvironmentFault, TrainingFailed
from llmkit.core.process import StopRequest
from llmkit.training.contract import Hooks, Plan, Progress
from llmkit.training.losses import LossWindow, detect_spike


class IntervalCallbacks:
    """Calls the hooks at the plan's intervals; keeps the best evaluation and the losses since the last log line."""

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
        """Evaluate and log if due after `step`; returns whether the weights are the best so far.

        `is_due` overrides the plan's decision whether an evaluation is due.

        Raises:
            TrainingFailed: a held-out loss that is not finite, or a loss spike if the recipe forbids spikes.
            EvaluationAborted: a signal came during the evaluation; its result is discarded.
        """
        is_best = False
        if self.hooks.evaluate is not None and (self.plan.evaluates_at(step) if is_due is None else is_due):
            is_best = self._evaluate(model, step, stop, learning_rate)
        if step >= self.plan.n_steps or step % self.train.log_steps == 0:
            losses = self.window.drain()
            self._check_spike(step, losses["loss"])
            record = {
                "kind": "train",
                "step": step,
                **losses,
                "learning_rate": learning_rate,
                "grad_norm": grad_norm,
                "seconds": time.perf_counter() - self.started,
                "n_tokens": self.progress.n_tokens,
                **measure_memory(),
            }
            self.hooks.log(record)
        return is_best

    def out_of_patience(self) -> bool:
        """Whether early stopping's patience has run out."""
        patience = self.train.early_stopping
        return patience is not None and self.progress.stale_evaluations >= patience

    def _evaluate(self, model: nn.Module, step: int, stop: StopRequest, learning_rate: float | None) -> bool:
        model.eval()
        assert self.hooks.evaluate is not None
        started = time.perf_counter()
        with stop.abortable():
            metrics = self.hooks.evaluate(model, self.plan)
        if not math.isfinite(metrics["loss"]):
            raise TrainingFailed(
                f"the held-out loss is {metrics['loss']} after step {step}; this state was not saved",
                where=f"step {step}, learning rate {learning_rate or 0:.3g}",
                hint="lower optim.learning_rate or raise optim.warmup_steps",
            )
        self.hooks.log({"kind": "eval", "step": step, **metrics})
        evaluated = time.perf_counter()
        sample = self.hooks.sample(model)
        if sample is not None:
            self.hooks.log({"kind": "sample", "step": step, **sample})
        ended = time.perf_counter()
        progress = self.progress
        progress.last_evaluation, progress.last_sample = evaluated - started, ended - evaluated
        progress.spent["evaluation"] += progress.last_evaluation
        progress.spent["samples"] += progress.last_sample
        self.window.pause(ended - started)
        return self._update_best(step, list(self.hooks.selection_key(metrics)))

    def _update_best(self, step: int, selection_key: list[float]) -> bool:
        """Return whether this evaluation is the best so far; if not, a plateau schedule lowers the learning rate."""
        progress, best = self.progress, self.progress.best_selection_key
        if not all(map(math.isfinite, selection_key)) or (best is not None and selection_key >= best):
            progress.stale_evaluations += 1
            if self.optim.schedule == "plateau":
                progress.rate_factor *= self.optim.plateau_factor
            return False
        progress.best_selection_key, progress.best_step, progress.stale_evaluations = selection_key, step, 0
        return True

    def _check_spike(self, step: int, loss: float) -> None:
        expected = self.progress.expected_loss
        is_spike, self.progress.expected_loss = detect_spike(expected, loss)
        if not is_spike:
            return
        what = f"the loss jumped to {loss:.4g} at step {step}, where about {expected[0]:.4g} was expected"
        where = self.plan.batches.describe(max(self.first_step, step - self.train.log_steps), step - 1)
        if self.train.stop_on_spike:
            hint = "inspect these samples, or lower optim.learning_rate; the last checkpoint was saved before the spike"
            raise TrainingFailed(what, where=where, hint=hint)
        console.info(f"warning: {what}; {where}")


PROJECT = "llmkit"


def require_trackers(names: Sequence[str]) -> None:
    """Raise EnvironmentFault if the package of a tracker is not installed."""
    for name in names:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:  # a folder of that name, such as wandb's, is not the package
            hint = f"pip install 'llmkit[{name}]', or remove {name} from train.trackers"
            raise EnvironmentFault(f"{name} is not installed", where="train.trackers", hint=hint)


def open_trackers(names: Sequence[str], run: Path, config: dict[str, Any]) -> list[Any]:
    """Start the trackers (accelerate's `GeneralTracker`) with the run's name and recipe.

    TensorBoard, wandb and SwanLab write to the run's folder; MLflow and Trackio write to their configured location.
    """
    if not names:
        return []
    from accelerate import PartialState  # type: ignore[import-untyped]
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS  # type: ignore[import-untyped]

    PartialState(cpu=pick_device().type == "cpu")  # trackers need it
    arguments: dict[str, tuple[str, dict[str, Any]]] = {
        "tensorboard": ("tensorboard", {"logging_dir": str(run)}),
        "wandb": (PROJECT, {"name": run.name, "dir": str(run)}),
        "mlflow": (PROJECT, {"run_name": run.name}),
        "trackio": (PROJECT, {"name": run.name}),
        "swanlab": (PROJECT, {"experiment_name": run.name, "logdir": str(run / "swanlab")}),
    }
    trackers = []
    for name in names:
        project, more = arguments[name]
        tracker = LOGGER_TYPE_TO_CLASS[name](project, **more)
        tracker.start()
        if name != "tensorboard":  # TensorBoard would write a second folder of events
            tracker.store_init_configuration(config)
        trackers.append(tracker)
    return trackers


def track(trackers: Sequence[Any], record: dict[str, Any]) -> None:
    """Send the float values of a log record to each tracker, under the names `kind/name`."""
    values = {f"{record['kind']}/{name}": value for name, value in record.items() if isinstance(value, float)}
    for tracker in trackers:
        tracker.log(values, step=record["step"])
