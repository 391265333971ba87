"""Custom metrics from a user's Python file: `cls.metrics: my_metrics.py:kappa`.

A metric is a function of (labels, predictions) or (labels, predictions, probabilities) that returns a number, like the
functions of sklearn.metrics. It is called before training, so that errors in it are reported early. If it fails during
or after training, its value is None and the error is printed; the run continues.

llmkit runs the code only if the user names the file, in a recipe or on the command line; see `Recipe.code`.
"""

import hashlib
import inspect
import random
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path
from traceback import extract_tb
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from llmkit.core import console
from llmkit.core.console import first_line
from llmkit.core.errors import UsageError, did_you_mean
from llmkit.tasks.cls.label_type import LabelType, Thresholds

LOWER_IS_BETTER = ("_loss", "_error", "_deviance")
"""Suffixes of metric names for which lower values are better, as in scikit-learn."""
RESERVED = (
    *("loss", "metric", "split", "kind", "step", "task", "label_type", "custom_metrics", "mistakes", "n_truncated"),
    *("n_windows", "n_held_out_rows"),
)
"""Keys of evaluation records that are not metrics of a label type; a custom metric cannot have these names."""
Arguments = tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]


@dataclass(frozen=True)
class CustomMetric:
    """A metric function from a Python file, and how to call it."""

    key: str
    function: Callable[..., Any]
    path: Path
    sha256: str
    takes_probabilities: bool
    higher_is_better: bool = True
    errors: dict[str, str] = field(default_factory=dict)
    """The error of the last call under the key `error`, for metrics.json; empty if there was none."""

    def describe(self) -> dict[str, Any]:
        """Return the metric's entry in metrics.json and in the run's manifest."""
        known = {"function": f"{self.path.name}:{self.key}", "sha256": self.sha256}
        return known | {"higher_is_better": self.higher_is_better, **self.errors}

    def measure(self, arguments: Arguments) -> float | None:
        """Return the value; None if it is not finite or if the function fails.

        Of several failures in a row, only the first is printed.
        """
        try:
            value = self.call(arguments)
        except UsageError as error:
            problem = error.problems[0]
            if not self.errors:
                console.info(f"warning: {problem.what} ({problem.where}); its value is left out")
            self.errors["error"] = f"{problem.what} ({problem.where})"
            return None
        self.errors.clear()
        return value if np.isfinite(value) else None

    def call(self, arguments: Arguments) -> float:
        """Return the value of the function.

        Raises:
            UsageError: the function fails or does not return a number; `where` gives the line of the file.
        """
        given = arguments if self.takes_probabilities else arguments[:2]
        with _run_code(self.path, f"metric {self.key}"):
            found = self.function(*(np.array(each) for each in given))  # copies, because the function may change them
        if isinstance(found, np.ndarray | torch.Tensor) and found.ndim == 0:
            found = found.item()
        if not isinstance(found, int | float | np.number) or isinstance(found, complex):
            shape = f" of shape {tuple(found.shape)}" if hasattr(found, "shape") else ""
            what = f"metric {self.key} returned {type(found).__name__}{shape}, not a number"
            hint = "return one number; write one function per metric"
            raise UsageError(what, where=self._find_line(), hint=hint)
        return float(found)

    def _find_line(self) -> str:
        try:
            return f"{self.path}:{inspect.getsourcelines(self.function)[1]}"
        except (OSError, TypeError):  # a function of a library, or functools.partial
            return str(self.path)


