"""The `llmkit` command: a table of subcommands, and the one place where errors become exit codes."""

import atexit
import errno
import io
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from types import FrameType
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

import llmkit
from llmkit.cli.compare import compare_command
from llmkit.cli.demo import demo_command
from llmkit.cli.doctor import doctor_command
from llmkit.cli.evaluate import eval_command
from llmkit.cli.finetune import finetune_command
from llmkit.cli.finetune_ner import finetune_ner_command
from llmkit.cli.finetune_qa import finetune_qa_command
from llmkit.cli.generate import generate_command
from llmkit.cli.mistakes import TyperError, explain_typer_error, unknown_command
from llmkit.cli.plan import plan_command
from llmkit.cli.predict import predict_command
from llmkit.cli.prepare import prepare_command
from llmkit.cli.pretrain import pretrain_command
from llmkit.cli.report import report_command
from llmkit.cli.schema import schema_command
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
from llmkit.core.process import handled_signals

SECONDS_FOR_MAIN_PROCESS = 3.0
"""Seconds that other ranks wait for rank 0 to report an error that occurred on all ranks."""

COMMANDS: dict[str, Callable[..., None]] = {
    "prepare": prepare_command,
    "pretrain": pretrain_command,
    "pretrain-clm": pretrain_command,
    "pretrain-mlm": pretrain_command,
    "finetune": finetune_command,
    "finetune-cls": finetune_command,
    "finetune-ner": finetune_ner_command,
    "finetune-qa": finetune_qa_command,
    "eval": eval_command,
    "generate": generate_command,
    "predict": predict_command,
    "compare": compare_command,
    "report": report_command,
    "plan": plan_command,
    "doctor": doctor_command,
    "schema": schema_command,
    "demo": demo_command,
}
ON_RANKS = tuple(name for name in COMMANDS if name.startswith(("pretrain", "finetune")))
HELP = {
    "pretrain": "Pretrain a model for the task of the recipe.",
    "pretrain-clm": "Pretrain a causal language model.",
    "pretrain-mlm": (
        "Pretrain a masked language model: BERT (masked tokens and next sentence) or ModernBERT.\n\n"
        "Prepare the data with `-s prepare.tokenizer.kind=wordpiece` or with the tokenizer of a BERT."
    ),
    "finetune": "Fine-tune for the task of the recipe; without a recipe, as finetune-cls.",
}
"""Help texts of commands that share a function."""


