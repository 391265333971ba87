"""One thing that `llmkit doctor` looked at: plain data.

`ok`, `warn` and `fault` are the ways to make one; the last two cannot be made without advice.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

Status = Literal["ok", "warn", "fault"]


@dataclass(frozen=True, slots=True)
class Finding:
    """`value` is what was found, in words; `advice` what to type or change, empty where nothing is wrong; `figures` the
    same for programs, with units in their names."""

    name: str
    value: str
    status: Status
    advice: str
    figures: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def ok(name: str, value: str, **figures: Any) -> Finding:
    """As it should be."""
    return Finding(name, value, "ok", "", figures)


def warn(name: str, value: str, advice: str, **figures: Any) -> Finding:
    """llmkit works, but slower or less safely than it could."""
    return Finding(name, value, "warn", advice, figures)


def fault(name: str, value: str, advice: str, **figures: Any) -> Finding:
    """Something that llmkit needs is not there."""
    return Finding(name, value, "fault", advice, figures)
