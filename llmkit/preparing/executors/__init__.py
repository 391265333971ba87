"""Run the shards of `prepare` in this process, on this machine's cores, on Ray, or as Slurm jobs.

An executor maps a function over picklable tasks and returns the results in the order of tasks. Tasks write their output
to a folder that all machines share. A task whose worker dies is repeated on another worker; repeating a finished task
(see `run_shard`) costs almost nothing.
"""

import logging
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import llmkit
from llmkit.core.errors import EnvironmentFault, LlmkitError, UsageError, did_you_mean
from llmkit.core.machine import find_version
from llmkit.core.progress import ProgressBar
from llmkit.preparing.executors.local import open_local
from llmkit.preparing.executors.ray import open_ray, require_ray
from llmkit.preparing.executors.slurm import open_slurm, require_slurm

LOCAL = "local"
PACKAGES = (
    "tokenizers", "transformers", "pyarrow", "numpy", "ftfy", "selectolax", "datasets", "jieba",
    "opencc", "rensa",
)  # fmt: skip
"""Packages, besides llmkit, that affect the bytes of the output."""

MapShards = Callable[[Callable[[Any], Any], Sequence[Any]], Iterator[Any]]
"""(run, tasks) -> results in the order of tasks; a result comes when its task and all earlier tasks have finished.

Raises the LlmkitError or OSError of the first failed task, and WorkersLost if all workers that tried a task died."""


@dataclass(frozen=True, slots=True)
class Executor:
    """An executor on other machines."""

    require: Callable[[], None]
    """Raises EnvironmentFault if the executor cannot be used here."""
    open: Callable[[Path], AbstractContextManager[Callable[[Any, Sequence[Any]], Generator[Any, None, None]]]]
    """Opens a MapShards that returns a generator; closing the generator cancels the remaining tasks. The folder is for
    files of the executor."""


EXECUTORS = {"ray": Executor(require_ray, open_ray), "slurm": Executor(require_slurm, open_slurm)}


def check_executor(name: str, inputs: Sequence[str]) -> None:
    """Check that the executor exists, can be used here, and can read the inputs.

    Raises:
        UsageError: no such executor, or standard input, which workers cannot read.
        EnvironmentFault: a required package or program is missing.
    """
    if name == LOCAL:
        return
    if name not in EXECUTORS:
        hint = did_you_mean(name, [LOCAL, *EXECUTORS])
        raise UsageError(f"unknown executor {name!r}", where="--engine", hint=hint)
    if "-" in inputs:
        hint = "write the text to a file that all machines can read, or use --engine local"
        raise UsageError(f"workers of {name} cannot read standard input", where="-", hint=hint)
    EXECUTORS[name].require()


@contextmanager
def open_executor(name: str, work: Path, n_workers: int) -> Iterator[MapShards]:
    """Open the executor for the duration of the block; `local` with one worker runs in this process.

    `work` is a folder that all machines share. `n_workers` is for `local`.
    """
    if name == LOCAL and n_workers == 1:
        yield map
        return
    work = work.resolve()
    with open_local(n_workers) if name == LOCAL else EXECUTORS[name].open(work) as run_tasks:

        def map_shards(run: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterator[Any]:
            attempt = Attempt(run, work, Path.cwd(), describe_packages())
            with closing(run_tasks(attempt, tasks)) as outcomes:  # after an error the remaining tasks are cancelled
                for outcome in outcomes:
                    yield outcome.take()

        yield map_shards


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a task. User errors are results too, so executors neither retry nor wrap them."""

    value: Any = None
    error: Exception | None = None
    warnings: list[str] = field(default_factory=list)

    def take(self) -> Any:
        """Return the value; logs the warnings and raises the error in the calling process."""
        for line in self.warnings:
            logging.getLogger(__name__).warning("%s", line)
        if self.error is not None:
            raise self.error
        return self.value


@dataclass(frozen=True, slots=True)
class Attempt:
    """A function together with the environment in which a worker calls it."""

    run: Callable[[Any], Any]
    work: Path
    """Absolute path of the folder that all machines must share."""
    cwd: Path
    """The caller's working directory, to which input paths are relative."""
    versions: dict[str, str | None]

    def __call__(self, task: Any) -> Outcome:
        warnings: list[str] = []
        try:
            with _quiet(warnings):
                self._check_worker()
                os.chdir(self.cwd)
                return Outcome(self.run(task), None, warnings)
        except (LlmkitError, OSError, MemoryError) as error:
            return Outcome(None, error, warnings)

    def _check_worker(self) -> None:
        if not self.work.is_dir():
            hint = "put --out on a file system that all machines mount at the same path"
            raise EnvironmentFault(f"a worker cannot find {self.work}", where="--engine", hint=hint)
        found = describe_packages()
        others = [f"{name} {found[name]}, here {own}" for name, own in self.versions.items() if found[name] != own]
        if others:
            hint = "install the same versions everywhere: different versions may write different bytes"
            raise EnvironmentFault(f"a worker has different versions: {'; '.join(others)}", where="--engine", hint=hint)


@cache
def describe_packages() -> dict[str, str | None]:
    """Return versions of llmkit and of the packages that affect the output bytes; None if not installed."""
    return {"llmkit": llmkit.__version__, **{name: find_version(name) for name in PACKAGES}}


@contextmanager
def _quiet(warnings: list[str]) -> Iterator[None]:
    """Collect llmkit's log messages and hide progress bars; workers may share a terminal or have none."""
    handler, logger = logging.Handler(), logging.getLogger("llmkit")
    handler.emit = lambda record: warnings.append(record.getMessage())  # type: ignore[method-assign]  # a class for it would be longer
    propagate, is_hidden = logger.propagate, ProgressBar.is_hidden
    logger.addHandler(handler)
    logger.propagate, ProgressBar.is_hidden = False, True
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate, ProgressBar.is_hidden = propagate, is_hidden
