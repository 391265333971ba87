"""Rank and world size of this process, and collective operations over all ranks.

torchrun, accelerate and Kubeflow set RANK, WORLD_SIZE, MASTER_ADDR and the like in the environment; SLURM's own names
are translated. A single process is rank 0 of 1; its collective operations return at once. torch is imported inside of
functions, so commands without torch can read the rank.
"""

import os
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar, cast

from llmkit.core import console
from llmkit.core.console import first_line
from llmkit.core.errors import EnvironmentFault, UsageError
from llmkit.core.process import die_with_parent

T = TypeVar("T")

PORT = 29_500
"""torch's default for MASTER_PORT."""
N_PORTS = 2_000
RANK_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
SLURM_VARIABLES = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")
MPI_SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
"""Number of processes, as mpirun sets it; accelerate reads these variables."""
MAX_RANKS = 1_000_000
LAUNCHER = "LLMKIT_LAUNCHER_PID"
"""Environment variable with the process id of training/launch.py."""
RUN_ID = "llmkit"
"""Rendezvous id of the ranks that training/launch.py starts."""
ACCELERATE_DEFAULTS = {
    "use_cpu": "false",
    "use_fsdp": "false",
    "use_deepspeed": "false",
    "use_megatron_lm": "false",
    "use_parallelism_config": "false",
    "mixed_precision": "no",
    "dynamo_backend": "no",
    "gradient_accumulation_steps": "1",
}
"""Settings that `accelerate launch` puts into the environment, with their neutral values."""
_is_alone = False
"""Whether this process is in a block of `main_process_first`, where it acts as a single process."""


def init_from_env() -> None:
    """Check the variables of launchers and SLURM, and translate SLURM's if `srun` started one process per rank.

    The variables are removed, so that no library reads them, if --nproc is given or if they do not describe several
    ranks. A message lists the removed variables, except for a world size of 1 without --nproc.

    Raises:
        UsageError: a variable is not a number in its range, or one that several ranks need is missing, or mpirun
            started several processes.
    """
    environ = os.environ
    for name in RANK_VARIABLES:
        if environ.get(name) == "":
            del environ[name]
    given = {name: environ[name] for name in RANK_VARIABLES if name in environ}
    is_launcher = any(word.partition("=")[0] == "--nproc" for word in sys.argv)
    is_half = bool(given) and not {"RANK", "WORLD_SIZE"} <= given.keys()
    if is_launcher or environ.get("WORLD_SIZE") == "1" or is_half:
        for name in given:
            del environ[name]
        if is_launcher and given:
            console.info(f"ignoring {_list_variables(given)} from the environment: --nproc starts the processes")
        elif given.get("WORLD_SIZE") != "1":
            missing = "WORLD_SIZE" if "RANK" in given else "RANK"
            console.info(f"running one process: ignoring {_list_variables(given)}, because {missing} is not set")
    elif "RANK" in given:
        hint = "unset RANK and WORLD_SIZE to run one process, or start several with --nproc"
        _require(("MASTER_ADDR", "MASTER_PORT"), "RANK", hint)
        _check_ranks(RANK_VARIABLES, hint)
        return
    if is_launcher:
        return
    if environ.get("SLURM_STEP_NUM_TASKS", "1") == "1":
        for name in MPI_SIZES:
            if environ.get(name, "1") not in ("", "0", "1"):
                what = f"{name} is {environ[name]} in the environment: processes that mpirun starts cannot form a job"
                hint = f"start them with --nproc, torchrun or srun; to run one process, unset {name}"
                raise UsageError(what, where=name, hint=hint)
        return
    hint = "start the command with srun; outside of a job step, unset SLURM_STEP_NUM_TASKS"
    _require(SLURM_VARIABLES, "SLURM_STEP_NUM_TASKS", hint)
    _check_ranks(SLURM_VARIABLES, hint)
    environ |= {name: environ[slurm] for name, slurm in zip(RANK_VARIABLES, SLURM_VARIABLES, strict=True)}
    environ |= {"MASTER_ADDR": _find_slurm_host(), "MASTER_PORT": environ.get("MASTER_PORT", _slurm_port())}


def _list_variables(given: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in given.items())


