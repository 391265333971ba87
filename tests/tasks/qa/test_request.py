"""A request is checked before torch is imported."""

from pathlib import Path

import pytest
from asked import make_articles, recipe, write_rows, write_squad

from llmkit.config.qa import Qa
from llmkit.core.errors import DataError, UsageError
from llmkit.tables.rows import open_rows
from llmkit.tasks.qa.request import check_files, check_request, known_columns, named_columns


def test_missing_data_and_model_are_refused() -> None:
    with pytest.raises(UsageError, match="no training data"):
        check_request("m", {})
    with pytest.raises(UsageError, match="no model to fine-tune"):
        check_request(None, {"train": "a.json"})
    assert check_request("m", {"train": "a.json"}) == "m"


def test_columns_of_every_file_are_checked(tmp_path: Path) -> None:
    good = write_squad(tmp_path / "a.json", make_articles(1))
    (tmp_path / "b.jsonl").write_text('{"question": "who?", "context": "the cook"}\n')
    check_files(recipe(), {"train": good, "test": "hf:squad"})  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no column holds the answers"):
        check_files(recipe(), {"train": good, "validation": str(tmp_path / "b.jsonl")})  # type: ignore[arg-type]


def test_columns_of_the_user_come_before_those_of_training(tmp_path: Path) -> None:
    given = named_columns(Qa(question="asked", answer="gold"))
    assert given == {"question": "asked", "context": None, "answers": "gold", "answer_start": None}
    with open_rows(write_rows(tmp_path / "a.jsonl", make_articles(1)), recipe().prepare.read) as rows:
        found = known_columns(rows, given, {"question": "question", "context": "context", "answer_start": "none"})
    assert found == {"question": "asked", "context": "context", "answers": "gold", "answer_start": None}
