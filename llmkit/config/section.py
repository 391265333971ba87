"""Base class of all recipe sections: typed, frozen, without unknown keys; checks are next to the fields.

loading.py reads the YAML.
"""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from llmkit.core.errors import UsageError


class Section(BaseModel):
    """A part of a recipe. Every field is read in exactly one place."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, protected_namespaces=(), allow_inf_nan=False
    )

    def with_updates(self, **changes: Any) -> Self:
        """Return a validated copy with these fields changed; pydantic's `model_copy` does not validate.

        Raises:
            UsageError: the changed fields do not fit the unchanged fields.
        """
        try:
            return type(self).model_validate(dict(self) | changes)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or ", ".join(changes)
            what, hint = split_message(str(first["msg"]))
            hint = hint or "change or remove the settings of the recipe that conflict"
            raise UsageError(what, where=where, hint=hint) from None


def split_message(message: str) -> tuple[str, str]:
    """Split a check's message `what; hint` into both parts; the hint is empty if there is none."""
    what, _, hint = message.removeprefix("Value error, ").partition("; ")
    return what, hint
