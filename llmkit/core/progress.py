"""Progress of long commands: bars on a terminal, a plain line every ten seconds in a file.

The library rich draws the bars; it is imported only if there is a terminal. All bars of the process share one display:
a bar within another one is a line below it, and messages of `console.info` appear above them.
"""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar

from llmkit.core import console

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

REFRESH_SECONDS = 0.1
LINE_SECONDS = 10.0
"""Seconds between two lines in a file."""
_SIZES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


class ProgressBar:
    """Progress of work that is counted in bytes, rows or shards: a bar on a terminal.

    In a file it shows nothing, or with `log` a line every ten seconds.
    """

    is_hidden: ClassVar[bool] = False
    """Set in a process that shares the terminal with other processes."""

    def __init__(self, what: str, unit: str, total: int | None = None, *, log: bool = False) -> None:
        self.what, self.unit, self.total, self.log = what, unit, total, log
        self.n = 0
        self._started = time.perf_counter()
        self._next = self._started + LINE_SECONDS
        self.is_shown = not self.is_hidden and sys.stderr.isatty()
        if self.is_shown:
            self._next = self._started + REFRESH_SECONDS
            self._task = _display.add(what, total)

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.is_shown:
            _display.remove(self._task)

    def add(self, n: int) -> None:
        """Increase the count by `n`. Cheap enough to be called once per document."""
        self.n += n
        now = time.perf_counter()
        if now < self._next:
            return
        rate = self.n / max(now - self._started, 1e-9)
        if self.is_shown:
            self._next = now + REFRESH_SECONDS
            of = "" if self.total is None else f"/{_shorten(self.total)}"
            _display.update(self._task, self.n, f"{_shorten(self.n)}{of} {self.unit}, {_shorten(rate)} {self.unit}/s")
        elif self.log:
            self._next = now + LINE_SECONDS
            console.info(f"{self.n:,} {self.unit}, {rate:,.0f} {self.unit}/s")


class TrainingProgress:
    """The progress of a training run, from the same records as log.jsonl: a bar on a terminal, a line per record in a
    file."""

    def __init__(self, n_steps: int, describe: Callable[[dict[str, Any]], str]) -> None:
        """`describe` summarizes an evaluation in a few words."""
        self.n_steps = n_steps
        self.describe = describe
        self.first: tuple[int, float] | None = None
        self.held_out = ""
        self._is_terminal = sys.stderr.isatty()
        self._task: TaskID | None = None

    def show(self, record: dict[str, Any]) -> None:
        """Show one log record. On a terminal, evaluations stay on the screen and steps move the bar."""
        if record["kind"] == "eval":
            self.held_out = f" | held-out {self.describe(record)}"
            console.info(f"step {record['step']:>6}/{self.n_steps}{self.held_out}, loss {record['loss']:.4f}")
        elif record["kind"] == "train" and self._is_terminal:
            if self._task is None:
                self._task = _display.add("training", self.n_steps)
            parts = [f"step {record['step']:,}/{self.n_steps:,}", f"loss {record['loss']:.4f}", *self._rates(record)]
            _display.update(self._task, record["step"], " | ".join(parts), total=self.n_steps)
        elif record["kind"] == "train":
            rates = [f"lr {record['learning_rate']:.2e}", *self._rates(record)]
            start = f"step {record['step']:>6}/{self.n_steps} | loss {record['loss']:.4f}{self.held_out}"
            console.info(" | ".join([start, *rates]))

    def close(self) -> None:
        """Remove the bar; the shell's prompt then begins on an empty line."""
        if self._task is not None:
            _display.remove(self._task)
            self._task = None

    def _rates(self, record: dict[str, Any]) -> list[str]:
        """Return speed, MFU and the remaining time, by the speed since the first record."""
        step, seconds = record["step"], record["seconds"]
        self.first = self.first or (step, seconds)
        done, spent = step - self.first[0], seconds - self.first[1]
        eta = [f"eta {_clock((self.n_steps - step) * spent / done)}"] if done else []
        return [f"{record['tokens_per_second']:,.0f} tokens/s", f"mfu {record['mfu']:.0%}", *eta]


class _Display:
    """The bars on this process's terminal: started with the first one, stopped with the last."""

    def __init__(self) -> None:
        self._progress: Progress | None = None

    def add(self, what: str, total: int | None) -> "TaskID":
        if self._progress is None:
            self._progress = _start_progress()
        return self._progress.add_task(console.clean_line(what), total=total, status="")

    def update(self, task: "TaskID", completed: float, status: str, *, total: float | None = None) -> None:
        if self._progress is not None:
            self._progress.update(task, completed=completed, status=status, total=total, refresh=True)

    def remove(self, task: "TaskID") -> None:
        if self._progress is None:
            return
        self._progress.remove_task(task)
        if not self._progress.tasks:
            self._progress.stop()
            self._progress = None


_display = _Display()


def _start_progress() -> "Progress":
    """Start bars without a thread and with a visible cursor.

    A thread would not survive a fork, and a hidden cursor would stay hidden after a kill.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    class VisibleCursor(Console):
        def show_cursor(self, show: bool = True) -> bool:
            return False

    progress = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[status]}", markup=False),
        console=VisibleCursor(file=sys.stderr, force_terminal=True, highlight=False),
        auto_refresh=False,
        redirect_stdout=False,  # stdout may be a pipe for rows
        transient=True,
    )
    progress.start()
    return progress


def _shorten(number: float) -> str:
    """Format a number: `512`, `24.0k`, `1.23M`."""
    for size, letter in _SIZES:
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.0f}"


def _clock(seconds: float) -> str:
    return time.strftime("%H:%M:%S" if seconds >= 3600 else "%M:%S", time.gmtime(max(0.0, seconds)))