def _require(names: Iterable[str], known: str, hint: str) -> None:
    for name in names:
        if not os.environ.get(name):
            raise UsageError(f"{known} is set in the environment, but {name} is not", where=name, hint=hint)


def _check_ranks(names: Sequence[str], hint: str) -> None:
    """Check the variables of rank, world size and local rank that are set, and MASTER_PORT.

    Raises:
        UsageError: a variable is not a number in its range, or the rank is not below the world size.
    """
    bounds = dict.fromkeys(names, MAX_RANKS) | {"MASTER_PORT": 65_535}
    for name in bounds.keys() & os.environ.keys():
        value = os.environ[name]
        if not (value.isascii() and value.isdigit() and len(value) < 10 and int(value) <= bounds[name]):
            what = f"{name} is {value!r} in the environment, not a number from 0 to {bounds[name]:,}"
            raise UsageError(what, where=name, hint=hint)
    rank, world_size, _ = names
    if int(os.environ[rank]) >= int(os.environ[world_size]):
        what = f"{rank} is {os.environ[rank]}, but {world_size} is {os.environ[world_size]}; ranks are numbered from 0"
        raise UsageError(what, where=rank, hint=hint)


def _find_slurm_host() -> str:
    """Return the address of rank 0's machine."""
    environ = os.environ
    hosts = environ.get("SLURM_STEP_NODELIST", "localhost")
    if "MASTER_ADDR" in environ:
        return environ["MASTER_ADDR"]
    with suppress(FileNotFoundError):  # a container may lack scontrol
        listed = subprocess.run(["scontrol", "show", "hostnames", hosts], capture_output=True, text=True)
        return (listed.stdout.split() or [hosts])[0]
    return environ.get("SLURM_LAUNCH_NODE_IPADDR", hosts)


def _slurm_port() -> str:
    """Return a port from the ids of the SLURM job and step: equal for all ranks of a step, different between jobs."""
    step = f"{os.environ.get('SLURM_JOB_ID', '')}.{os.environ.get('SLURM_STEP_ID', '')}"
    return str(PORT + zlib.crc32(step.encode()) % N_PORTS if step != "." else PORT)


def die_with_launcher() -> None:
    """If training/launch.py started this rank, end the rank when the launcher dies; Linux only.

    A rank that waits in a collective cannot handle a signal from the launcher.
    """
    if os.environ.get("TORCHELASTIC_RUN_ID") == RUN_ID:
        launcher = os.environ.get(LAUNCHER, "")
        die_with_parent(int(launcher) if launcher.isdecimal() else None)


