"""Errors that are not bugs of llmkit, and their exit codes.

    LlmkitError
    +-- UsageError         2   the command line or the recipe
    +-- DataError          3   the input data
    +-- EnvironmentFault   4   disk, rights, lock, memory, network, a missing extra
    +-- TrainingFailed     5   a non-finite loss, a dead rank
    +-- ModelError         6   a checkpoint or model that cannot be used

A user's mistake never shows a traceback. It shows three lines per problem: what is wrong with which value, where it
is, and how to fix it. Any other exception is a bug: traceback, exit code 1.
"""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import ClassVar

from llmkit.core.console import clean_line


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem: `what` says what is wrong with which value, `where` is the location, `hint` is a fix."""

    what: str
    where: str
    hint: str

    def __str__(self) -> str:
        what, where, hint = map(clean_line, (self.what, self.where, self.hint))
        return f"error: {what}\nwhere: {where}\nhint:  {hint}"


class LlmkitError(Exception):
    """Base of all errors that are shown to the user as three lines per problem."""

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, *, where: str, hint: str) -> None:
        super().__init__(what)
        self.problems: tuple[Problem, ...] = (Problem(what, where, hint),)

    @classmethod
    def from_problems(cls, problems: Iterable[Problem]) -> "LlmkitError":
        """Return one error with several problems, so that a user can fix them all at once."""
        first, *rest = problems
        error = cls(first.what, where=first.where, hint=first.hint)
        error.problems = (first, *rest)
        return error

    def __str__(self) -> str:
        return "\n\n".join(map(str, self.problems))

    def __reduce__(self) -> "tuple[object, tuple[tuple[Problem, ...]]]":
        return type(self).from_problems, (self.problems,)  # by default, pickle would call the class with `what` alone


class UsageError(LlmkitError):
    """The command line or the recipe is wrong."""

    exit_code = 2


class DataError(LlmkitError):
    """The input data cannot be used as it is."""

    exit_code = 3


class EnvironmentFault(LlmkitError):  # noqa: N818 - a public name
    """A problem of the machine: disk, permissions, lock, memory, network, or a missing package."""

    exit_code = 4


class TrainingFailed(LlmkitError):  # noqa: N818 - a public name
    """Training stopped: the loss spiked, a loss or gradient is not finite, or a rank died."""

    exit_code = 5


class ModelError(LlmkitError):
    """A checkpoint or a model is damaged, incomplete, or made for something else."""

    exit_code = 6


SAME_SIGNAL_SECONDS = 0.5
"""Signals closer together count as one: `timeout` sends its signal to the process and then to the process group."""


class Interrupted(BaseException):
    """SIGINT or SIGTERM ended the work; the exit code is 128 plus the signal's number.

    A BaseException like KeyboardInterrupt, so that `except Exception` does not catch it.
    """

    def __init__(self, signal_number: int, message: str) -> None:
        super().__init__(message)
        self.signal_number = signal_number
        self.exit_code = 128 + signal_number


MIN_SIMILARITY = 0.75
"""Minimum similarity of a word and the known name suggested for it; at 0.6, `sentiment` suggested `sentence`."""


def find_near(word: str, known: Iterable[str], cutoff: float = MIN_SIMILARITY) -> str | None:
    """Return the known name that a word misspells; None if there is none. Ignores case, `-` and `_`.

    `cutoff` is the minimum ratio of difflib.SequenceMatcher.
    """
    names = {_simplify(name): name for name in sorted(known)}
    simple = _simplify(word)
    near = get_close_matches(simple, names, n=1, cutoff=cutoff)
    swapped = [name for name in names if sorted(name) == sorted(simple)]  # letters in the wrong order
    return next((names[name] for name in [*near, *swapped]), None)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a hint for an unknown name: the closest known name, or all known names."""
    names = sorted(known)
    near = find_near(word, names)
    return f"did you mean {near!r}?" if near is not None else clean_line(f"known: {', '.join(names)}")


_FULL_WIDTH = {ord("。"): ".", ord("、"): ",", ord("【"): "[", ord("】"): "]", ord("—"): "-", ord("–"): "-"}


def narrow(text: str) -> str:
    """Convert full-width characters, which Chinese and Japanese input methods type, to ASCII: `ｓｅｅｄ＝１`."""
    return unicodedata.normalize("NFKC", text.translate(_FULL_WIDTH))


def _simplify(word: str) -> str:
    return word.casefold().replace("-", "_")
