"""Run llmkit's command line on one or several ranks, as a launcher would, in forks of a process that has torch."""

import itertools
import multiprocessing
import os
import signal
import socket
import sys
import time
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sum_order import SumOrder

SECONDS = 240
REORDER_SUMS = False
"""See sum_order.py."""
# What main() says to the libraries they read when they are imported, which here is before it.
os.environ |= {"TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
_numbers = itertools.count()
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["llmkit.cli.app", "llmkit.runs.train", "llmkit.runs.train", "tiny"])


@dataclass(frozen=True, slots=True)
class Ended:
    """How each rank ended, and what each wrote to stdout and stderr."""

    codes: list[int | None]
    out: list[str]
    err: list[str]


@dataclass(frozen=True, slots=True)
class Fault:
    """Happens on one rank at the beginning of one optimizer step, counted from 1."""

    rank: int
    step: int
    signal_number: int | None = None
    exit_code: int | None = None
    twice_within: float | None = None
    """The signal is sent twice; both count as one if they are at most this number of seconds apart."""


INTERRUPT = Fault(rank=0, step=3, signal_number=signal.SIGINT)
"""Ctrl-C in the third step."""


def run_command(arguments: list[str], folder: Path, fault: Fault | None = None) -> tuple[int | None, str, str]:
    """`llmkit ARGUMENTS` in one process with as many threads as this one; its exit code, stdout and stderr."""
    ended = run_ranks(1, arguments, folder, fault, OMP_NUM_THREADS=str(torch.get_num_threads()))
    return ended.codes[0], ended.out[0], ended.err[0]


def run_ranks(
    n_ranks: int, arguments: list[str], folder: Path, fault: Fault | None = None, **environment: str
) -> Ended:
    """`llmkit ARGUMENTS` on that many ranks with gloo; all are ended where one has failed for a minute."""
    folder.mkdir(parents=True, exist_ok=True)
    shared = {
        "WORLD_SIZE": str(n_ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()),
        "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", **environment,
    }  # fmt: skip
    workers = [
        _context.Process(
            target=_work,
            args=({**shared, "RANK": str(r), "LOCAL_RANK": str(r)}, arguments, folder, fault, REORDER_SUMS),
        )
        for r in range(n_ranks)
    ]
    for worker in workers:
        worker.start()
    deadline = time.monotonic() + SECONDS
    while any(worker.is_alive() for worker in workers):
        failed = any(worker.exitcode not in (None, 0) for worker in workers)
        deadline = min(deadline, time.monotonic() + 60) if failed else deadline
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    for worker in workers:
        worker.kill()
        worker.join()
    texts = {name: [(folder / f"{r}.{name}").read_text() for r in range(n_ranks)] for name in ("out", "err")}
    return Ended([worker.exitcode for worker in workers], **texts)


def _work(
    environment: dict[str, str], arguments: list[str], folder: Path, fault: Fault | None, reorder_sums: bool
) -> None:
    rank = int(environment["RANK"])
    os.environ.update(environment)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(folder / f"{rank}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    from llmkit.__main__ import main

    torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))
    if fault is not None and fault.rank == rank:
        _arm(fault)
    sys.argv = ["llmkit", *arguments]
    with SumOrder() if reorder_sums else nullcontext():
        main()


def _arm(fault: Fault) -> None:
    from llmkit.core import process
    from llmkit.training.loop import TrainingLoop

    if fault.twice_within is not None:
        process.SAME_SIGNAL_SECONDS = fault.twice_within
    step = TrainingLoop.train_step

    def faulty(self: TrainingLoop, *args: Any, **kwargs: Any) -> Any:
        if self.step == fault.step - 1:
            if fault.exit_code is not None:
                os._exit(fault.exit_code)
            for _ in range(1 if fault.twice_within is None else 2):
                os.kill(os.getpid(), fault.signal_number or signal.SIGTERM)
        return step(self, *args, **kwargs)

    TrainingLoop.train_step = faulty  # type: ignore[method-assign, assignment]  # a fault to try


def _free_port() -> int:
    """From a range of each process's own, and below those that the system hands out: nobody takes it before rank 0."""
    for number in _numbers:
        port = 10_000 + (os.getpid() * 61 + number) % 20_000
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("numbers have no end")
