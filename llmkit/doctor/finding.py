"""One result of `llmkit doctor`, as plain data. `warn` and `fault` require advice."""

from dataclasses import dataclass
from typing import Any, Literal

Status = Literal["ok", "warn", "fault"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One result of a check.

    `value` describes the finding. `advice` says how to fix it and is empty without a problem. `figures` are the same
    values for programs, with units in the names.
    """

    name: str
    value: str
    status: Status
    advice: str
    figures: dict[str, Any]


def ok(name: str, value: str, **figures: Any) -> Finding:
    """Return a finding without a problem."""
    return Finding(name, value, "ok", "", figures)


def warn(name: str, value: str, advice: str, **figures: Any) -> Finding:
    """Return a warning: llmkit works, but slower or less safely than possible."""
    return Finding(name, value, "warn", advice, figures)


def fault(name: str, value: str, advice: str, **figures: Any) -> Finding:
    """Return a fault: something that llmkit needs is missing or broken."""
    return Finding(name, value, "fault", advice, figures)
