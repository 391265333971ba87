"""Run tasks on Ray: on the cluster at RAY_ADDRESS, otherwise on the cores of this machine.

Ray replaces workers that die.
"""

import os
import signal
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from llmkit.core.console import first_line
from llmkit.core.errors import EnvironmentFault
from llmkit.core.process import SIGNALS
from llmkit.preparing.staging_dir import WorkersLost

MAX_TRIES = 4
SIGNAL_SECONDS = 0.5
"""Maximum time of a wait. In a longer wait, Ray handles signals itself and loses exceptions of their handlers."""
OBJECT_STORE_BYTES = 100_000_000
"""Tasks and results are small, as the text stays in files. Ray's default is a third of the machine's memory."""


def require_ray() -> None:
    """Raise EnvironmentFault if Ray is not installed."""
    if find_spec("ray") is None:
        hint = "pip install 'llmkit[ray]', or use --engine local"
        raise EnvironmentFault("Ray is not installed", where="--engine ray", hint=hint)


@contextmanager
def open_ray(work: Path) -> Iterator[Callable[[Any, Sequence[Any]], Generator[Any, None, None]]]:
    """Connect to Ray; stops Ray at the end of the block if it started Ray."""
    # Ray reads these variables when it is imported.
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_COLOR_PREFIX": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    # Ray counts tasks that its memory monitor kills apart from max_retries, and retries them forever by default.
    os.environ |= {"RAY_task_oom_retries": str(MAX_TRIES - 1)}
    import ray

    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    with redirect_stdout(sys.stderr):  # Ray reports dead workers on stdout, which is for results
        try:
            _connect(ray)
            for number, handler in handlers.items():  # Ray replaces them
                signal.signal(number, handler)
            yield partial(_run, ray)
        finally:
            ray.shutdown()


def _connect(ray: Any) -> None:
    address = os.environ.get("RAY_ADDRESS")
    more = {} if address else {"include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
    try:
        ray.init(address=address or "local", log_to_driver=False, logging_level="ERROR", **more)
    except Exception as error:  # Ray raises many types, even a bare Exception
        reason = first_line(error)
        if address:
            hint = "start the cluster (`ray start --head`), or unset RAY_ADDRESS to use this machine's cores"
            raise WorkersLost(f"cannot connect to Ray: {reason}", where=f"RAY_ADDRESS={address}", hint=hint) from error
        hint = "run the command again, or use --engine local; Ray's own logs are in the folder of its session"
        raise WorkersLost(f"Ray does not start: {reason}", where="--engine ray", hint=hint) from error


def _run(ray: Any, function: Callable[[Any], Any], tasks: Sequence[Any]) -> Generator[Any, None, None]:
    remote = ray.remote(num_cpus=1, max_retries=MAX_TRIES - 1)(_call)
    shared = ray.put(function)
    results = [remote.remote(shared, task) for task in tasks]
    try:
        for number, result in enumerate(results):
            try:
                while not ray.wait([result], timeout=SIGNAL_SECONDS)[0]:
                    pass
                value = ray.get(result)
            except ray.exceptions.RayTaskError:
                raise  # a bug, with the worker's traceback
            except ray.exceptions.RayError as error:
                what = f"workers died {MAX_TRIES} times at task {number + 1} of {len(tasks)}"
                hint = "the same command resumes from the finished stages; did the workers run out of memory?"
                raise WorkersLost(what, where=f"ray: {type(error).__name__}", hint=hint) from None
            results[number] = None  # so that Ray frees the result
            yield value
    except BaseException:
        for result in filter(None, results):
            ray.cancel(result, force=True)
        raise


def _call(function: Callable[[Any], Any], task: Any) -> Any:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # a worker has one core
    return function(task)
