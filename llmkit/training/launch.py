"""Start a command on several processes with torch.distributed's launcher, and report which rank ended the job.

When a process dies, the launcher ends all other processes, on all machines.
"""

import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence

import torch
from torch.distributed import DistError
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous import RendezvousClosedError, RendezvousError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from llmkit.core import console
from llmkit.core.console import count, first_line
from llmkit.core.distributed import LAUNCHER, RUN_ID
from llmkit.core.errors import EnvironmentFault, TrainingFailed, UsageError
from llmkit.core.machine import count_cores, thread_count
from llmkit.core.process import SIGNALS, handled_signals

REPORTED_EXIT_CODES = (1, 2, 3, 4, 5, 6, *(128 + number for number in SIGNALS))
"""Exit codes of a process that has reported its error itself."""
MAX_PROCESSES_PER_CORE = 4
"""More processes per core are refused: they are not faster, and each takes memory."""
MIN_CHECKED_PROCESSES = 16
"""This number of processes is allowed even on machines with few cores, for tests."""
SAVE_SECONDS = 120
"""Seconds that ranks have to save after a signal, unless the user set TORCH_ELASTIC_SHUTDOWN_TIMEOUT."""


def launch(arguments: Sequence[str], nproc: int | None, nnodes: int = 1, rdzv_endpoint: str | None = None) -> int:
    """Run `python -m llmkit` with `arguments` on `nproc` processes on each of `nnodes` machines.

    Returns the exit code of the rank that ended the job. `rdzv_endpoint` (host:port) is the rendezvous, the same value
    on all machines; the host is one of the machines.

    Raises:
        EnvironmentFault: the machines, or the processes of this machine, could not connect.
    """
    n_processes = count_processes(nproc)
    _divide_cores(n_processes)
    logging.disable()  # hides messages of torch's launcher: errors are reported by the ranks or here
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(SAVE_SECONDS))
    os.environ[LAUNCHER] = str(os.getpid())
    own, host = _find_addresses(rdzv_endpoint) if rdzv_endpoint else ("127.0.0.1", "127.0.0.1")
    config = LaunchConfig(
        min_nodes=nnodes,
        max_nodes=nnodes,
        nproc_per_node=n_processes,
        run_id=RUN_ID,
        rdzv_backend="c10d",
        rdzv_endpoint=rdzv_endpoint or "127.0.0.1:0",
        rdzv_configs={} if own is None else {"is_host": own == host},
        local_addr=own,
        max_restarts=0,
        signals_to_handle=",".join(number.name for number in (*handled_signals(), signal.SIGQUIT)),
    )
    try:
        elastic_launch(config, sys.executable)("-m", "llmkit", *arguments)
    except ChildFailedError as error:
        return _report_failure(error)
    except SignalException as error:
        return 128 + int(error.sigval)
    except (RendezvousError, DistError, ConnectionError, TimeoutError) as error:
        raise _rendezvous_error(error, rdzv_endpoint) from error
    return 0


def count_processes(nproc: int | None) -> int:
    """Return `nproc`, or by default one process per GPU; without a GPU a single process that uses all cores.

    Raises:
        UsageError: more processes than GPUs, or many more than cores.
    """
    n_gpus = torch.cuda.device_count()
    if nproc is None:
        return max(1, n_gpus)
    if n_gpus and nproc > n_gpus:
        raise UsageError(
            f"{nproc} processes need {nproc} GPUs, but this machine has {n_gpus}", where="--nproc", hint="--nproc auto"
        )
    n_cores = count_cores()
    if nproc > max(MIN_CHECKED_PROCESSES, MAX_PROCESSES_PER_CORE * n_cores):
        what = f"{nproc:,} processes are too many for the {count(n_cores, 'core')} of this machine"
        hint = f"set --nproc to {n_cores} or less; a single process uses all cores, too"
        raise UsageError(what, where="--nproc", hint=hint)
    return nproc


def _divide_cores(n_processes: int) -> None:
    """Divide the cores among the processes, unless the user has set the number of threads."""
    if not thread_count().source.endswith("_NUM_THREADS"):
        os.environ["OMP_NUM_THREADS"] = str(max(1, count_cores() // n_processes))


def _find_addresses(endpoint: str) -> tuple[str | None, str | None]:
    """Return this machine's address as seen from the endpoint, and the endpoint's address.

    Both are None if the endpoint's name is unknown. torch would use the machine's own name, which other machines may
    not know, and which may refer to the loopback.
    """
    host, _, port = endpoint.rpartition(":")
    try:
        family, _, _, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(address)  # sends nothing
            return str(probe.getsockname()[0]), str(address[0])
    except OSError:
        return None, None


def _rendezvous_error(error: Exception, endpoint: str | None) -> EnvironmentFault:
    """Return the error for a failed rendezvous. Without an endpoint all processes connect on 127.0.0.1."""
    if endpoint is None:
        hint = "they connect on 127.0.0.1: check whether a sandbox forbids listening and connecting there"
        return EnvironmentFault(f"the processes could not connect: {first_line(error)}", where="--nproc", hint=hint)
    where = f"--rdzv-endpoint {endpoint}"
    if isinstance(error, RendezvousClosedError):  # it has no message
        hint = "see that machine's log, then repeat the command on all machines, with --resume if a checkpoint exists"
        return EnvironmentFault("the job had ended on another machine before this one joined", where=where, hint=hint)
    hint = "check that the address is right, the port is open, and the command runs on every machine"
    return EnvironmentFault(f"the machines could not connect: {first_line(error)}", where=where, hint=hint)


def _report_failure(error: ChildFailedError) -> int:
    """Return the exit code of the rank that failed first; logs a rank that died without a message.

    If several ranks have ended, a rank that died without a message is reported first: the other ranks only report the
    lost connection.
    """
    silent = {rank: failure for rank, failure in error.failures.items() if failure.exitcode not in REPORTED_EXIT_CODES}
    rank, failure = min((silent or error.failures).items(), key=lambda each: each[1].timestamp)
    if not silent:
        return failure.exitcode
    how = signal.Signals(-failure.exitcode).name if failure.exitcode < 0 else f"exit code {failure.exitcode}"
    hint = "the last checkpoint is complete: continue with --resume"
    if how == "SIGKILL":
        hint = f"SIGKILL often means that the machine ran out of memory, see its log; {hint}"
    where = f"rank {rank} on {socket.gethostname()}, process {failure.pid}"
    died = TrainingFailed(f"rank {rank} died: {how}", where=where, hint=hint)
    console.info(str(died))
    return died.exit_code
