"""This process among those that train one model together: its place, and what they tell each other.

The place stands in the environment (RANK, WORLD_SIZE, MASTER_ADDR ...), where torchrun, accelerate and Kubeflow put it;
SLURM's own names are translated. One process alone has rank 0 of 1, and every function here costs it nothing.
torch is imported inside, since errors.py's `say` asks for the rank before anything slow is loaded.
"""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

from llmkit.core import console
from llmkit.core.console import first_line
from llmkit.core.errors import EnvironmentFault

T = TypeVar("T")

PORT = 29_500
"""torch's own default for rank 0's ear."""
RUN_ID = "llmkit"
"""By which the ranks that training/launch.py starts find each other."""
OF_ACCELERATE = {
    "use_cpu": "false",
    "use_fsdp": "false",
    "use_deepspeed": "false",
    "use_megatron_lm": "false",
    "use_parallelism_config": "false",
    "mixed_precision": "no",
    "dynamo_backend": "no",
    "gradient_accumulation_steps": "1",
}
"""What `accelerate launch` passes on in the environment, and the values that ask for nothing."""
_PR_SET_PDEATHSIG = 1
_is_alone = False


def init_from_env() -> None:
    """Read SLURM's names where `srun` started one process a rank and nothing else has said what its rank is.

    The only process of a launcher is none of several, and libraries need not make it one.
    """
    environ = os.environ
    if environ.get("WORLD_SIZE") == "1":
        for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
            environ.pop(name, None)
    if any(word.partition("=")[0] == "--nproc" for word in sys.argv):  # this is a launcher, whatever started it
        return
    if "RANK" in environ or int(environ.get("SLURM_STEP_NUM_TASKS", "1")) < 2:
        return
    hosts = environ.get("SLURM_STEP_NODELIST", "localhost")
    if "MASTER_ADDR" not in environ:
        environ["MASTER_ADDR"] = environ.get("SLURM_LAUNCH_NODE_IPADDR", hosts)
        with suppress(FileNotFoundError):  # in a container, say
            listed = subprocess.run(["scontrol", "show", "hostnames", hosts], capture_output=True, text=True)
            environ["MASTER_ADDR"] = (listed.stdout.split() or [hosts])[0]
    environ.setdefault("MASTER_PORT", str(PORT))
    environ.update(
        RANK=environ["SLURM_PROCID"], LOCAL_RANK=environ["SLURM_LOCALID"], WORLD_SIZE=environ["SLURM_STEP_NUM_TASKS"]
    )


