"""What a long command shows while it works: one line on a terminal, few lines in a file."""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, ClassVar

from tqdm import tqdm

from llmkit.core import console


class Meter:
    """A bar with MB and MB/s for work whose end is unknown; nothing where stderr is no terminal."""

    is_hidden: ClassVar[bool] = False
    """Set in a process that shares the terminal with others."""

    def __init__(self, what: str) -> None:
        disable = self.is_hidden or None  # None: tqdm looks whether there is a terminal
        self._bar = tqdm(desc=what, unit="B", unit_scale=True, leave=False, disable=disable, file=sys.stderr)

    def __enter__(self) -> "Meter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    @property
    def is_shown(self) -> bool:
        return not self._bar.disable

    def add(self, n_bytes: int) -> None:
        self._bar.update(n_bytes)


class RowLine:
    """How many rows are done and how fast: one line on a terminal, in a file a line every ten seconds."""

    SECONDS = 10.0

    def __init__(self, n_rows: int | None = None) -> None:
        self._bar = tqdm(total=n_rows, unit=" rows", unit_scale=True, leave=False, disable=None, file=sys.stderr)
        self._n = 0
        self._started = self._shown = time.perf_counter()

    def __enter__(self) -> "RowLine":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def add(self, n_rows: int) -> None:
        """So many rows more are done."""
        self._n += n_rows
        self._bar.update(n_rows)
        now = time.perf_counter()
        if self._bar.disable and now - self._shown >= self.SECONDS:
            self._shown = now
            console.info(f"{self._n:,} rows, {self._n / (now - self._started):,.0f} rows/s")


class TrainingLine:
    """The progress line of a training run, made from the same records as log.jsonl."""

    def __init__(self, n_steps: int, describe: Callable[[dict[str, Any]], str]) -> None:
        """`describe` says an evaluation in a few words."""
        self.n_steps = n_steps
        self.describe = describe
        self.first: tuple[int, float] | None = None
        self.held_out = ""
        self._live = sys.stderr.isatty()

    def show(self, record: dict[str, Any]) -> None:
        """Show one log record; evaluations and samples stay on the screen, steps overwrite each other."""
        if record["kind"] == "eval":
            self.held_out = f" | held-out {self.describe(record)}"
            self._write(f"step {record['step']:>6}/{self.n_steps}{self.held_out}, loss {record['loss']:.4f}", stay=True)
        elif record["kind"] == "train":
            self._write(self._format(record), stay=False)

    def close(self) -> None:
        """Leave the terminal on a fresh line."""
        if self._live:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()

    def _format(self, record: dict[str, Any]) -> str:
        step, seconds = record["step"], record["seconds"]
        self.first = self.first or (step, seconds)
        done, spent = step - self.first[0], seconds - self.first[1]
        eta = f" | eta {_clock((self.n_steps - step) * spent / done)}" if done else ""
        return (
            f"step {step:>6}/{self.n_steps} | loss {record['loss']:.4f}{self.held_out}"
            f" | lr {record['learning_rate']:.2e} | {record['tokens_per_second']:,.0f} tokens/s"
            f" | mfu {record['mfu']:.0%}{eta}"
        )

    def _write(self, line: str, *, stay: bool) -> None:
        if self._live:
            sys.stderr.write(f"\r\033[K{line}" + ("\n" if stay else ""))
            sys.stderr.flush()
        else:
            console.info(line)


def _clock(seconds: float) -> str:
    return time.strftime("%H:%M:%S" if seconds >= 3600 else "%M:%S", time.gmtime(max(0.0, seconds)))
