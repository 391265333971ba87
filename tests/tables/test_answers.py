"""Answers are read from every usual form of a cell and found in their contexts."""

from typing import Any

import pytest

from llmkit.tables.answers import (
    ABSENT,
    INEXACT,
    NOT_FOUND,
    SEVERAL,
    WRONG_START,
    AnswerCounts,
    GivenAnswer,
    locate_answer,
    parse_answers,
)
from llmkit.text.records.fields import BadCell

CONTEXT = "The cook won. The cook was  Old Tom."


@pytest.mark.parametrize(
    ("cell", "start", "expected"),
    [
        ("cook", None, [("cook", None)]),
        ("cook", "4", [("cook", 4)]),
        ("cook", 4.0, [("cook", 4)]),
        (1998, None, [("1998", None)]),
        ([{"text": "cook", "answer_start": 4}], None, [("cook", 4)]),
        ({"text": ["cook", "Tom"], "answer_start": [4, 32]}, None, [("cook", 4), ("Tom", 32)]),
        ({"text": "cook", "start": 4}, None, [("cook", 4)]),
        (["cook", "Tom"], None, [("cook", None), ("Tom", None)]),
        (["cook", "Tom"], [4, 32], [("cook", 4), ("Tom", 32)]),
        ('{"text": ["cook"], "answer_start": [4]}', None, [("cook", 4)]),
        ("{'text': ['cook'], 'answer_start': [4]}", None, [("cook", 4)]),
        ("{'text': array(['cook', 'Tom'], dtype=object), 'answer_start': array([4, 32], dtype=int32)}", None,
         [("cook", 4), ("Tom", 32)]),
        ("['cook', 'Tom']", "[4, 32]", [("cook", 4), ("Tom", 32)]),
        ("[sic] is a word", None, [("[sic] is a word", None)]),
        ("", None, []), (None, None, []), ([], None, []), ({"text": [], "answer_start": []}, None, []),
        (["", "Tom"], None, [("Tom", None)]), ({"text": None}, None, []), ("  ", None, []),
    ],
)  # fmt: skip
def test_answers_are_read_from_the_usual_forms(cell: Any, start: Any, expected: list[tuple[str, Any]]) -> None:
    assert parse_answers(cell, start, None) == [GivenAnswer(*each) for each in expected]


def test_separator_splits_the_answers_of_a_cell() -> None:
    assert [each.text for each in parse_answers("cook|Tom|", None, "|")] == ["cook", "Tom"]


@pytest.mark.parametrize(
    ("cell", "start", "message"),
    [
        (True, None, "true or false"), ([["a"]], None, "a list"), ({"start": 4}, None, "no key 'text'"),
        ("cook", "four", "'four', not a whole number"), ("cook", 1.5, "'1.5'"), (["a", "b"], [1], "2 answers have 1"),
        ([{"text": {"a": 1}}], None, "an object"),
    ],
)  # fmt: skip
def test_other_forms_are_refused_by_name(cell: Any, start: Any, message: str) -> None:
    with pytest.raises(BadCell, match=message):
        parse_answers(cell, start, None)


@pytest.mark.parametrize(
    ("text", "start", "span", "kind"),
    [
        ("cook", 4, "cook", None),
        (" cook ", 3, "cook", None),
        ("cook", 5, "cook", WRONG_START),
        ("cook", 17, "cook", WRONG_START),
        ("cook", -1, "cook", WRONG_START),
        ("cook", 10**9, "cook", WRONG_START),
        ("won", None, "won", None),
        ("cook", None, "cook", SEVERAL),
        ("old tom", None, "Old Tom", INEXACT),
        ("was Old", 22, "was  Old", INEXACT),
        ("queen", 4, None, ABSENT),
        ("queen", None, None, ABSENT),
    ],
)
def test_answer_is_found_and_corrections_are_counted(text: str, start: Any, span: str | None, kind: str | None) -> None:
    counts = AnswerCounts()
    found = locate_answer(CONTEXT, GivenAnswer(text, start), 7, counts)
    assert list(counts.kinds) == ([kind] if kind else [])
    assert found.text == text, "scored as given"
    if span is None:
        assert found.start == NOT_FOUND
    else:
        assert CONTEXT[found.start : found.end] == span
    if kind:
        assert "1 answer " in counts.describe("f.json", "row")[0] and "row 7" in counts.describe("f.json", "row")[0]


def test_wrong_start_leads_to_the_nearest_occurrence() -> None:
    counts = AnswerCounts()
    assert locate_answer(CONTEXT, GivenAnswer("cook", 16), 1, counts).start == 18
    assert locate_answer(CONTEXT, GivenAnswer("cook", 8), 1, counts).start == 4
