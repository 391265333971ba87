"""The `llmkit` command: a table of subcommands, and the one place where errors become exit codes."""

import atexit
import io
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn, Protocol, TextIO, runtime_checkable

import typer
from typer.core import TyperGroup

import llmkit
from llmkit.cli.compare import compare_command
from llmkit.cli.demo import demo_command
from llmkit.cli.doctor import doctor_command
from llmkit.cli.evaluate import eval_command
from llmkit.cli.finetune import finetune_command
from llmkit.cli.generate import generate_command
from llmkit.cli.plan import plan_command
from llmkit.cli.predict import predict_command
from llmkit.cli.prepare import prepare_command
from llmkit.cli.pretrain import pretrain_clm_command, pretrain_command, pretrain_mlm_command
from llmkit.cli.report import report_command
from llmkit.core import console
from llmkit.core.console import first_line
from llmkit.core.distributed import (
    MainProcessFailed,
    die_with_launcher,
    expected_ranks,
    init_from_env,
    is_loss_of_others,
    is_main_process,
)
from llmkit.core.errors import (
    SAME_SIGNAL_SECONDS,
    EnvironmentFault,
    Interrupted,
    LlmkitError,
    Problem,
    TrainingFailed,
    UsageError,
)
from llmkit.core.machine import limit_threads

SECONDS_FOR_FIRST = 3.0
ON_RANKS = ("pretrain", "pretrain-clm", "pretrain-mlm", "finetune", "finetune-cls")

COMMANDS: dict[str, Callable[..., None]] = {
    "prepare": prepare_command,
    "pretrain": pretrain_command,
    "pretrain-clm": pretrain_clm_command,
    "pretrain-mlm": pretrain_mlm_command,
    "finetune": finetune_command,
    "finetune-cls": finetune_command,
    "eval": eval_command,
    "generate": generate_command,
    "predict": predict_command,
    "compare": compare_command,
    "report": report_command,
    "plan": plan_command,
    "doctor": doctor_command,
    "demo": demo_command,
}


class _Commands(TyperGroup):
    """`--resume` may stand alone or before `auto`, which is more than Typer's options can do."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        pairs = zip(args, [*args[1:], ""], strict=True)
        spelled = [(word, "now") if word == "--resume" and after != "auto" else (word,) for word, after in pairs]
        return super().parse_args(ctx, [word for words in spelled for word in words])


app = typer.Typer(
    name="llmkit",
    cls=_Commands,
    help="Pretrain and fine-tune your own language models: from raw books to a model you can trust.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
)
for name, command in COMMANDS.items():
    app.command(name)(command)


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", is_eager=True, help="Print the version and leave."),
) -> None:
    if version:
        typer.echo(llmkit.__version__)
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())
    elif expected_ranks() > 1 and context.invoked_subcommand not in ON_RANKS:
        hint = "run it before the job, on one machine; only training is done on several ranks"
        raise UsageError(f"{context.invoked_subcommand} is one process's work", where="WORLD_SIZE", hint=hint)


def main() -> NoReturn:
    """Run the command line; exit codes are those of errors.py."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    # A library's progress bars and advice are not ours to show; ours say what matters.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    init_from_env()
    die_with_launcher()
    logging.basicConfig(handlers=[_Say()])
    logging.captureWarnings(True)
    try:
        limit_threads()
        code = app(standalone_mode=False)
    except MainProcessFailed as parted:
        _give_way()  # so that it is rank 0's end that is seen
        _leave(parted.exit_code)
    except BaseException as error:
        if not is_main_process():
            _wait_for_first(error)
        stop = _find_signal(error)
        code = _report(error if stop is None else stop)
        if stop is not None:
            _leave(code)
    code = code if isinstance(code, int) else 0
    for number in (signal.SIGINT, signal.SIGTERM):  # all is said: a signal now only shortens the way out
        signal.signal(number, lambda *_: os._exit(code))
    _leave(code)


def _report(error: BaseException) -> int:
    """Say what ended the command, and give the exit code for it; what nobody foresaw is our bug and goes on."""
    if isinstance(error, LlmkitError | Interrupted):
        console.info(str(error))
        return error.exit_code
    if isinstance(error, OSError | MemoryError) or type(error).__name__ == "OutOfMemoryError":
        console.info(str(_explain(error)))  # the last is torch's, which is not imported here
        return EnvironmentFault.exit_code
    if isinstance(error, _UsageMistake):
        text = io.StringIO()
        error.show(text)
        console.info(text.getvalue().rstrip("\n"))
        return error.exit_code
    if isinstance(error, RuntimeError) and is_loss_of_others(error):
        hint = "its own message is above; what was saved is whole: go on with --resume"
        what = f"another rank is gone: {first_line(error).rpartition('] ')[2]}"
        console.info(str(TrainingFailed(what, where=f"rank {os.environ.get('RANK', '0')}", hint=hint)))
        return TrainingFailed.exit_code
    raise error


def _wait_for_first(error: BaseException) -> None:
    """What all ranks find rank 0 says, and the launcher then ends the others; only who is still there speaks, whole."""
    if isinstance(error, Interrupted):
        return
    _give_way()
    whose = f"rank {os.environ.pop('RANK')}:"  # from here on this process speaks for itself
    console.info(whose)


def _give_way() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    time.sleep(SECONDS_FOR_FIRST)


def _find_signal(error: BaseException | None) -> Interrupted | None:
    """The signal behind an error: a library that is stopped in the middle may turn it into an error of its own."""
    while error is not None and not isinstance(error, Interrupted):
        error = error.__cause__ or error.__context__
    return error


def _leave(code: int) -> NoReturn:
    """End the process without taking torch apart, which takes a second and more, and where one rank may wait for
    another; what tidies up still runs."""
    atexit._run_exitfuncs()  # no public name says this
    try:
        sys.stdout.flush()
    except OSError:  # a full disk, or a reader that is gone: not all was written
        code = code or EnvironmentFault.exit_code
    os._exit(code)


class _Say(logging.Handler):
    """Warnings and log records name files and columns, so they go the way of all lines."""

    def emit(self, record: logging.LogRecord) -> None:
        console.info(record.getMessage().rstrip("\n"))


@runtime_checkable
class _UsageMistake(Protocol):
    """What Typer raises for a wrong command line; its own class is not public."""

    exit_code: int

    def show(self, file: TextIO) -> None: ...


def _explain(error: BaseException) -> Problem:
    """A machine that refuses, as three lines."""
    if isinstance(error, OSError):
        place = str(error.filename or "this machine")
        return Problem(error.strerror or str(error), place, "check space and rights there, then run it again")
    what = first_line(error) if str(error) else "out of memory"
    return Problem(what, "memory", "halve train.micro_batch_size (the global batch stays), or take a smaller model")


def _interrupt(number: int, frame: FrameType | None) -> None:
    """The first signal ends the work in order; one that comes later than `timeout`'s twin of it ends it at once."""
    received = time.monotonic()

    def leave(number: int, frame: FrameType | None) -> None:
        if time.monotonic() - received > SAME_SIGNAL_SECONDS:
            os._exit(128 + number)

    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, leave)
    raise Interrupted(number, f"stopped by {signal.Signals(number).name}; nothing half-done was kept")
