"""Experiment trackers of accelerate, by the names in `train.trackers`; they receive a copy of every log record."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmkit.core.devices import pick_device
from llmkit.core.errors import EnvironmentFault

PROJECT = "llmkit"


def require_trackers(names: Sequence[str]) -> None:
    """Raise EnvironmentFault if the package of a tracker is not installed."""
    for name in names:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:  # a folder of that name, such as wandb's, is not the package
            hint = f"pip install 'llmkit[{name}]', or remove it from train.trackers"
            raise EnvironmentFault(f"{name} is not installed", where="train.trackers", hint=hint)


def open_trackers(names: Sequence[str], run: Path, config: dict[str, Any]) -> list[Any]:
    """Started trackers (accelerate's `GeneralTracker`) with the run's name and recipe.

    TensorBoard, wandb and SwanLab write to the run's folder; MLflow and Trackio where they are configured to.
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
        if name != "tensorboard":  # it would write a second folder of events
            tracker.store_init_configuration(config)
        trackers.append(tracker)
    return trackers


def track(trackers: Sequence[Any], record: dict[str, Any]) -> None:
    """Send the numbers of a log record to each tracker, as `kind/name`."""
    values = {f"{record['kind']}/{name}": value for name, value in record.items() if isinstance(value, float)}
    for tracker in trackers:
        tracker.log(values, step=record["step"])
