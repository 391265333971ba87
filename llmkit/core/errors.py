"""What can go wrong that is not our bug, and the exit code each kind ends with.

    LlmkitError
    +-- UsageError         2   the command line or the recipe
    +-- DataError          3   the input data
    +-- EnvironmentFault   4   disk, rights, lock, memory, network, a missing extra
    +-- TrainingFailed     5   a non-finite loss, a dead rank
    +-- ModelError         6   a checkpoint or model that cannot be used

A user's mistake never shows a traceback. It shows three lines for each problem: what is wrong with
which value, where, and the way out. Anything else that escapes is our bug: traceback, exit code 1.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import ClassVar

from llmkit.core.console import clean_line


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: `what` names the value, `where` the place, `hint` the way out."""

    what: str
    where: str
    hint: str

    def __str__(self) -> str:
        what, where, hint = map(clean_line, (self.what, self.where, self.hint))
        return f"error: {what}\nwhere: {where}\nhint:  {hint}"


class LlmkitError(Exception):
    """Base of all errors that are shown to the user as three lines a problem."""

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, *, where: str, hint: str) -> None:
        super().__init__(what)
        self.problems: tuple[Problem, ...] = (Problem(what, where, hint),)

    @classmethod
    def from_problems(cls, problems: Iterable[Problem]) -> "LlmkitError":
        """One error that carries several problems, so that a user can mend them all at once."""
        first, *rest = problems
        error = cls(first.what, where=first.where, hint=first.hint)
        error.problems = (first, *rest)
        return error

    def __str__(self) -> str:
        return "\n\n".join(map(str, self.problems))

    def __reduce__(self) -> "tuple[object, tuple[tuple[Problem, ...]]]":
        return type(self).from_problems, (self.problems,)  # an error of another process comes over whole


class UsageError(LlmkitError):
    """The command line or the recipe is wrong."""

    exit_code = 2


class DataError(LlmkitError):
    """The input data cannot be used as it is."""

    exit_code = 3


class EnvironmentFault(LlmkitError):  # noqa: N818 - the contract's name
    """The machine refuses: disk, rights, lock, memory, network, or an extra that is not installed."""

    exit_code = 4


class TrainingFailed(LlmkitError):  # noqa: N818 - the contract's name
    """Training stopped because going on would have spoilt the model."""

    exit_code = 5


class ModelError(LlmkitError):
    """A checkpoint or a model is damaged, incomplete, or made for something else."""

    exit_code = 6


SAME_SIGNAL_SECONDS = 0.5
"""Signals that come closer are one wish: `timeout` sends its signal to the process and then to its group."""


class Interrupted(BaseException):
    """SIGINT or SIGTERM ended the work; the exit code is 128 plus the signal's number.

    No Exception, as KeyboardInterrupt is none: nobody who handles errors should swallow it.
    """

    def __init__(self, signal_number: int, message: str) -> None:
        super().__init__(message)
        self.signal_number = signal_number
        self.exit_code = 128 + signal_number


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint for a mistyped name: the nearest known one, or all of them."""
    names = sorted(known)
    near = get_close_matches(word, names, n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else clean_line(f"known: {', '.join(names)}")
