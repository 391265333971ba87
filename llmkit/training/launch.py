"""Start a command on several processes: torch.distributed's own launcher around `python -m llmkit`, and how it ended.

The launcher watches its processes: where one dies it ends the others, here and on the other machines.
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
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.elastic.rendezvous import RendezvousClosedError, RendezvousError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from llmkit.core import console
from llmkit.core.console import first_line
from llmkit.core.distributed import RUN_ID
from llmkit.core.errors import EnvironmentFault, TrainingFailed, UsageError
from llmkit.core.threads import count_cores, thread_count

OWN_WORDS = (1, 2, 3, 4, 5, 6, 130, 143)
"""Exit codes of a process that has said itself why it ended."""
SAVE_SECONDS = 120
"""So long may a rank save when all are told to stop; torch's own variable for it beats this."""


def launch(arguments: Sequence[str], nproc: int | None, nnodes: int = 1, rdzv_endpoint: str | None = None) -> int:
    """Run `python -m llmkit` with `arguments` on `nproc` processes of each of `nnodes` machines. The exit code is that
    of the rank that ended the job.

    `rdzv_endpoint` (host:port) is where machines meet, the same on all of them; one of them is that host.

    Raises:
        UsageError: several machines and no endpoint.
        EnvironmentFault: the machines, or the processes of this one, did not meet.
        TrainingFailed: a rank died without a word; names it.
    """
    if nnodes > 1 and rdzv_endpoint is None:
        hint = "--rdzv-endpoint HOST:PORT, the same on every machine; HOST is one of them"
        raise UsageError(f"{nnodes} machines must know where to meet", where="--nnodes", hint=hint)
    n_processes = count_processes(nproc)
    _share_cores(n_processes)
    logging.disable()  # of what ended a rank, the rank itself or we speak
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(SAVE_SECONDS))
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
    )
    try:
        elastic_launch(config, sys.executable)("-m", "llmkit", *arguments)
    except ChildFailedError as error:
        return _explain(*_find_cause(error))
    except SignalException as error:
        return 128 + int(error.sigval)
    except (RendezvousError, DistError, ConnectionError, TimeoutError) as error:
        raise _not_met(error, rdzv_endpoint) from error
    return 0


def count_processes(nproc: int | None) -> int:
    """None is one process a GPU; without one, one process, which uses all cores itself.

    Raises:
        UsageError: more processes than GPUs.
    """
    n_gpus = torch.cuda.device_count()
    if nproc is None:
        return max(1, n_gpus)
    if n_gpus and nproc > n_gpus:
        raise UsageError(f"{nproc} processes, but {n_gpus} GPUs are here", where="--nproc", hint="--nproc auto")
    return nproc


def _find_addresses(endpoint: str) -> tuple[str | None, str | None]:
    """Where others reach this machine, which is whence it would talk to the endpoint, and where the endpoint is.
    torch goes by the machine's own name, which others may not know, and which often means the loopback. Nothing where
    the endpoint's name is unknown here."""
    host, _, port = endpoint.rpartition(":")
    try:
        family, _, _, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(address)  # sends nothing
            return str(probe.getsockname()[0]), str(address[0])
    except OSError:
        return None, None


def _not_met(error: Exception, endpoint: str | None) -> EnvironmentFault:
    """Why no job came about. Without an endpoint this machine is the only one, and its processes meet on 127.0.0.1."""
    if endpoint is None:
        hint = "they meet on 127.0.0.1: may a process listen and connect there, or does a sandbox forbid it?"
        return EnvironmentFault(f"the processes did not meet: {first_line(error)}", where="--nproc", hint=hint)
    where = f"--rdzv-endpoint {endpoint}"
    if isinstance(error, RendezvousClosedError):  # which has no words of its own
        hint = "see what was said there, then start it on every machine again, with --resume where it has saved"
        return EnvironmentFault("the job had ended on another machine before this one came", where=where, hint=hint)
    hint = "is the address right, is the port open, and does the command run on every machine?"
    return EnvironmentFault(f"the machines did not meet: {first_line(error)}", where=where, hint=hint)


def _share_cores(n_processes: int) -> None:
    """Threads of each process, unless the user has said how many: more than there are cores hold each other up."""
    if not thread_count().source.endswith("_NUM_THREADS"):
        os.environ["OMP_NUM_THREADS"] = str(max(1, count_cores() // n_processes))


def _find_cause(error: ChildFailedError) -> tuple[int, ProcessFailure]:
    """The rank that ended first. Where several have ended since the launcher last looked, one that died without a word
    did so before those that say they lost it."""
    silent = {rank: failure for rank, failure in error.failures.items() if failure.exitcode not in OWN_WORDS}
    return min((silent or error.failures).items(), key=lambda each: each[1].timestamp)


def _explain(rank: int, failure: ProcessFailure) -> int:
    """The exit code of a job that one rank ended."""
    if failure.exitcode in OWN_WORDS:
        return failure.exitcode
    how = f"exit code {failure.exitcode}"
    hint = "what was saved is whole: go on with --resume"
    if failure.exitcode < 0:
        how = signal.Signals(-failure.exitcode).name
        if how == "SIGKILL":
            hint = "a system out of memory kills so: look into its log; what was saved is whole: go on with --resume"
    where = f"rank {rank} on {socket.gethostname()}, process {failure.pid}"
    error = TrainingFailed(f"rank {rank} died: {how}", where=where, hint=hint)
    console.info(str(error))
    return error.exit_code
