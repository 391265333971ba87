"""`predict` answers with a part of the context, its characters and its probability."""

from pathlib import Path

import pytest
from asked import answer_rows

from llmkit.core.errors import DataError


def test_answers_are_parts_of_the_context_with_their_characters_and_probabilities(run: Path, tmp_path: Path) -> None:
    rows = [
        {"id": 7, "question": "what is win ?", "context": "we at win noon, in   later "},
        {"id": 8, "question": "what is cash ?", "context": "in a the " * 60 + "cash lunch"},
        {"id": 9, "question": "", "context": ""},
    ]
    found = answer_rows(run, rows, n_best=True)
    assert [row["id"] for row in found] == [7, 8, 9] and found[0]["context"] == rows[0]["context"]
    for row in found[:2]:
        assert row["context"][row["start"] : row["end"]] == row["answer"] != ""
        assert row["answer"] == row["answer"].strip()
        assert len(row["n_best"]) == 5 and row["n_best"][0]["answer"] == row["answer"]
        assert 1 >= row["n_best"][0]["probability"] >= row["n_best"][1]["probability"] > 0
        assert sum(each["probability"] for each in row["n_best"]) <= 1 + 1e-6
    assert (found[2]["answer"], found[2]["start"], found[2]["n_best"]) == ("", None, [])


def test_columns_that_the_file_has_already_are_not_replaced(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"question": "what is win ?", "context": "we at win noon", "answer": "noon"}
    [found] = answer_rows(run, [row])
    assert found["answer"] == "noon" and found["predicted_answer"] and "probability" in found
    assert "predicted_answer" in capsys.readouterr().err
    with pytest.raises(DataError, match="already has a column 'predicted_answer'"):
        answer_rows(run, [row | {"predicted_answer": "x"}])
