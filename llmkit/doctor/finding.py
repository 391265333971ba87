"""One result of `llmkit doctor`, as plain data. `warn` and `fault` require advice."""

from dataclasses import dataclass
from typing import Any, Literal

Status = Literal["ok", "warn", "fault"]


@dataclass(frozen=True, slots=True)
class Finding:
    """`value` says what was found; `advice` says what to do and is empty if nothing is wrong; `figures` holds the same
    for programs, with units in the names."""

    name: str
    value: str
    status: Status
    advice: str
    figures: dict[str, Any]


def ok(name: str, value: str, **figures: Any) -> Finding:
    """Nothing is wrong."""
    return Finding(name, value, "ok", "", figures)


def warn(name: str, value: str, advice: str, **figures: Any) -> Finding:
    """llmkit works, but slower or less safely than it could."""
    return Finding(name, value, "warn", advice, figures)


def fault(name: str, value: str, advice: str, **figures: Any) -> Finding:
    """Something that llmkit needs is missing or broken."""
    return Finding(name, value, "fault", advice, figures)
