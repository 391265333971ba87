"""The first Ctrl-C or SIGTERM is noted, the second obeyed; signals here are real ones, to this process."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from llmkit.core import signals
from llmkit.core.signals import Abandoned, StopRequest, agree, catch_signals


@pytest.fixture
def outer() -> Iterator[list[int]]:
    """Signals that reach the handlers from outside of the block."""
    came: list[int] = []
    old = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in old:
        signal.signal(number, lambda number, _: came.append(number))
    yield came
    for number, handler in old.items():
        signal.signal(number, handler)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_is_noted_and_the_work_goes_on(
    outer: list[int], capsys: pytest.CaptureFixture[str], number: int
) -> None:
    with catch_signals() as request:
        assert request.number is None
        send(number)
        assert request.number == number
    assert outer == []
    assert f"{signal.Signals(number).name}: finishing this step" in capsys.readouterr().err


def test_second_signal_goes_to_the_handlers_from_before_and_an_echo_of_the_first_does_not(
    outer: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with catch_signals() as request:
        send(signal.SIGTERM)
        send(signal.SIGTERM)
        assert outer == [], "timeout sends one signal to the process and to its group"
        monkeypatch.setattr(signals, "SAME_SIGNAL_SECONDS", 0.0)
        send(signal.SIGINT)
        assert outer == [signal.SIGINT]
        assert request.number == signal.SIGTERM


def test_handlers_are_back_after_the_block_even_after_an_error(outer: list[int]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ZeroDivisionError), catch_signals():
        assert signal.getsignal(signal.SIGTERM) is not before
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGTERM) is before
    send(signal.SIGTERM)
    assert outer == [signal.SIGTERM]


def test_work_that_can_be_done_again_is_left_at_once_and_other_work_is_not(outer: list[int]) -> None:
    done = []
    with catch_signals() as request:
        with request.may_abandon():
            done.append("an evaluation before")
        with pytest.raises(Abandoned), request.may_abandon():
            send(signal.SIGINT)
            done.append("never")
        done.append("the step's end")
        with pytest.raises(Abandoned), request.may_abandon():
            done.append("never begun")
    assert done == ["an evaluation before", "the step's end"]
    assert not issubclass(Abandoned, Exception)


def test_ranks_stop_for_one_signal_whichever_of_them_got_it() -> None:
    votes = {None: [0, 0], signal.SIGINT: [1, 0], signal.SIGTERM: [0, 1]}
    assert {number: StopRequest(number).as_votes() for number in votes} == votes
    assert agree([0, 0]) is None
    assert agree([3, 0]) == signal.SIGINT
    assert agree([0, 1]) == signal.SIGTERM
    assert agree([2, 1]) == signal.SIGTERM, "the scheduler's word beats the user's"


def test_thread_that_may_set_no_handler_gets_a_request_that_never_comes() -> None:
    found: list[int | None] = []

    def work() -> None:
        with catch_signals() as request:
            found.append(request.number)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [None]
