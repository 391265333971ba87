"""Explain a wrong command line in three lines: quote what the user typed, and suggest llmkit's name for it.

Typer alone suggests the nearest known option even if it is unrelated (`--nproc` for `--epochs`).
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

import typer

from llmkit.config.other_tools import COMMANDS, normalize
from llmkit.core.errors import Problem, UsageError, did_you_mean, find_near

_DASHES = "—–－−‐‑―"
"""Characters that word processors and input methods write for the hyphens of an option."""


@runtime_checkable
class TyperError(Protocol):
    """The exception that Typer raises for an invalid command line; its class is not public."""

    exit_code: int
    ctx: typer.Context | None

    def format_message(self) -> str: ...


def explain_typer_error(error: Any, arguments: Sequence[str]) -> Problem:
    """Convert a Typer error on the command line `arguments` to a problem with a hint."""
    command = error.ctx.command_path if error.ctx else "llmkit"
    listed = f"{command} --help lists arguments and options"
    parameters: list[Any] = error.ctx.command.params if error.ctx else []
    if hasattr(error, "possibilities"):  # the error of an unknown option
        known = [name for parameter in parameters for name in parameter.opts]
        typed = _find_word(error.option_name, arguments)
        value = _find_value(typed, arguments)
        hint = _suggest_option(typed, [name for name in known if name.startswith("--")], value)
        return Problem(f"no such option: {typed}", f"{command} {typed}", hint or listed)
    message = error.format_message()
    if message.startswith("Got unexpected extra argument"):
        extra = message.partition("(s) (")[2].removesuffix(")")
        words = extra.split()
        settings = [word for word in words if "=" in word]
        hint = f"settings follow -s: -s {settings[0]}" if settings else listed
        if dashed := next((word for word in words if word[0] in _DASHES), None):
            hint = f"options begin with ASCII hyphens: --{dashed.lstrip(_DASHES + '-')}"
        return Problem(f"unexpected argument {extra!r}", f"{command} {extra}", hint)
    parameter: Any = getattr(error, "param", None)
    if type(error).__name__ == "MissingParameter" and getattr(parameter, "help", None):
        option = next((name for name in parameter.opts if name.startswith("--")), "")
        hint = f"{f'add {option} {parameter.name.upper()}' if option else 'it is'}: {_lower_first(parameter.help)}"
        return Problem(_lower_first(message), command, f"{hint}; {listed}")
    return Problem(_lower_first(message), command, listed)


def unknown_command(name: str, known: Sequence[str]) -> UsageError:
    """Return the error for a command that llmkit does not have."""
    near = find_near(name, known)
    theirs = normalize(name) if normalize(name) in COMMANDS or near else find_near(name, COMMANDS)
    meant = COMMANDS.get(theirs or "")
    hint = f"use {meant}" if meant else did_you_mean(name, known)
    return UsageError(f"no such command: {name}", where=f"llmkit {name}", hint=hint)


def _suggest_option(typed: str, known: Sequence[str], value: str | None) -> str | None:
    from llmkit.config.problems import describe_unknown

    named = next((name for name in known if normalize(name) == normalize(typed)), None)  # such as --skip_bad
    near = named or find_near(typed.lstrip("-"), [name.lstrip("-") for name in known])
    if named is None and (meaning := describe_unknown(typed, value=value)):
        return meaning
    return f"did you mean '--{near.lstrip('-')}'?" if near else None


def _find_word(option: str, arguments: Sequence[str]) -> str:
    """Return the option as the user typed it: Typer reports `-lr` as `-l`."""
    if option.startswith("--"):
        return option
    words = [word for word in arguments if word.startswith(option) and not word.startswith("--")]
    return next(iter(words), option).partition("=")[0]


def _find_value(option: str, arguments: Sequence[str]) -> str | None:
    """Return what follows an option on the command line, as in `--lr 1e-3` or `--lr=1e-3`; None if nothing does."""
    words = [part for word in arguments for part in (word.split("=", 1) if word.startswith(option) else [word])]
    return next((value for word, value in pairwise(words) if word == option), None)


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:].rstrip(".")
