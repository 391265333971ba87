"""The window of a log line: means of sums over counts, to be copied, put back and restored."""

from types import SimpleNamespace

import pytest
import torch

from llmkit.training import loss_window
from llmkit.training.loss_sum import sum_wide
from llmkit.training.loss_window import LossWindow


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """`now` seconds."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(loss_window, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    return clock


def add(window: LossWindow, loss: float, count: int, n_tokens: int = 0, waited: float = 0.0, name: str = "lm") -> None:
    window.add_sums({name: torch.tensor(loss)})
    window.add_step({name: count}, n_tokens, waited)


def test_mean_is_over_all_labels_and_not_over_batches() -> None:
    window = LossWindow()
    add(window, 8.0, 8)
    add(window, 4.0, 2)
    add(window, 3.0, 1, name="nsp")
    logged = window.drain()
    assert (logged["lm"], logged["nsp"], logged["loss"]) == (1.2, 3.0, 4.2)


def test_speed_and_waiting_leave_out_pauses(clock: SimpleNamespace) -> None:
    window = LossWindow()
    add(window, 1.0, 1, n_tokens=1000, waited=0.5)
    clock.now += 5
    window.pause(3.0)
    logged = window.drain()
    assert (logged["tokens_per_second"], logged["data_wait"]) == (500.0, 0.25)
    clock.now += 1
    assert window.drain()["tokens_per_second"] == 0, "the next window begins where this one ended"


def test_steps_that_are_put_back_were_never_there_and_a_copy_does_not_change() -> None:
    window = LossWindow()
    add(window, 2.0, 2, n_tokens=10)
    before = window.copy()
    add(window, float("nan"), 5, n_tokens=99)
    window.put_back(before)
    assert window.n_tokens == 10
    assert window.drain()["loss"] == 1.0


def test_window_goes_on_from_a_checkpoint_as_if_it_had_not_stopped() -> None:
    straight, first, second = LossWindow(), LossWindow(), LossWindow()
    for window in (straight, first):
        add(window, 0.1, 3)
    second.restore({name: value.item() for name, value in first.sums.items()}, first.counts)
    for window in (straight, second):
        add(window, 0.2, 4)
    assert straight.drain()["lm"] == second.drain()["lm"]
    assert first.counts == {"lm": 3}, "its counts are its own"


def test_long_window_loses_no_digits() -> None:
    window = LossWindow()
    for _ in range(1000):
        add(window, 16_777_217.0, 1)  # 2**24 + 1 is no fp32
        window.add_sums({"lm": sum_wide(torch.tensor([1.0]))})
    assert window.sums["lm"].dtype == torch.float64
    assert window.sums["lm"].item() == 1000 * (2**24 + 1)


def test_window_holds_no_graph_and_a_loss_without_labels_is_zero() -> None:
    window = LossWindow()
    window.add_sums({"nsp": torch.zeros((), requires_grad=True) * 2})
    window.add_step({"nsp": 0}, 0, 0.0)
    assert not window.sums["nsp"].requires_grad
    assert window.drain()["nsp"] == 0.0
