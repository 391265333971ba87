"""A request for training on rows is refused before slow imports if its model or its train file cannot be used."""

from pathlib import Path

import pytest

from llmkit.core.errors import UsageError
from llmkit.tasks.row_request import check_request


def test_request_without_a_model_is_refused() -> None:
    assert check_request("m", {"train": "a.csv"}) == "m"
    with pytest.raises(UsageError, match="no model"):
        check_request(None, {"train": "a.csv"})


def test_train_file_that_is_missing_or_stdin_or_prepared_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").touch()
    for files, words in (({}, "no training data"), ({"train": "-"}, "stdin"), ({"train": str(tmp_path)}, "prepared")):
        with pytest.raises(UsageError, match=words):
            check_request("m", files)