def die_with_launcher() -> None:
    """Where llmkit started the ranks itself, none outlives its launcher: one that waits for another is deaf to signals,
    and would wait on. Linux only."""
    if os.environ.get("TORCHELASTIC_RUN_ID") == RUN_ID and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def expected_ranks() -> int:
    """How many processes the environment says there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main_process() -> bool:
    """Whether this process is the one that prints and writes."""
    return os.environ.get("RANK", "0") == "0"


def _drop_settings_of_accelerate() -> list[str]:
    """Take them out of the environment, where accelerate's own classes would go by them; those that ask for something,
    as `use_fsdp=true`."""
    found = {name: os.environ.pop(f"ACCELERATE_{name.upper()}", neutral) for name, neutral in OF_ACCELERATE.items()}
    return [f"{name}={value}" for name, value in found.items() if value.lower() != OF_ACCELERATE[name]]


def init_process_group(device_type: str, timeout_seconds: float) -> None:
    """Meet the other ranks, where there are any. What `accelerate launch` was asked to do itself is left out and said.

    Raises:
        EnvironmentFault: they did not come in time, or not as many GPUs are here as ranks.
    """
    if left_out := _drop_settings_of_accelerate():
        console.info(
            f"accelerate was asked for {', '.join(left_out)}: left out, as --engine and the recipe decide that"
        )
    if expected_ranks() == 1 or world_size() > 1:
        return
    import torch
    from accelerate import PartialState  # type: ignore[import-untyped]  # it ships no types

    here = int(os.environ.get("LOCAL_RANK", "0"))
    if device_type == "cuda" and torch.cuda.device_count() == 1 and "SLURM_LOCALID" in os.environ:
        here, os.environ["LOCAL_RANK"] = 0, "0"  # which shows each of its tasks but one
    if device_type == "cuda" and here >= torch.cuda.device_count():
        what = f"rank {os.environ['RANK']} has no GPU: there are {torch.cuda.device_count()} on this machine"
        raise EnvironmentFault(what, where="--nproc", hint="start one process a GPU: --nproc auto")
    backend = "cpu:gloo,cuda:nccl" if device_type == "cuda" else "gloo"
    try:
        PartialState(cpu=device_type == "cpu", backend=backend, timeout=timedelta(seconds=timeout_seconds))
    except RuntimeError as error:  # torch has several of them for an address that nobody answers
        where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        hint = "do all of them run, and may they reach this address? train.ddp_timeout says how long they wait"
        what = f"the {expected_ranks()} ranks did not meet: {first_line(error)}"
        raise EnvironmentFault(what, where=where, hint=hint) from error


@contextmanager
def main_process_first() -> Iterator[None]:
    """Within the block each rank is alone, and at its end the others wait for rank 0, however long: a launcher gives up
    soon on one that goes on when all others have ended."""
    global _is_alone
    if world_size() == 1:
        yield
        return
    import torch.distributed as dist

    patient = dist.new_group(backend="gloo", timeout=timedelta(days=30))
    _is_alone = True
    try:
        yield
        dist.barrier(patient)
    finally:
        _is_alone = False


def rank() -> int:
    """Of this process, among those that have joined."""
    return int(os.environ.get("RANK", "0")) if world_size() > 1 else 0


def world_size() -> int:
    """How many processes are joined now."""
    if _is_alone or "torch" not in sys.modules:
        return 1
    import torch.distributed as dist

    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class Parted(BaseException):
    """Rank 0 has said why all must end, and with which exit code."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(f"rank 0 ended with exit code {exit_code}")
        self.exit_code = exit_code


def broadcast_from_main(decide: Callable[[], T]) -> T:
    """What rank 0 decides, on every rank. Where it refuses, it says why, and the others end with it.

    Raises:
        Parted: on the others, where rank 0 raised.
    """
    if world_size() == 1:
        return decide()
    import torch.distributed as dist

    told: list[Any] = [None, None]
    refusal: BaseException | None = None
    if rank() == 0:
        try:
            told = [decide(), None]
        except BaseException as error:
            refusal = error
            of_machine = isinstance(error, OSError | MemoryError)
            told = [None, getattr(error, "exit_code", EnvironmentFault.exit_code if of_machine else 1)]
    dist.broadcast_object_list(told, src=0)
    if refusal is not None:
        raise refusal
    if told[1] is not None:
        raise Parted(told[1])
    value: T = told[0]
    return value


def gather(value: T) -> list[T]:
    """Every rank's value, in the order of ranks, on every rank."""
    if world_size() == 1:
        return [value]
    import torch.distributed as dist

    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def barrier() -> None:
    """Wait until every rank has come here."""
    gather(None)


def all_reduce_sum(sums: dict[str, T]) -> dict[str, T]:
    """Each number, array or tensor summed over all ranks; an integer stays one."""
    parts: list[dict[str, Any]] = gather(sums)
    return {name: sum((part[name] for part in parts[1:]), parts[0][name]) for name in sums}


def shard(items: Iterable[T]) -> Iterator[tuple[T, bool]]:
    """This rank's items, every `world_size`-th, and whether they count.

    All ranks get equally many, if need be one that does not count: a model whose weights are spread over the ranks
    needs all of them for every forward pass.
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
    """Whether an error says that another rank is gone, or did not answer in time."""
    import torch.distributed as dist

    return expected_ranks() > 1 and (isinstance(error, dist.DistError) or "/gloo/transport/" in str(error))