def load_custom_metrics(names: Sequence[str]) -> list[CustomMetric]:
    """Import the functions that `cls.metrics` names, as `FILE.py:FUNCTION`.

    Raises:
        UsageError: the file or function does not exist, or importing the file fails.
    """
    modules: dict[Path, ModuleType] = {}
    loaded: list[CustomMetric] = []
    for name in names:
        file, _, key = name.rpartition(":")
        path = Path(file)
        source = _read_source(path)
        if path not in modules:
            modules[path] = _import_file(path, source)
        function = getattr(modules[path], key, None)
        if not callable(function):
            known = [each for each, value in vars(modules[path]).items() if inspect.isfunction(value)]
            is_value = hasattr(modules[path], key)
            what = f"{key} of {path.name} is not a function" if is_value else f"{path.name} has no function {key!r}"
            hint = did_you_mean(key, known) if known else f"define a function {key} in {path.name}"
            raise UsageError(what, where=f"{path}, cls.metrics", hint=hint)
        if any(key == other.key for other in loaded):
            raise UsageError(f"two metrics are called {key!r}", where="cls.metrics", hint="rename one of the functions")
        digest = hashlib.sha256(source).hexdigest()
        loaded.append(CustomMetric(key, function, path, digest, _takes_probabilities(function)))
    return loaded


def check_custom_metrics(
    metrics: Sequence[CustomMetric],
    label_type: LabelType,
    names: list[str],
    labels: NDArray[Any],
    *,
    quiet: bool = False,
) -> list[CustomMetric]:
    """Call each metric with perfect and with constant predictions; return the metrics with `higher_is_better` set.

    The function's attribute `higher_is_better` decides if it exists. Otherwise, higher is better if perfect predictions
    score higher than constant ones. If the scores are equal, LOWER_IS_BETTER decides.

    Raises:
        UsageError: a metric fails, does not return a finite number, or has the name of another metric.
    """
    thresholds = np.full(len(names), 0.5)
    constant = label_type.constant_outputs(len(labels), len(names))
    known = label_type.measure_quickly(labels[[0, -1]], constant[[0, -1]], names)
    checked = []
    for metric in metrics:
        if metric.key in (*known, *RESERVED) or metric.key.startswith(("baseline_", "ngram_baseline")):
            hint = "rename the function: metrics.json already uses this name"
            raise UsageError(f"{metric.key!r} is the name of another metric", where=str(metric.path), hint=hint)
        if metric.takes_probabilities and labels.dtype.kind == "f" and labels.ndim == 1:
            hint = "write a function of (labels, predictions): regression has no probabilities"
            raise UsageError(f"metric {metric.key} takes probabilities", where=str(metric.path), hint=hint)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings about constant predictions
            best = metric.call(_perfect_arguments(labels, constant, names))
            worst = metric.call(make_arguments(label_type, labels, constant, thresholds, names))
        if not np.isfinite(best) and not np.isfinite(worst):
            what = f"metric {metric.key} is {best} for perfect predictions and {worst} for constant ones"
            raise UsageError(what, where=str(metric.path), hint="return a finite number")
        metric = replace(metric, higher_is_better=_choose_direction(metric, best, worst))
        checked.append(metric)
        if not quiet:
            direction = "higher" if metric.higher_is_better else "lower"
            values = f"{best:.4g} for perfect predictions, {worst:.4g} for constant ones"
            console.info(f"metric {metric.key} of {metric.path.name}: {direction} is better ({values})")
    return checked


def measure_custom(
    metrics: Sequence[CustomMetric], label_type: LabelType, labels: NDArray[Any], outputs: NDArray[Any],
    thresholds: Thresholds, names: Sequence[str],
) -> dict[str, float | None]:  # fmt: skip
    """Return the values of the metrics by key; see `CustomMetric.measure`."""
    arguments = make_arguments(label_type, labels, outputs, thresholds, names) if metrics else None
    return {metric.key: metric.measure(arguments) for metric in metrics if arguments is not None}


def make_arguments(
    label_type: LabelType, labels: NDArray[Any], outputs: NDArray[Any], thresholds: Thresholds, names: Sequence[str]
) -> Arguments:
    """Return labels, predictions and probabilities in scikit-learn's form.

    Labels and predictions are names (n,) for one label per row, or integers if all names are whole numbers; zeros and
    ones (n, C) for several labels per row; numbers (n,) for regression, which has no probabilities. Probabilities are
    (n, C). The C columns are in sorted order of the names, as in `classes_` of scikit-learn.
    """
    predictions = label_type.predict(outputs, thresholds)
    if outputs.ndim == 1:
        return labels, predictions, None
    values = _to_values(names)
    order = np.argsort(values, kind="stable")
    if labels.ndim == 2:
        return labels[:, order].astype(np.int64), predictions[:, order].astype(np.int64), outputs[:, order]
    # Normalize again: scikit-learn warns if sums differ from 1, as they do after storage in single precision.
    return values[labels], values[predictions], (outputs / outputs.sum(1, keepdims=True))[:, order]


