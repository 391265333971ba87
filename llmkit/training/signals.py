"""Ctrl-C and SIGTERM in a long loop: the first is noted and obeyed at the next step's end, the second at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from llmkit.errors import say


def leave_signals_to_the_parent(worker_id: int) -> None:
    """For data workers: Ctrl-C reaches them too, but the trainer alone decides when the work ends."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def catch_signals() -> Iterator[list[int]]:
    """A list that the first SIGINT or SIGTERM is appended to; the old handlers come back with it."""
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received  # Python lets only the main thread set handlers
        return
    old = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        say(f"{signal.Signals(number).name}: finishing this step and saving; once more to leave at once")
        for each, handler in old.items():
            signal.signal(each, handler)

    for number in old:
        signal.signal(number, note)
    try:
        yield received
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
