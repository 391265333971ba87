"""A signal while a library works outside of Python is seen by a thread, which ends the process at the second one."""

import signal
import subprocess
import sys
import threading

import pytest

from llmkit.runs.stopping import defer_signals

WORK = """
import hashlib, os, signal, sys, threading, time
from llmkit.runs import stopping
stopping.SAME_SIGNAL_SECONDS = 0.05
came = []
signal.signal(signal.SIGTERM, lambda number, _: came.append(number))
def send():
    for _ in range(int(sys.argv[1])):
        time.sleep(0.15)
        os.kill(os.getpid(), signal.SIGTERM)
with stopping.defer_signals("the table is written"):
    threading.Thread(target=send, daemon=True).start()
    hashlib.pbkdf2_hmac("sha256", b"", b"", int(sys.argv[2]))  # other threads run, Python's handlers do not
print("done", len(came))
"""


def run_work(n_signals: int) -> tuple[int, str, str]:
    command = [sys.executable, "-c", WORK, str(n_signals), "2000000"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_first_signal_is_said_and_obeyed_when_the_library_is_done_and_the_second_leaves_at_once() -> None:
    code, out, err = run_work(1)
    assert (code, out) == (0, "done 1\n")
    assert err == "SIGTERM: stopping when the table is written; once more to leave at once\n"
    code, out, err = run_work(2)
    assert (code, out) == (128 + signal.SIGTERM, "")


def test_handlers_are_as_before_and_no_thread_is_left() -> None:
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


def test_error_in_the_block_comes_out_and_the_watch_ends() -> None:
    n_threads = threading.active_count()
    with pytest.raises(ZeroDivisionError), defer_signals("it is done"):
        raise ZeroDivisionError
    assert threading.active_count() == n_threads