def expected_ranks() -> int:
    """Return the number of ranks according to the environment."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main_process() -> bool:
    """Whether this process is rank 0, which prints and writes."""
    return os.environ.get("RANK", "0") == "0"


def _drop_accelerate_settings() -> list[str]:
    """Remove accelerate's settings from the environment, so its classes do not read them.

    Returns the settings that differ from their neutral values, such as `use_fsdp=true`.
    """
    found = {
        name: os.environ.pop(f"ACCELERATE_{name.upper()}", neutral) for name, neutral in ACCELERATE_DEFAULTS.items()
    }
    return [f"{name}={value}" for name, value in found.items() if value.lower() != ACCELERATE_DEFAULTS[name]]


def init_process_group(device_type: str, timeout_seconds: float) -> None:
    """Join the other ranks, if there are any. Settings of `accelerate launch` are ignored with a message.

    Raises:
        EnvironmentFault: some ranks did not join in time, or there are fewer GPUs than ranks.
    """
    if ignored := _drop_accelerate_settings():
        console.info(f"ignoring accelerate's {', '.join(ignored)}: --engine and the recipe set these")
    if expected_ranks() == 1 or world_size() > 1:
        return
    import torch
    from accelerate import PartialState  # type: ignore[import-untyped]  # it ships no types

    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if device_type == "cuda" and torch.cuda.device_count() == 1 and "SLURM_LOCALID" in os.environ:
        local_rank, os.environ["LOCAL_RANK"] = 0, "0"  # SLURM shows each task only its own GPU
    if device_type == "cuda" and local_rank >= torch.cuda.device_count():
        what = f"rank {os.environ['RANK']} has no GPU: there are {torch.cuda.device_count()} on this machine"
        raise EnvironmentFault(what, where="--nproc", hint="start one process per GPU: --nproc auto")
    backend = "cpu:gloo,cuda:nccl" if device_type == "cuda" else "gloo"
    try:
        PartialState(cpu=device_type == "cpu", backend=backend, timeout=timedelta(seconds=timeout_seconds))
    except RuntimeError as error:  # its subclass depends on how the connection failed
        where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        hint = "check that all ranks run and can reach this address; train.ddp_timeout sets how long they wait"
        what = f"the {expected_ranks()} ranks could not connect: {first_line(error)}"
        raise EnvironmentFault(what, where=where, hint=hint) from error


@contextmanager
def main_process_first() -> Iterator[None]:
    """Run the block on every rank as in a single process, without collectives; then wait until all ranks have left it.

    Rank 0 may work in the block for hours. The other ranks wait for it, because a launcher kills the last rank soon
    after the other ranks have exited.
    """
    global _is_alone
    if world_size() == 1:
        yield
        return
    import torch.distributed as dist

    group = dist.new_group(backend="gloo", timeout=timedelta(days=30))
    _is_alone = True
    try:
        yield
        dist.barrier(group)
    finally:
        _is_alone = False


def rank() -> int:
    """Return the rank in the process group; 0 without one."""
    return int(os.environ.get("RANK", "0")) if world_size() > 1 else 0


def world_size() -> int:
    """Return the size of the process group; 1 without one."""
    if _is_alone or "torch" not in sys.modules:
        return 1
    import torch.distributed as dist

    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class MainProcessFailed(BaseException):
    """Rank 0 failed and reported why; the other ranks exit with its code."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(f"rank 0 ended with exit code {exit_code}")
        self.exit_code = exit_code


def broadcast_from_main(decide: Callable[[], T]) -> T:
    """Call `decide` on rank 0 and return its result on every rank.

    Raises:
        MainProcessFailed: on the other ranks, if rank 0 raised.
    """
    if world_size() == 1:
        return decide()
    import torch.distributed as dist

    message: list[Any] = [None, None]  # result, exit code
    failure: BaseException | None = None
    if rank() == 0:
        try:
            message = [decide(), None]
        except BaseException as error:
            failure = error
            of_machine = isinstance(error, OSError | MemoryError)
            message = [None, getattr(error, "exit_code", EnvironmentFault.exit_code if of_machine else 1)]
    dist.broadcast_object_list(message, src=0)
    if failure is not None:
        raise failure
    result, exit_code = message
    if exit_code is not None:
        raise MainProcessFailed(exit_code)
    return cast(T, result)


def gather(value: T) -> list[T]:
    """Return the values of all ranks in rank order, on every rank."""
    if world_size() == 1:
        return [value]
    import torch.distributed as dist

    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def barrier() -> None:
    """Wait for all ranks."""
    gather(None)


def all_reduce_sum(sums: dict[str, T]) -> dict[str, T]:
    """Sum each number, array or tensor over all ranks; integers stay integers."""
    parts: list[dict[str, Any]] = gather(sums)
    return {name: sum((part[name] for part in parts[1:]), parts[0][name]) for name in sums}


def shard(items: Iterable[T]) -> Iterator[tuple[T, bool]]:
    """Yield (item, counts) for every `world_size`-th item, on this rank.

    All ranks get the same number of items, because a sharded model needs all ranks in every forward pass. `counts` is
    False for an item that only pads the last round.
    """
    n_ranks, own = world_size(), rank()
    if n_ranks == 1:
        yield from ((item, True) for item in items)
        return
    row: list[T] = []
    for item in items:
        row.append(item)
        if len(row) == n_ranks:
            yield row[own], True
            row = []
    if row:
        yield row[min(own, len(row) - 1)], own < len(row)


def is_loss_of_others(error: BaseException) -> bool:
    """Whether an error means that another rank has died or did not answer in time."""
    import torch.distributed as dist

    return expected_ranks() > 1 and (isinstance(error, dist.DistError) or "/gloo/transport/" in str(error))
