"""What a long command shows while it works, on a terminal and in a file."""

import io
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from llmkit.core import progress
from llmkit.core.progress import Meter, RowLine, TrainingLine


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def step(number: int, seconds: float) -> dict[str, Any]:
    rates = {"learning_rate": 1e-3, "tokens_per_second": 12_345.6, "mfu": 0.314}
    return {"kind": "train", "step": number, "loss": 2.5, "seconds": seconds, **rates}


def make_line(n_steps: int = 100) -> TrainingLine:
    return TrainingLine(n_steps, lambda record: f"{record['bits']} bits")


def test_time_that_is_left_follows_the_speed_since_the_first_line(capsys: pytest.CaptureFixture[str]) -> None:
    line = make_line()
    line.show(step(10, 100.0))  # compiled, loaded: no measure of the others
    line.show(step(20, 105.0))
    line.n_steps = 100_020
    line.show(step(20, 105.0))
    first, second, third = capsys.readouterr().err.splitlines()
    assert first == "step     10/100 | loss 2.5000 | lr 1.00e-03 | 12,346 tokens/s | mfu 31%"
    assert second.endswith(" | eta 00:40")
    assert third.endswith(" | eta 13:53:20")


def test_last_held_out_figure_stays_in_every_line_after_it(capsys: pytest.CaptureFixture[str]) -> None:
    line = make_line()
    line.show({"kind": "eval", "step": 5, "loss": 3.0, "bits": 1.5})
    line.show({"kind": "sample", "step": 5, "text": "not shown"})
    line.show(step(10, 1.0))
    evaluated, trained = capsys.readouterr().err.splitlines()
    assert evaluated == "step      5/100 | held-out 1.5 bits, loss 3.0000"
    assert "loss 2.5000 | held-out 1.5 bits | lr" in trained


def test_terminal_keeps_evaluations_and_overwrites_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    line = make_line()
    line.show(step(1, 1.0))
    line.show({"kind": "eval", "step": 1, "loss": 3.0, "bits": 1.5})
    line.show(step(2, 2.0))
    line.close()
    kept, last = terminal.getvalue().split("\n")
    assert [part.split("|")[0].strip() for part in kept.split("\r\033[K")] == ["", "step      1/100", "step      1/100"]
    assert kept.endswith("loss 3.0000")
    assert last.endswith("\r\033[K"), "the prompt of the shell begins on an empty line"


def test_rows_are_counted_aloud_every_ten_seconds_in_a_file_and_never_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr(progress, "time", SimpleNamespace(perf_counter=lambda: now))
    with RowLine(1000) as line:
        for now in (4.0, 9.9, 10.0, 15.0, 20.5):  # noqa: B007 - the clock
            line.add(100)
    assert capsys.readouterr().err.splitlines() == ["300 rows, 30 rows/s", "500 rows, 24 rows/s"]
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    now = 0.0
    with RowLine(1000) as line:
        now = 60.0
        line.add(100)
    assert "rows/s\n" not in terminal.getvalue()


def test_bar_of_bytes_is_shown_on_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Meter("reading") as meter:
        meter.add(10**9)
        assert not meter.is_shown
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with Meter("reading") as meter:
        assert meter.is_shown
    assert "reading" in terminal.getvalue()
