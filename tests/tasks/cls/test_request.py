"""A request for fine-tuning is checked by the first rows of its files, without torch."""

from pathlib import Path
from typing import Any

import pytest

from llmkit.config.loading import load_recipe
from llmkit.core.errors import DataError
from llmkit.tasks.cls.request import check_files


def write(path: Path, text: str = "text,label\na b,x\nc d,y\n") -> str:
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("settings", "words"),
    [(["cls.text=txt"], "no column 'txt'"), (["cls.label=lab"], "no column 'lab'"), (["cls.pair=b"], "no column 'b'")],
)
def test_column_that_does_not_exist_is_refused(tmp_path: Path, settings: list[str], words: str) -> None:
    recipe: Any = load_recipe(None, settings, task="cls")
    with pytest.raises(DataError, match=words):
        check_files(recipe, {"train": write(tmp_path / "a.csv")})


@pytest.mark.parametrize("missing", ["train", "validation", "test"])
def test_file_that_does_not_exist_is_refused(tmp_path: Path, missing: str) -> None:
    recipe: Any = load_recipe(None, task="cls")
    files = dict.fromkeys(("train", "validation", "test"), write(tmp_path / "a.csv"))
    check_files(recipe, files)
    with pytest.raises(DataError, match="no such file"):
        check_files(recipe, files | {missing: str(tmp_path / "gone.csv")})


def test_stream_and_data_set_of_the_hub_are_not_opened() -> None:
    recipe: Any = load_recipe(None, task="cls")
    check_files(recipe, {"train": "hf:nobody/nothing", "validation": "-"})
