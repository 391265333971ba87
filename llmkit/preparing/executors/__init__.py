"""Where the shards of `prepare` are worked on: in this process, on this machine's cores, on Ray, or as jobs of Slurm.

An executor maps a function over tasks that can be pickled and gives the results in the tasks' order. What a task makes
it writes to a folder that all machines share; a task whose worker dies is done again elsewhere, and a task that is
done already (see `run_shard`) costs next to nothing.

Knows nothing of text.
"""

import logging
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import llmkit
from llmkit.core.errors import EnvironmentFault, LlmkitError, UsageError, did_you_mean
from llmkit.core.progress import ProgressBar
from llmkit.preparing.executors.local import open_local
from llmkit.preparing.executors.ray import open_ray, require_ray
from llmkit.preparing.executors.slurm import open_slurm, require_slurm

LOCAL = "local"
PACKAGES = (
    "tokenizers", "transformers", "pyarrow", "numpy", "ftfy", "charset-normalizer", "selectolax", "datasets", "jieba",
    "opencc", "rensa",
)  # fmt: skip
"""What decides bytes, besides llmkit."""

MapShards = Callable[[Callable[[Any], Any], Sequence[Any]], Iterator[Any]]
"""(run, tasks) -> results in the tasks' order, each as soon as it and all before it are there.

Raises what the first task, in their order, raised of LlmkitError and OSError, and WorkersLost where a task was tried
several times and no worker lived to its end."""


@dataclass(frozen=True, slots=True)
class Executor:
    """One that leaves this machine."""

    require: Callable[[], None]
    """Raises EnvironmentFault where it cannot be used here."""
    open: Callable[[Path], AbstractContextManager[Callable[[Any, Sequence[Any]], Generator[Any, None, None]]]]
    """A MapShards, whose tasks may leave files in the folder. It is closed where nobody wants the rest."""


EXECUTORS = {"ray": Executor(require_ray, open_ray), "slurm": Executor(require_slurm, open_slurm)}


def check_executor(name: str, inputs: Sequence[str]) -> None:
    """Whether the executor is known, can be used here, and can read the inputs.

    Raises:
        UsageError: no such executor, or standard input, which no worker has.
        EnvironmentFault: what it needs is not installed.
    """
    if name == LOCAL:
        return
    if name not in EXECUTORS:
        hint = did_you_mean(name, [LOCAL, *EXECUTORS])
        raise UsageError(f"there is no engine {name!r}", where="--engine", hint=hint)
    if "-" in inputs:
        hint = "write it to a file that all machines see, or use --engine local"
        raise UsageError(f"workers of {name} cannot read standard input", where="-", hint=hint)
    EXECUTORS[name].require()


@contextmanager
def open_executor(name: str, work: Path, n_workers: int) -> Iterator[MapShards]:
    """The executor, for as long as the block runs; `local` with one worker is this process, which starts no other.

    `work` is a folder that all its machines see. The number of workers is that of `local`.
    """
    if name == LOCAL and n_workers == 1:
        yield map
        return
    work = work.resolve()
    with open_local(n_workers) if name == LOCAL else EXECUTORS[name].open(work) as run_tasks:

        def map_shards(run: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterator[Any]:
            attempt = Attempt(run, work, Path.cwd(), describe_packages())
            with closing(run_tasks(attempt, tasks)) as outcomes:  # after an error nobody goes on with the rest
                for outcome in outcomes:
                    yield outcome.take()

        yield map_shards


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a task: an error of ours is a result too, so that no executor tries again or wraps it."""

    value: Any = None
    error: Exception | None = None
    warnings: list[str] = field(default_factory=list)

    def take(self) -> Any:
        """The value; warnings are said here, where somebody reads them, and the error is raised here."""
        for line in self.warnings:
            logging.getLogger(__name__).warning("%s", line)
        if self.error is not None:
            raise self.error
        return self.value


@dataclass(frozen=True, slots=True)
class Attempt:
    """A function and the circumstances in which a worker calls it; called with a task."""

    run: Callable[[Any], Any]
    work: Path
    """Absolute; the folder that both sides must see."""
    cwd: Path
    """The caller's working folder: inputs are named as the user wrote them."""
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
            hint = "put --out on a file system that all machines share, under one path"
            raise EnvironmentFault(f"a worker does not see {self.work}", where="--engine", hint=hint)
        found = describe_packages()
        others = [f"{name} {found[name]}, here {own}" for name, own in self.versions.items() if found[name] != own]
        if others:
            hint = "install the same versions everywhere: another one may give other bytes"
            raise EnvironmentFault(f"a worker has {'; '.join(others)}", where="--engine", hint=hint)


@cache
def describe_packages() -> dict[str, str | None]:
    """Versions of llmkit and of all that decides bytes; None for what is not installed."""
    versions: dict[str, str | None] = {"llmkit": llmkit.__version__}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    return versions


@contextmanager
def _quiet(warnings: list[str]) -> Iterator[None]:
    """Keep what llmkit logs, and show no meter: several workers may share one terminal, others have none."""
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
