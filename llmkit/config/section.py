"""Base class of all recipe sections: typed, frozen, without unknown keys; checks are next to the fields.

loading.py reads the YAML.
"""

import re
from typing import Any, Self, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from llmkit.core.errors import UsageError

_EXPONENT = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?[eE][+-]?[0-9]{1,2}")
"""A number with an exponent. YAML 1.1 reads it as text unless it has a decimal point and a signed exponent."""


class Section(BaseModel):
    """A part of a recipe. Every field is read in exactly one place."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, protected_namespaces=(), allow_inf_nan=False
    )

    @model_validator(mode="before")
    @classmethod
    def _read_numbers(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        fields = cls.model_fields
        return {
            name: _to_number(value, fields[name].annotation) if name in fields else value
            for name, value in values.items()
        }

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


def _to_number(value: object, annotation: Any) -> object:
    """Convert text such as `1e3` for a field of numbers.

    Booleans become text, so that pydantic refuses them; it would accept True and False as 1 and 0.
    """
    types = {annotation, *get_args(annotation)}
    if isinstance(value, list):
        inner = next((get_args(each)[0] for each in types if get_origin(each) is list), str)
        return [_to_number(each, inner) for each in value]
    if not types & {int, float} or types & {str, bool}:
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str) or not _EXPONENT.fullmatch(value.strip()):
        return value
    number = float(value)
    return int(number) if number.is_integer() else number


def split_message(message: str) -> tuple[str, str]:
    """Split a check's message `what; hint` into both parts; the hint is empty if there is none."""
    what, _, hint = message.removeprefix("Value error, ").partition("; ")
    return what, hint
