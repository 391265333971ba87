"""The `llmkit` command: a table of subcommands, and the one place where errors become exit codes."""

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

import typer

import llmkit
from llmkit.cli.demo import demo_command
from llmkit.cli.evaluate import eval_command
from llmkit.cli.generate import generate_command
from llmkit.cli.prepare import prepare_command
from llmkit.cli.pretrain import pretrain_clm_command, pretrain_command
from llmkit.cli.report import report_command
from llmkit.errors import Interrupted, LlmkitError, say

COMMANDS: dict[str, Callable[..., None]] = {
    "prepare": prepare_command,
    "pretrain": pretrain_command,
    "pretrain-clm": pretrain_clm_command,
    "eval": eval_command,
    "generate": generate_command,
    "report": report_command,
    "demo": demo_command,
}

app = typer.Typer(
    name="llmkit",
    help="Pretrain your own language models: from raw books to a model you can trust.",
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


def main() -> NoReturn:
    """Run the command line; exit codes are those of errors.py."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    # A library's progress bars and advice are not ours to show; ours say what matters.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    try:
        app()
    except LlmkitError as error:
        say(str(error))
        sys.exit(error.exit_code)
    except Interrupted as stop:
        say(str(stop))
        sys.exit(stop.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader, such as head, has enough
        sys.exit(0)
    sys.exit(0)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupted(number, f"stopped by {signal.Signals(number).name}; nothing half-done was kept")
