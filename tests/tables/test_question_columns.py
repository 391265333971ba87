"""Columns of questions are chosen by the user, else by name, else by content."""

from typing import Any

import pytest

from llmkit.core.errors import DataError
from llmkit.tables.question_columns import choose_question_columns

CONTEXT = "The cook won. The king lost."


def choose(row: dict[str, Any], *, need_answers: bool = True, **given: str) -> Any:
    return choose_question_columns(list(row), [row] * 4, given, need_answers=need_answers, where="f.csv")


def test_names_of_the_user_come_before_known_names_and_these_before_content() -> None:
    row = {"question": "Who?", "ask": "Who won?", "context": CONTEXT, "answers": "cook", "id": 1, "title": "t"}
    found = choose(row)
    assert (found.question, found.context, found.answers, found.id, found.article) == (
        "question", "context", "answers", "id", "title",
    )  # fmt: skip
    assert choose(row, question="ask").question == "ask"
    found = choose({"1": "Who won?", "2": CONTEXT * 2, "3": "king", "4": 7})
    assert (found.question, found.context, found.answers) == ("1", "2", "3")


def test_role_without_a_column_is_an_error_that_names_the_option() -> None:
    for row, option in (
        ({"a": "x", "b": "y"}, "--question"), ({"question": "Who?"}, "--context"),
        ({"question": "Who?", "context": CONTEXT, "b": "zebra"}, "--answer"),
    ):  # fmt: skip
        with pytest.raises(DataError) as caught:
            choose(row)
        assert f"{option} NAME" in str(caught.value) and "found: " in str(caught.value)
    assert choose({"question": "Who?", "context": CONTEXT}, need_answers=False).answers is None