def _perfect_arguments(labels: NDArray[Any], constant: NDArray[Any], names: Sequence[str]) -> Arguments:
    if constant.ndim == 1:
        return labels, labels, None
    values = _to_values(names)
    order = np.argsort(values, kind="stable")
    is_true = labels[:, order] if labels.ndim == 2 else labels[:, None] == order
    probabilities = np.where(is_true, 0.99, 0.01 / max(1, len(names) - 1))  # not 0, so that logarithms are finite
    shown = labels[:, order].astype(np.int64) if labels.ndim == 2 else values[labels]
    return shown, shown, probabilities


def _to_values(names: Sequence[str]) -> NDArray[Any]:
    if all(len(name) < 19 and name.removeprefix("-").isdecimal() and str(int(name)) == name for name in names):
        return np.array([int(name) for name in names])
    return np.array(names)


def _choose_direction(metric: CustomMetric, best: float, worst: float) -> bool:
    declared = getattr(metric.function, "higher_is_better", None)
    if isinstance(declared, bool):
        return declared
    if np.isfinite(best) and np.isfinite(worst) and best != worst:
        return best > worst
    return not metric.key.endswith(LOWER_IS_BETTER)


def _takes_probabilities(function: Callable[..., Any]) -> bool:
    """Whether the function has a third parameter that is required or called `probabilities`."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (ValueError, TypeError):  # written in C
        return False
    third = [each for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)][2:3]
    return any(each.default is each.empty or each.name == "probabilities" for each in third)


def _read_source(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        folder = path.parent
        near = [each.name for each in folder.glob("*.py")] if folder.is_dir() else []
        hint = did_you_mean(path.name, near) if near else "give the path of a Python file"
        raise UsageError(f"there is no file {str(path)!r}", where="cls.metrics", hint=hint) from None
    except OSError as error:
        hint = "give the path of a Python file"
        raise UsageError(f"{str(path)!r} cannot be read: {error.strerror}", where="cls.metrics", hint=hint) from None


def _import_file(path: Path, source: bytes) -> ModuleType:
    """Run the file as a module. It may import modules from its own folder. Writes no bytecode files."""
    module = ModuleType(f"llmkit_metrics_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses look it up
    sys.path.append(str(path.parent))
    try:
        with _run_code(path, "the file"):
            exec(compile(source, str(path), "exec"), module.__dict__)
    finally:
        sys.path.remove(str(path.parent))
    return module


@contextmanager
def _run_code(path: Path, what: str) -> Iterator[None]:
    """Run the user's code in the block: errors become a UsageError with the line of the file, output goes to stderr,
    and the state of the random generators is restored.
    """
    states = random.getstate(), np.random.get_state()
    try:
        with redirect_stdout(sys.stderr), torch.random.fork_rng(devices=[]):
            yield
    except SyntaxError as error:
        where = f"{error.filename or path}:{error.lineno}"
        raise UsageError(
            f"{path.name} is not valid Python: {error.msg}", where=where, hint="correct the line"
        ) from None
    except (Exception, SystemExit) as error:
        lines = [frame.lineno for frame in extract_tb(error.__traceback__) if frame.filename == str(path)]
        where = f"{path}:{lines[-1]}" if lines else str(path)
        hint = "correct the line; docs/tasks.md, Custom metrics, describes the arguments"
        raise UsageError(
            f"{what} fails: {type(error).__name__}: {first_line(error)}", where=where, hint=hint
        ) from error
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
