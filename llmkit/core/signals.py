"""Ctrl-C and SIGTERM in a long loop: the first is noted and obeyed at the next step's end, the second at once."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType

from llmkit.core import console
from llmkit.core.errors import SAME_SIGNAL_SECONDS


class Abandoned(BaseException):
    """A signal came while work was done that may be thrown away, such as an evaluation."""


@dataclass(slots=True)
class StopRequest:
    """The first SIGINT or SIGTERM, once it came."""

    number: int | None = None
    _came: float = 0.0
    _abandon: bool = False

    @contextmanager
    def may_abandon(self) -> Iterator[None]:
        """Work that a signal ends at once, with `Abandoned`, because it can be done again from the start."""
        if self.number is not None:
            raise Abandoned
        self._abandon = True
        try:
            yield
        finally:
            self._abandon = False

    def note(self, number: int) -> None:
        """A first signal has come."""
        self.number, self._came = number, time.monotonic()

    def leave_what_may_be_left(self) -> None:
        """Ends what `may_abandon` is around."""
        if self._abandon:
            raise Abandoned

    def as_votes(self) -> list[int]:
        """Whether SIGINT came, and whether SIGTERM did, to be added up over ranks; `agree` reads the sums."""
        return [int(self.number == number) for number in (signal.SIGINT, signal.SIGTERM)]

    def is_same(self) -> bool:
        """Whether a signal that comes now is the first one once more: some tools send it to process and group."""
        return time.monotonic() - self._came < SAME_SIGNAL_SECONDS


def agree(votes: list[int]) -> int | None:
    """The signal that came to any rank. A signal reaches ranks at different times, but they must stop at one step."""
    n_interrupts, n_terminations = votes
    return signal.SIGTERM if n_terminations else signal.SIGINT if n_interrupts else None


def leave_signals_to_the_parent(worker_id: int) -> None:
    """For data workers: Ctrl-C reaches them too, but the trainer alone decides when the work ends."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def catch_signals() -> Iterator[StopRequest]:
    """What becomes of SIGINT and SIGTERM within the block; to the second the old handlers answer."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request  # Python lets only the main thread set handlers
        return
    old = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: FrameType | None) -> None:
        if request.number is None:
            request.note(number)
            with suppress(OSError, RuntimeError):  # whoever reads what we say may have got the signal too
                console.info(
                    f"{signal.Signals(number).name}: finishing this step and saving; once more to leave at once"
                )
            request.leave_what_may_be_left()
        elif not request.is_same():
            for each, handler in old.items():
                signal.signal(each, handler)
            os.kill(os.getpid(), number)

    for number in old:
        signal.signal(number, note)
    try:
        yield request
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
