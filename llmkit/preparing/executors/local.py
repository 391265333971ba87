"""Run tasks on the cores of this machine, in worker processes that read tasks from a pipe and write results to another.

`multiprocessing` would import the caller's script again, which the script may not support. A worker imports only the
modules that its tasks need, so it starts in half a second. It ends when its pipe is closed, even if the caller was
killed. A worker that dies is replaced, and its task is repeated. On POSIX, signals of the terminal reach only the
caller.
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
from importlib.abc import MetaPathFinder
from pathlib import Path
from queue import SimpleQueue
from typing import Any, BinaryIO, NoReturn

from llmkit.core.machine import count_cores, read_memory
from llmkit.preparing.staging_dir import WorkersLost

MAX_TRIES = 4
BYTES_PER_WORKER = 1_000_000_000
"""Memory to reserve per worker; a worker takes about 0.4 GB."""
WORKER_VARIABLES = {"OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
"""Environment of a worker, which has one core."""


def count_workers() -> int:
    """Return the number of workers: one per core that this process may use, limited by memory."""
    cores, memory = count_cores(), read_memory()
    return cores if memory is None else max(1, min(cores, memory // BYTES_PER_WORKER))


@contextmanager
def open_local(n_workers: int) -> Iterator[Callable[[Any, Sequence[Any]], Generator[Any, None, None]]]:
    """Start workers, which end when the block ends."""
    pool = _Pool(n_workers)
    try:
        yield pool.map
    finally:
        pool.end()


class _Pool:
    """One thread per worker process.

    A thread starts its worker with the first task, waits for it, and replaces it if it dies.
    """

    def __init__(self, n_workers: int) -> None:
        self._threads = ThreadPoolExecutor(n_workers)
        self._of_thread = threading.local()
        self._workers: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._ended: str | None = None
        """The reason why no more workers are started."""

    def map(self, function: Callable[[Any], Any], tasks: Sequence[Any]) -> Generator[Any, None, None]:
        results = deque(
            self._threads.submit(self.run, function, task, f"{number} of {len(tasks)}")
            for number, task in enumerate(tasks, 1)
        )
        try:
            while results:
                yield results.popleft().result()  # keeps no reference, so that memory is freed
        finally:
            for result in results:
                result.cancel()

    def run(self, function: Callable[[Any], Any], task: Any, number: str) -> Any:
        """Return the function's result for the task, computed by this thread's worker.

        Raises:
            WorkersLost: several workers died during this task.
            RuntimeError: a bug; the message has the worker's traceback.
        """
        how = ""
        for _ in range(MAX_TRIES):
            worker = self._find_worker()
            try:
                value, trace = _ask(worker, (function, task))
            except (EOFError, OSError, pickle.UnpicklingError):
                how = self._reap(worker)
                continue
            except BaseException:
                self._reap(worker)
                raise
            if trace is not None:
                raise RuntimeError(f"in a worker:\n{trace}")
            return value
        hint = "the same command resumes from the finished stages; SIGKILL often means that memory ran out"
        raise WorkersLost(f"workers died {MAX_TRIES} times at task {number}: {how}", where="--engine local", hint=hint)

    def kill(self, why: str = "the workers were stopped") -> None:
        """End all workers and start no new ones."""
        with self._lock:
            self._ended = self._ended or why
            for worker in self._workers:
                worker.kill()

    def end(self) -> None:
        """End all workers and the threads that wait for them."""
        self.kill()
        self._threads.shutdown(cancel_futures=True)
        for worker in list(self._workers):
            self._reap(worker)

    def _find_worker(self) -> subprocess.Popen[bytes]:
        """Return this thread's worker; starts one if there is none."""
        worker: subprocess.Popen[bytes] | None = getattr(self._of_thread, "worker", None)
        if worker is not None and worker in self._workers:
            return worker
        with self._lock:
            try:
                if not self._ended:
                    self._of_thread.worker = worker = _start_worker()
                    self._workers.add(worker)
                    return worker
                why = self._ended
            except OSError as error:
                why = f"no worker could be started: {error}"
        self.kill(why)
        raise WorkersLost(why, where="--engine local", hint="the same command resumes from the finished stages")

    def _reap(self, worker: subprocess.Popen[bytes]) -> str:
        """End a worker, and return how it ended."""
        worker.kill()
        assert worker.stdin is not None and worker.stdout is not None
        with suppress(OSError):  # closing flushes a request that the worker did not read
            worker.stdin.close()
        worker.stdout.close()
        code = worker.wait()
        with self._lock:
            self._workers.discard(worker)
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _start_worker() -> subprocess.Popen[bytes]:
    path = os.pathsep.join(place or str(Path.cwd()) for place in sys.path)
    return subprocess.Popen(
        [sys.executable, "-P", "-c", f"from {__name__} import worker_main; worker_main()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | WORKER_VARIABLES | {"PYTHONPATH": path},
        process_group=None if os.name == "nt" else 0,
    )


def _ask(worker: subprocess.Popen[bytes], request: Any) -> tuple[Any, str | None]:
    assert worker.stdin is not None and worker.stdout is not None
    pickle.dump(request, worker.stdin)
    worker.stdin.flush()
    answer: tuple[Any, str | None] = pickle.load(worker.stdout)
    return answer


class _BlockPandas(MetaPathFinder):
    """Hide pandas from pyarrow, which would import it (0.35 s) to check whether a list is a pandas object."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError("workers of llmkit load no pandas", name=name)


def worker_main() -> NoReturn:
    """Run the loop of a worker: tasks from standard input, results to standard output; other output goes to stderr."""
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.meta_path.insert(0, _BlockPandas())
    tasks: SimpleQueue[Any] = SimpleQueue()
    threading.Thread(target=_read_tasks, args=(sys.stdin.buffer, tasks), daemon=True).start()
    while True:
        function, task = tasks.get()
        try:
            answer = pickle.dumps((function(task), None))
        except BaseException:  # a Rust panic is not an Exception
            answer = pickle.dumps((None, traceback.format_exc()))
        with suppress(BrokenPipeError):  # the caller has exited
            results.write(answer)
            results.flush()


def _read_tasks(source: BinaryIO, tasks: SimpleQueue[Any]) -> NoReturn:
    """Read ahead, so the worker notices the end of its caller even during a task."""
    try:
        while True:
            tasks.put(pickle.load(source))
    except (EOFError, pickle.UnpicklingError):
        os._exit(0)
    except BaseException:  # the worker would wait forever
        traceback.print_exc()
        os._exit(1)
