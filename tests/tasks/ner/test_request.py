"""Files of a tagger's training are checked by their first rows, without torch."""

from pathlib import Path
from typing import Any

import pytest
from tiny import make_tagged, write_conll

from llmkit.config.loading import load_recipe
from llmkit.core.errors import DataError
from llmkit.tasks.ner.request import check_files


def test_missing_files_and_columns_are_refused_and_streams_not_opened(tmp_path: Path) -> None:
    recipe: Any = load_recipe(None, task="ner")
    good = write_conll(tmp_path / "a.conll", make_tagged(2))
    check_files(recipe, {"train": good, "test": "-", "validation": "hf:nobody/nothing"})
    with pytest.raises(DataError, match="no such file"):
        check_files(recipe, {"train": good, "test": str(tmp_path / "gone.conll")})
    (tmp_path / "b.csv").write_text("a,b\nx,y\n")
    with pytest.raises(DataError, match="no column holds words"):
        check_files(recipe, {"train": str(tmp_path / "b.csv")})
