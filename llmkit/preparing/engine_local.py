"""Tasks on the cores of this machine: worker processes that read tasks from one pipe and write results to another.

Not of `multiprocessing`, whose children import the caller's script again, which need not be fit for that: a worker
imports what its tasks name and no more, so it is there in half a second. It ends when its pipe does, however the
caller ended; a worker that dies is replaced and its task is done again. On POSIX, signals of the terminal are the
caller's alone.

Knows nothing of what the tasks do.
"""

import os
import pickle
import signal
import subprocess
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from importlib.abc import MetaPathFinder
from pathlib import Path
from queue import SimpleQueue
from typing import Any, BinaryIO, NoReturn

from llmkit.core.machine import read_memory
from llmkit.core.threads import count_cores
from llmkit.preparing.unfinished import WorkersLost

TRIES = 4
BYTES_A_WORKER = 1_000_000_000
"""Of memory; 0.4 GB is what one takes, and others want some too."""
ONE_THREAD = {"OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
"""Of the libraries in a worker, which has one core."""


def count_workers() -> int:
    """One worker per core that this process may use (threads.py), as far as memory allows."""
    cores, memory = count_cores(), read_memory()
    return cores if memory is None else max(1, min(cores, memory // BYTES_A_WORKER))


@contextmanager
def open_local(work: Path) -> Iterator[Callable[[Any, Sequence[Any]], Generator[Any, None, None]]]:
    """Workers, which end with the block, however it ends."""
    crew = _Crew(count_workers())
    threads = ThreadPoolExecutor(crew.size)  # each waits for one worker
    try:
        yield partial(_run, threads, crew)
    finally:
        crew.kill()
        threads.shutdown(cancel_futures=True)
        crew.close()


def _run(
    threads: ThreadPoolExecutor, crew: "_Crew", function: Callable[[Any], Any], tasks: Sequence[Any]
) -> Generator[Any, None, None]:
    results = deque(threads.submit(crew.do, function, task, n + 1, len(tasks)) for n, task in enumerate(tasks))
    try:
        while results:
            yield results.popleft().result()  # nothing is kept of it
    finally:
        for result in results:
            result.cancel()


class _Crew:
    """As many workers as may be at work at a time."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._idle: SimpleQueue[subprocess.Popen[bytes] | None] = SimpleQueue()
        """None once no more tasks are taken: it wakes who waits for a worker."""
        self._workers: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._ended: str | None = None
        """Why no more tasks are taken."""
        for _ in range(size):
            self._idle.put(self._start())

    def do(self, function: Callable[[Any], Any], task: Any, number: int, n_tasks: int) -> Any:
        """The function's result for the task, of whichever worker is free.

        Raises:
            WorkersLost: one worker after the other died at it.
            RuntimeError: with the worker's traceback; a bug of ours.
        """
        how = "killed"
        for _ in range(TRIES):
            worker = self._idle.get()
            if worker is None:
                self._idle.put(None)
                raise self._lost()
            try:
                value, trace = _ask(worker, (function, task))
            except (EOFError, OSError, pickle.UnpicklingError):
                how = self._replace(worker)
                continue
            except BaseException:
                self._replace(worker)
                raise
            self._idle.put(worker)
            if trace is not None:
                raise RuntimeError(f"in a worker:\n{trace}")
            return value
        what = f"workers died {TRIES} times at task {number} of {n_tasks}: {how}"
        hint = "run it again: it goes on from what is finished; a system out of memory kills with SIGKILL"
        raise WorkersLost(what, where="--engine local", hint=hint)

    def kill(self, why: str = "the workers were ended") -> None:
        """End all workers, and start no more."""
        with self._lock:
            self._ended = self._ended or why
            for worker in self._workers:
                worker.kill()
        self._idle.put(None)

    def close(self) -> None:
        """Wait for the end of the killed, when nobody waits for their answers."""
        for worker in self._workers:
            _bury(worker)

    def _start(self) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._ended:
                raise self._lost()
            path = os.pathsep.join(place or str(Path.cwd()) for place in sys.path)
            worker = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=os.environ | ONE_THREAD | {"PYTHONPATH": path},
                process_group=None if os.name == "nt" else 0,
            )
            self._workers.add(worker)
            return worker

    def _lost(self) -> WorkersLost:
        hint = "run it again: it goes on from what is finished"
        return WorkersLost(self._ended or "", where="--engine local", hint=hint)

    def _replace(self, dead: subprocess.Popen[bytes]) -> str:
        """Start another one; how this one died."""
        dead.kill()
        code = _bury(dead)
        with self._lock:
            self._workers.discard(dead)
        try:
            self._idle.put(self._start())
        except OSError as error:
            self.kill(f"no worker could be started: {error}")
            raise self._lost() from error
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _ask(worker: subprocess.Popen[bytes], request: Any) -> tuple[Any, str | None]:
    assert worker.stdin is not None and worker.stdout is not None
    pickle.dump(request, worker.stdin)
    worker.stdin.flush()
    answer: tuple[Any, str | None] = pickle.load(worker.stdout)
    return answer


def _bury(worker: subprocess.Popen[bytes]) -> int:
    assert worker.stdin is not None and worker.stdout is not None
    with suppress(OSError):  # of what it was not there to read any more
        worker.stdin.close()
    worker.stdout.close()
    return worker.wait()


class _NoPandas(MetaPathFinder):
    """pyarrow loads pandas (0.35 s) to ask whether a list is one of its objects; a worker has none."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError("workers of llmkit load no pandas", name=name)


def work_off() -> NoReturn:
    """A worker's life: tasks from standard input, results to standard output, to which nothing else may write."""
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.meta_path.insert(0, _NoPandas())
    tasks: SimpleQueue[Any] = SimpleQueue()
    threading.Thread(target=_take_in, args=(sys.stdin.buffer, tasks), daemon=True).start()
    while True:
        function, task = tasks.get()
        try:
            answer = pickle.dumps((function(task), None))
        except BaseException:  # a panic of Rust's is no Exception
            answer = pickle.dumps((None, traceback.format_exc()))
        with suppress(BrokenPipeError):  # the caller is gone
            results.write(answer)
            results.flush()


def _take_in(source: BinaryIO, tasks: SimpleQueue[Any]) -> NoReturn:
    """Read ahead, so that the end of the caller is seen in the middle of a task too."""
    try:
        while True:
            tasks.put(pickle.load(source))
    except (EOFError, pickle.UnpicklingError):
        os._exit(0)
    except BaseException:  # nobody would take any task
        traceback.print_exc()
        os._exit(1)


if __name__ == "__main__":
    work_off()
