"""The first Ctrl-C or SIGTERM is recorded, the second ends the process; the tests send real signals.

A thread receives signals during a library call, and ends the process at the second one.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from llmkit.core import process
from llmkit.core.process import (
    SIGNALS,
    EvaluationAborted,
    StopRequest,
    catch_signals,
    combine_votes,
    defer_signals,
    handled_signals,
)


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
def test_first_signal_is_recorded_and_the_work_continues(
    outer: list[int], capsys: pytest.CaptureFixture[str], number: int
) -> None:
    with catch_signals() as request:
        assert request.number is None
        send(number)
        assert request.number == number
    assert outer == []
    assert f"{signal.Signals(number).name}: finishing this step" in capsys.readouterr().err


def test_second_signal_reaches_the_previous_handlers_but_an_echo_does_not(
    outer: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "SAME_SIGNAL_SECONDS", 3600.0)
    with catch_signals() as request:
        send(signal.SIGTERM)
        send(signal.SIGTERM)
        assert outer == [], "timeout sends one signal to the process and to its group"
        monkeypatch.setattr(process, "SAME_SIGNAL_SECONDS", 0.0)
        send(signal.SIGINT)
        assert outer == [signal.SIGINT]
        assert request.number == signal.SIGTERM


def test_handlers_are_restored_after_the_block_even_after_an_error(outer: list[int]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ZeroDivisionError), catch_signals():
        assert signal.getsignal(signal.SIGTERM) is not before
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGTERM) is before
    send(signal.SIGTERM)
    assert outer == [signal.SIGTERM]


def test_only_abortable_work_is_left_at_once(outer: list[int]) -> None:
    done = []
    with catch_signals() as request:
        with request.abortable():
            done.append("an evaluation before")
        with pytest.raises(EvaluationAborted), request.abortable():
            send(signal.SIGINT)
            done.append("never")
        done.append("the step's end")
        with pytest.raises(EvaluationAborted), request.abortable():
            done.append("never begun")
    assert done == ["an evaluation before", "the step's end"]
    assert not issubclass(EvaluationAborted, Exception)


def test_all_ranks_stop_for_the_signal_of_any_rank() -> None:
    votes = {None: [0, 0, 0], signal.SIGINT: [1, 0, 0], signal.SIGHUP: [0, 1, 0], signal.SIGTERM: [0, 0, 1]}
    assert {number: StopRequest(number).as_votes() for number in votes} == votes
    assert combine_votes([0, 0, 0]) is None
    assert combine_votes([3, 0, 0]) == signal.SIGINT
    assert combine_votes([1, 2, 0]) == signal.SIGHUP
    assert combine_votes([2, 1, 1]) == signal.SIGTERM, "the scheduler decides, not the user"


def test_hangup_that_the_parent_ignores_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    assert handled_signals() == SIGNALS
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with catch_signals() as request:
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.SIGHUP not in handled_signals() and request.number is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_thread_without_handlers_gets_an_empty_request() -> None:
    found: list[int | None] = []

    def work() -> None:
        with catch_signals() as request:
            found.append(request.number)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [None]


WORK = """
import ctypes, os, signal, sys, threading, time
from llmkit.core import console, process
process.SAME_SIGNAL_SECONDS = 0.05
libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(256)
libc.pthread_mutex_init(mutex, None)
libc.pthread_mutex_lock(mutex)
came, reported, info = [], threading.Event(), console.info
signal.signal(signal.SIGTERM, lambda number, _: came.append(number))
def report(line):
    info(line)
    reported.set()
console.info = report
def send():
    os.kill(os.getpid(), signal.SIGTERM)
    reported.wait(60)
    if sys.argv[1] == "2":
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    libc.pthread_mutex_unlock(mutex)
with process.defer_signals("the table is written"):
    threading.Thread(target=send, daemon=True).start()
    libc.pthread_mutex_lock(mutex)  # other threads run, Python's handlers do not
print("done", len(came))
"""


def run_work(n_signals: int) -> tuple[int, str, str]:
    command = [sys.executable, "-c", WORK, str(n_signals)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_first_signal_is_reported_and_deferred_and_the_second_exits_at_once() -> None:
    code, out, err = run_work(1)
    assert (code, out) == (0, "done 1\n")
    assert err == "SIGTERM: stopping when the table is written; repeat the signal to stop immediately\n"
    code, out, err = run_work(2)
    assert (code, out) == (128 + signal.SIGTERM, "")


def test_handlers_are_restored_and_the_thread_ends() -> None:
    before = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(before)
    n_threads = threading.active_count()
    with defer_signals("it is done"):
        assert threading.active_count() == n_threads + 1
    assert threading.active_count() == n_threads
    assert signal.set_wakeup_fd(before) == before


def test_block_in_another_thread_is_not_watched() -> None:
    found: list[int] = []

    def work() -> None:
        n_threads = threading.active_count()
        with defer_signals("it is done"):
            found.append(threading.active_count() - n_threads)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [0]


def test_error_in_the_block_is_raised_and_the_thread_ends() -> None:
    n_threads = threading.active_count()
    with pytest.raises(ZeroDivisionError), defer_signals("it is done"):
        raise ZeroDivisionError
    assert threading.active_count() == n_threads


WORKER = """
import multiprocessing, os, time
from llmkit.core.process import init_worker

def work():
    init_worker(0)
    os.write(1, b"ready\\n")  # in one piece, because both processes write to the pipe
    time.sleep(600)

worker = multiprocessing.get_context("fork").Process(target=work, daemon=True)
worker.start()
os.write(1, b"started\\n")
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent died")
def test_data_worker_ends_when_the_trainer_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", WORKER], stdout=subprocess.PIPE, text=True) as trainer:
        assert trainer.stdout is not None
        try:
            assert "ready" in {trainer.stdout.readline().strip() for _ in range(2)}
        finally:
            trainer.kill()
        assert not trainer.stdout.read()  # ends when the worker, which has the pipe too, has ended
