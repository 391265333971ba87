"""SIGINT, SIGTERM and SIGHUP: `catch_signals` for a training loop, `defer_signals` for a long call into a library.

With both, the work reaches a safe end after the first signal, and the second signal ends the process immediately.
"""

import ctypes
import multiprocessing
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType

from llmkit.core import console
from llmkit.core.errors import SAME_SIGNAL_SECONDS

SIGNALS = (signal.SIGINT, *([signal.SIGHUP] if os.name != "nt" else []), signal.SIGTERM)
"""Signals that stop a command in an orderly way."""
_PR_SET_PDEATHSIG = 1


def handled_signals() -> tuple[signal.Signals, ...]:
    """Return SIGNALS without SIGHUP if the parent process ignores it, as `nohup` does."""
    return tuple(
        number
        for number in SIGNALS
        if number in (signal.SIGINT, signal.SIGTERM) or signal.getsignal(number) != signal.SIG_IGN
    )


class EvaluationAborted(BaseException):
    """A signal came during work that can be repeated, such as an evaluation."""


@dataclass(slots=True)
class StopRequest:
    """The first of SIGNALS that was received."""

    number: int | None = None
    _received_at: float = 0.0
    _is_abortable: bool = False

    @contextmanager
    def abortable(self) -> Iterator[None]:
        """Raise EvaluationAborted as soon as a signal comes within the block, or at once if one came before it."""
        if self.number is not None:
            raise EvaluationAborted
        self._is_abortable = True
        try:
            yield
        finally:
            self._is_abortable = False

    def set(self, number: int) -> None:
        """Record the first signal."""
        self.number, self._received_at = number, time.monotonic()

    def abort_if_allowed(self) -> None:
        """Raise EvaluationAborted inside an `abortable` block."""
        if self._is_abortable:
            raise EvaluationAborted

    def as_votes(self) -> list[int]:
        """Return 1 for the received signal and 0 for the others of SIGNALS, for `combine_votes`."""
        return [int(self.number == number) for number in SIGNALS]

    def is_same(self) -> bool:
        """Whether a signal now is the first one again: `timeout` sends it to the process and then to its group."""
        return time.monotonic() - self._received_at < SAME_SIGNAL_SECONDS


def combine_votes(votes: list[int]) -> int | None:
    """Return the signal that any rank received, or None. Ranks receive it at different times and must stop together."""
    by_signal = dict(zip(SIGNALS, votes, strict=True))
    return next((number for number in reversed(SIGNALS) if by_signal[number]), None)


def init_worker(worker_id: int) -> None:
    """Ignore SIGNALS in a data loader worker, and end the worker when the training process dies.

    Workers receive Ctrl-C too, but only the training process decides to stop. torch's own check of the parent can wait
    for ever for a queue that nobody reads.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if multiprocessing.get_start_method() == "forkserver":  # default since Python 3.14; the fork server is the parent
        die_with_parent(None)
    else:
        parent = multiprocessing.parent_process()
        die_with_parent(os.getppid() if parent is None else parent.pid)


def die_with_parent(parent: int | None) -> None:
    """End this process when its parent, the process with this number, dies; Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if parent is not None and os.getppid() != parent:  # the parent died before the call
            os._exit(128 + signal.SIGKILL)


@contextmanager
def catch_signals() -> Iterator[StopRequest]:
    """Record the first of SIGNALS within the block; the second one goes to the previous handlers."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request  # Python allows handlers in the main thread only
        return
    previous = {number: signal.getsignal(number) for number in handled_signals()}

    def handle(number: int, frame: FrameType | None) -> None:
        if request.number is None:
            request.set(number)
            with suppress(OSError, RuntimeError):  # the reader of stderr may have received the signal too
                name = signal.Signals(number).name
                console.info(f"{name}: finishing this step and saving; repeat the signal to stop immediately")
            request.abort_if_allowed()
        elif not request.is_same():
            for each, handler in previous.items():
                signal.signal(each, handler)
            os.kill(os.getpid(), number)

    for number in previous:
        signal.signal(number, handle)
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def defer_signals(until: str) -> Iterator[None]:
    """Log the first signal within the block and handle it when the block ends; exit at the second signal.

    Python runs signal handlers between its own instructions, so a long call into a library delays them. A thread logs
    the signal during the call. `until` completes "stopping when ...".
    """
    if os.name == "nt" or threading.current_thread() is not threading.main_thread():
        yield  # a wakeup file descriptor needs POSIX and the main thread
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    thread = threading.Thread(target=_log_signals, args=(reader, until), daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writer)  # the thread reads the end of the pipe
        thread.join()
        os.close(reader)


def _log_signals(reader: int, until: str) -> None:
    """Log the first signal: Python writes the number of each signal to the pipe, as one byte."""
    n_received = 0
    while byte := os.read(reader, 1):
        if byte[0] not in SIGNALS:
            continue
        n_received += 1
        if n_received == 2:
            os._exit(128 + byte[0])
        while select.select([reader], [], [], SAME_SIGNAL_SECONDS)[0]:
            if not os.read(reader, 1):
                return  # the block has ended, and Python handles the signal
        console.info(f"{signal.Signals(byte[0]).name}: stopping when {until}; repeat the signal to stop immediately")
