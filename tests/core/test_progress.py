"""The progress of long commands, on a terminal and in a file."""

import io
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from llmkit.core import console, progress
from llmkit.core.progress import ProgressBar, TrainingProgress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    @property
    def lines(self) -> list[str]:
        """What was written, without colours, one entry per drawing of the bars."""
        return re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", self.getvalue()))


@contextmanager
def use_terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """A terminal as stderr; afterwards the display must be stopped, with stderr given back by rich."""
    with monkeypatch.context() as patched:
        patched.setenv("COLUMNS", "100")
        patched.setattr(sys, "stderr", terminal := Terminal())
        yield terminal
        assert progress._display._progress is None
        assert sys.stderr is terminal


def step(number: int, seconds: float) -> dict[str, Any]:
    rates = {"learning_rate": 1e-3, "tokens_per_second": 12_345.6, "mfu": 0.314}
    return {"kind": "train", "step": number, "loss": 2.5, "seconds": seconds, **rates}


def make_line(n_steps: int = 100) -> TrainingProgress:
    return TrainingProgress(n_steps, lambda record: f"{record['bits']} bits")


def test_eta_follows_the_speed_since_the_first_record(capsys: pytest.CaptureFixture[str]) -> None:
    line = make_line()
    line.show(step(10, 100.0))  # compiled, loaded: no measure of the others
    line.show(step(20, 105.0))
    line.n_steps = 100_020
    line.show(step(20, 105.0))
    first, second, third = capsys.readouterr().err.splitlines()
    assert first == "step     10/100 | loss 2.5000 | lr 1.00e-03 | 12,346 tokens/s | mfu 31%"
    assert second.endswith(" | eta 00:40")
    assert third.endswith(" | eta 13:53:20")


def test_progress_line_keeps_the_last_evaluation(capsys: pytest.CaptureFixture[str]) -> None:
    line = make_line()
    line.show({"kind": "eval", "step": 5, "loss": 3.0, "bits": 1.5})
    line.show({"kind": "sample", "step": 5, "text": "not shown"})
    line.show(step(10, 1.0))
    evaluated, trained = capsys.readouterr().err.splitlines()
    assert evaluated == "step      5/100 | held-out 1.5 bits, loss 3.0000"
    assert "loss 2.5000 | held-out 1.5 bits | lr" in trained


def test_terminal_keeps_evaluations_above_the_bar_and_removes_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    with use_terminal(monkeypatch) as terminal:
        line = make_line()
        line.show(step(1, 1.0))
        line.show({"kind": "eval", "step": 1, "loss": 3.0, "bits": 1.5})
        console.info("said in between [red]红楼梦")
        line.show(step(2, 2.0))
        line.close()
        line.close()  # an error on the way may close it before
        lines = terminal.lines
        assert "step      1/100 | held-out 1.5 bits, loss 3.0000" in lines and "said in between [red]红楼梦" in lines
        assert any("step 2/100 | loss 2.5000 | 12,346 tokens/s | mfu 31% | eta 01:38" in each for each in lines)
        assert terminal.getvalue().rstrip("\r").endswith("\x1b[2K"), "the shell's prompt begins on an empty line"


def test_terminal_stays_usable_after_the_process_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    with use_terminal(monkeypatch) as terminal:
        line = make_line()
        line.show(step(1, 1.0))
        assert "\x1b[?25l" not in terminal.getvalue(), "the cursor is never hidden"
        line.close()


def test_no_color_draws_without_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    with use_terminal(monkeypatch) as terminal:
        monkeypatch.setenv("NO_COLOR", "1")
        monkeypatch.setenv("TERM", "xterm-256color")
        line = make_line()
        line.show(step(1, 1.0))
        line.close()
        assert not re.search(r"\x1b\[[0-9;]*(3|9)[0-9]m", terminal.getvalue())


def test_progress_lines_come_every_ten_seconds_in_a_file_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr(progress, "time", SimpleNamespace(perf_counter=lambda: now))
    with ProgressBar("scoring", "rows", log=True) as bar:
        for now in (4.0, 9.9, 10.0, 15.0, 20.5):  # noqa: B007 - the clock
            bar.add(100)
    assert capsys.readouterr().err.splitlines() == ["300 rows, 30 rows/s", "500 rows, 24 rows/s"]
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    now = 0.0
    with ProgressBar("scoring", "rows", 1000, log=True) as bar:
        now = 60.0
        bar.add(100)
    assert any(line.rstrip().endswith("100/1k rows, 2 rows/s") for line in terminal.lines)
    assert "rows/s\n" not in terminal.getvalue()


def test_bar_without_log_is_shown_only_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBar("reading", "bytes") as bar:
        bar.add(10**9)
        assert not bar.is_shown
    assert capsys.readouterr().err == ""


def test_bar_within_a_bar_is_a_line_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    with use_terminal(monkeypatch) as terminal:
        with ProgressBar("reading", "shards", 2), ProgressBar("\x1b[2Jtokenizing", "bytes") as bar:
            assert bar.is_shown
            monkeypatch.setattr(progress, "REFRESH_SECONDS", 0)
            bar._next = 0
            bar.add(1_230_000)
        assert any(line.startswith("reading") for line in terminal.lines)
        assert any("tokenizing" in line and "1.23M bytes" in line for line in terminal.lines)
        monkeypatch.setattr(ProgressBar, "is_hidden", True)
        with ProgressBar("reading", "shards", 2) as bar:
            assert not bar.is_shown
