"""The options that put a command on several processes, and what becomes of the command line then."""

import os
import sys
from dataclasses import dataclass
from typing import Annotated

import typer

from llmkit.core.distributed import expected_ranks
from llmkit.core.errors import UsageError, did_you_mean

NprocOption = Annotated[
    str | None, typer.Option("--nproc", metavar="N|auto", help="Processes on this machine; auto: one a GPU.")
]
EngineOption = Annotated[
    str | None,
    typer.Option(
        "--engine",
        metavar="ddp|fsdp2|zero2|zero3",
        help="How the model lies on them: ddp, whole on each, or in shards; as train.engine.",
    ),
]
NnodesOption = Annotated[int, typer.Option("--nnodes", min=1, help="Machines that run this same command.")]
RdzvOption = Annotated[
    str | None, typer.Option("--rdzv-endpoint", metavar="HOST:PORT", help="Where the machines meet.")
]
LAUNCHING = ("--nproc", "--nnodes", "--rdzv-endpoint")


@dataclass(frozen=True, slots=True)
class DistributedOptions:
    """What was asked for."""

    nproc: str | None = None
    nnodes: int = 1
    rdzv_endpoint: str | None = None
    engine: str | None = None

    @property
    def overrides(self) -> list[str]:
        """The engine as `--set` would say it."""
        return [] if self.engine is None else [f"train.engine={self.engine}"]

    def launch(self) -> None:
        """Start the processes, wait for them and leave with their exit code; nothing where none were asked for."""
        if self.nproc is None:
            if self.nnodes > 1 or self.rdzv_endpoint:
                hint = "--nproc auto, or a number"
                raise UsageError("how many processes shall run on each machine?", where="--nproc", hint=hint)
            return
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # else it shows its own stack where machines do not meet
        from llmkit.training.launch import launch

        n_processes = None if self.nproc == "auto" else _read_number(self.nproc)
        code = launch(strip_options(sys.argv[1:]), n_processes, self.nnodes, self.rdzv_endpoint)
        raise typer.Exit(code)

    def refuse(self, what: str, where: str) -> None:
        """Raises UsageError where several processes were asked for, or are there."""
        if self.nproc is not None or expected_ranks() > 1:
            raise UsageError(what, where=where, hint="leave out --nproc, or run each fold and seed by itself")


def strip_options(arguments: list[str]) -> list[str]:
    """The command line for each process: without what is the launcher's."""
    kept: list[str] = []
    words = iter(arguments)
    for word in words:
        if word in LAUNCHING:
            next(words, None)
        elif word.partition("=")[0] not in LAUNCHING:
            kept.append(word)
    return kept


def _read_number(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        hint = did_you_mean(text, ["auto"]) if text.isalpha() else "a number from 1 on, or auto"
        raise UsageError(f"--nproc is {text!r}", where="--nproc", hint=hint)
    return int(text)
