"""The table of final marks is Unicode's, and marks that stand in for others keep the length of the text."""

import re
import sys

import pytest
import regex

from llmkit.text.language import sentence_marks


def test_every_final_mark_of_unicode_is_known() -> None:
    own = re.compile(f"[!?。！？｡\u104a‼‽⁇⁈⁉{sentence_marks.TERMINALS}]")
    terminals = [chr(code) for code in range(sys.maxunicode + 1) if regex.match(r"\p{SB=STerm}", chr(code))]
    assert len(terminals) > 150
    assert [mark for mark in terminals if not own.match(mark)] == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Τι κάνεις; Καλά.", "Τι κάνεις? Καλά."),
        ("one; two", "one; two"),
        ("բարեւ: Այո", "բարեւ։ Այո"),
        ("ሰላም፡፡ እሺ", "ሰላም։። እሺ"),
        ("10:30", "10:30"),
        ("वह गया| माँ", "वह गया। माँ"),
        ("a| b", "a| b"),
    ],
)
def test_stand_ins_become_the_marks_of_their_script(text: str, expected: str) -> None:
    found = sentence_marks.replace_stand_ins(text)
    assert len(found) == len(text)
    assert found.replace("\u1362", "\u0589") == expected.replace("\u1362", "\u0589")
