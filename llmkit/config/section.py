"""The base of every recipe section: typed, frozen and closed, with each default beside its check.

Closed means that an unknown key is an error, never ignored. Knows nothing of YAML; see loading.py.
"""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of a recipe. Every field is read in exactly one place."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, protected_namespaces=(), allow_inf_nan=False
    )