class _Commands(TyperGroup):
    """Takes `--resume` alone or followed by `auto`, as Typer has no options with an optional value; explains unknown
    commands."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        pairs = pairwise([*args, ""])
        spelled = [(word, "now") if word == "--resume" and after != "auto" else (word,) for word, after in pairs]
        return super().parse_args(ctx, [word for words in spelled for word in words])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            raise unknown_command(args[0], list(self.commands))
        return super().resolve_command(ctx, args)


app = typer.Typer(
    name="llmkit",
    cls=_Commands,
    help="Pretrain and fine-tune your own language models: from raw books to a model you can trust.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for name, command in COMMANDS.items():
    app.command(name, help=HELP.get(name))(command)


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", is_eager=True, help="Print the version and exit."),
) -> None:
    if version:
        typer.echo(llmkit.__version__)
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())
    elif expected_ranks() > 1 and context.invoked_subcommand not in ON_RANKS:
        hint = "run it before the job, on one machine; only training runs on several ranks"
        raise UsageError(f"{context.invoked_subcommand} runs in one process", where="WORLD_SIZE", hint=hint)


def main() -> NoReturn:
    """Run the command line; errors.py defines the exit codes."""
    try:
        _run()
    except Interrupted as stop:  # a signal before the command, or after it
        _leave(stop.exit_code)


def _run() -> NoReturn:
    _open_streams()
    signals = handled_signals()
    for number in signals:
        signal.signal(number, _interrupt)
    # Hide the progress bars and advice of libraries.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    die_with_launcher()
    logging.basicConfig(handlers=[_ConsoleHandler()])
    logging.captureWarnings(True)
    try:
        init_from_env()
        limit_threads()
        code = app(prog_name="llmkit", standalone_mode=False)
    except MainProcessFailed as parted:
        _wait_for_main_process()  # so that rank 0 shows its error first
        _leave(parted.exit_code)
    except BaseException as error:
        for number in signals:  # a signal during the report of an error is not another error
            signal.signal(number, lambda number, _: os._exit(128 + number))
        if not is_main_process():
            _wait_for_first(error)
        stop = _find_signal(error)
        code = _report(error if stop is None else stop)
        if stop is not None:
            _leave(code)
    code = code if isinstance(code, int) else 0
    for number in signals:  # the command is done: a signal now only makes the process exit earlier
        signal.signal(number, lambda *_: os._exit(code))
    _leave(code)


def _open_streams() -> None:
    """Open stdin, stdout and stderr if the caller closed them, so that no other file gets their numbers.

    Results are UTF-8 in every locale. Writing a result to a closed stdout is an error, as for other programs. Messages
    to a closed stderr are lost.
    """
    if sys.stdin is None or sys.stdout is None or sys.stderr is None:
        while (number := os.open(os.devnull, os.O_RDONLY)) <= 2:  # the lowest free number
            if number == 2:
                os.dup2(os.open(os.devnull, os.O_WRONLY), number)
        os.close(number)
        sys.stdin = sys.stdin or os.fdopen(0)
        sys.stdout = sys.stdout or os.fdopen(1, "w")
        sys.stderr = sys.stderr or os.fdopen(2, "w")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def _report(error: BaseException) -> int:
    """Report the error and return its exit code; an unforeseen error is a bug and is raised again."""
    if isinstance(error, LlmkitError | Interrupted):
        console.info(str(error))
        return error.exit_code
    is_unmapped = isinstance(error, ImportError) and "failed to map segment" in str(error)
    if isinstance(error, OSError | MemoryError) or type(error).__name__ == "OutOfMemoryError" or is_unmapped:
        console.info(str(_explain(error)))  # OutOfMemoryError is torch's, which is not imported here
        return EnvironmentFault.exit_code
    if isinstance(error, TyperError):
        console.info(str(explain_typer_error(error, sys.argv[1:])))
        return error.exit_code
    if isinstance(error, RuntimeError) and is_loss_of_others(error):
        hint = "that rank's message is above; the saved checkpoint is intact: continue with --resume"
        what = f"lost the connection to another rank: {first_line(error).rpartition('] ')[2]}"
        console.info(str(TrainingFailed(what, where=f"rank {os.environ.get('RANK', '0')}", hint=hint)))
        return TrainingFailed.exit_code
    raise error


def _wait_for_first(error: BaseException) -> None:
    """Wait until rank 0 has reported an error that occurred on all ranks; the launcher then ends this rank.

    If the launcher does not end this rank, the error occurred only here; the caller then reports it in full, below the
    number of the rank.
    """
    if isinstance(error, Interrupted):
        return
    _wait_for_main_process()
    console.info(f"rank {os.environ.pop('RANK')}:")  # without RANK, the console prints this process's messages


def _wait_for_main_process() -> None:
    for number in handled_signals():
        signal.signal(number, signal.SIG_DFL)
    time.sleep(SECONDS_FOR_MAIN_PROCESS)


def _find_signal(error: BaseException | None) -> Interrupted | None:
    """Return the signal that caused an error; a library may convert a signal to its own error."""
    while error is not None and not isinstance(error, Interrupted):
        error = error.__cause__ or error.__context__
    return error


def _leave(code: int) -> NoReturn:
    """End the process after its exit handlers, without the interpreter's teardown of torch.

    The teardown takes over a second, and ranks may wait for each other during it.
    """
    atexit._run_exitfuncs()  # there is no public function for this
    try:
        sys.stdout.flush()
    except OSError:  # the disk is full or the reader has exited: output is incomplete
        code = code or EnvironmentFault.exit_code
    os._exit(code)


class _ConsoleHandler(logging.Handler):
    """Sends warnings and log records to the console, which escapes control characters in names of files and columns."""

    def emit(self, record: logging.LogRecord) -> None:
        console.info(record.getMessage().rstrip("\n"))


def _explain(error: BaseException) -> Problem:
    """Convert an error of the operating system or an out-of-memory error to a problem of three lines."""
    if isinstance(error, OSError) and error.errno == errno.EBADF and error.filename is None:
        return Problem("stdout is closed", "stdout", "open it, or send the results to a file: > results.txt")
    if isinstance(error, OSError):
        place = str(error.filename or "this machine")
        hint = "check disk space and permissions there, then repeat the command"
        return Problem(error.strerror or str(error), place, hint)
    if isinstance(error, ImportError):
        hint = "the libraries of llmkit take 2 GB of address space: ulimit -v unlimited"
        return Problem("a library does not fit the memory that this process may use", first_line(error), hint)
    what = first_line(error) if str(error) else "out of memory"
    hint = "halve train.micro_batch_size, which leaves the result unchanged, or use a smaller model"
    return Problem(what, "memory", hint)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Stop in an orderly way at the first signal, and immediately at the second.

    `timeout` sends its signal twice within SAME_SIGNAL_SECONDS; that counts as one signal.
    """
    received = time.monotonic()

    def leave(number: int, frame: FrameType | None) -> None:
        if time.monotonic() - received > SAME_SIGNAL_SECONDS:
            os._exit(128 + number)

    for each in handled_signals():
        signal.signal(each, leave)
    raise Interrupted(number, f"stopped by {signal.Signals(number).name}; no partial result was kept")
