"""Ctrl-C and SIGTERM while a library works outside of Python for long.

Python runs a handler between two of its own instructions, so the signal is obeyed when the library is done. Until then
a thread sees it: it says so, and leaves at once when a second one comes.
"""

import os
import select
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from llmkit.core import console
from llmkit.core.errors import SAME_SIGNAL_SECONDS


@contextmanager
def defer_signals(until: str) -> Iterator[None]:
    """Say at the first signal in the block that it is obeyed `until` then, and leave the process at the second."""
    if os.name == "nt" or threading.current_thread() is not threading.main_thread():
        yield  # where signals cannot be watched in this way
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    thread = threading.Thread(target=_watch, args=(reader, until), daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writer)  # the thread reads the end of the pipe
        thread.join()
        os.close(reader)


def _watch(reader: int, until: str) -> None:
    """A byte comes for each signal, which is its number."""
    received = 0
    while byte := os.read(reader, 1):
        if byte[0] not in (signal.SIGINT, signal.SIGTERM):
            continue
        received += 1
        if received == 2:
            os._exit(128 + byte[0])
        while select.select([reader], [], [], SAME_SIGNAL_SECONDS)[0]:
            if not os.read(reader, 1):
                return  # Python was there to obey it
        console.info(f"{signal.Signals(byte[0]).name}: stopping when {until}; once more to leave at once")
