"""The section inputs: model and data of a training run, so that a recipe needs no options."""

import os
from collections.abc import Collection
from pathlib import Path
from typing import Self

from pydantic import Field

from llmkit.config.section import Section

_NOT_PATHS = ("hf:", "pickle:", "/", "~")


class Inputs(Section):
    """Model and data that a training command reads. Options of the same names override these keys.

    Paths in a recipe are relative to its folder. Paths given with `-s` are relative to the current folder.
    """

    model: str | None = Field(default=None, min_length=1, description="Model to start from, like --model.")
    data: str | None = Field(default=None, min_length=1, description="Prepared folder or train rows, like --data.")
    validation: str | None = Field(default=None, min_length=1, description="Validation rows, like --validation.")
    test: str | None = Field(default=None, min_length=1, description="Test rows, like --test.")

    @property
    def given(self) -> dict[str, str]:
        """Return the values that are set, by key."""
        return {name: value for name, value in self if value is not None}

    def read_from(self, folder: Path, keys: Collection[str]) -> Self:
        """Return a copy with the values of `keys` relative to the current folder instead of to `folder`.

        A model that is not an existing folder and does not begin with `.` is a hub name.
        """
        found = {}
        for name, value in self.given.items():
            path = os.path.normpath(folder / value)
            is_path = name != "model" or value.startswith(("./", "../")) or Path(path).exists()
            if name in keys and is_path and not value.startswith(_NOT_PATHS):
                # Without `./`, the path of a model that was moved would be read as a hub name.
                found[name] = path if name != "model" or path.startswith(("..", "/")) else f"./{path}"
        return self.with_updates(**found)

    def written_to(self, folder: Path) -> Self:
        """Return a copy with local paths relative to `folder`, where the recipe is written.

        Each of these paths begins with `.`, so that it is not read as a hub name.
        """
        found = {}
        for name, value in self.given.items():
            path = Path(os.path.expanduser(value))  # noqa: PTH111 - Path.expanduser raises RuntimeError
            if value.startswith(("hf:", "pickle:")) or (name == "model" and not path.exists()):
                continue
            relative = os.path.relpath(path, folder)
            found[name] = relative if relative.startswith("..") else f"./{relative}"
        return self.with_updates(**found)
