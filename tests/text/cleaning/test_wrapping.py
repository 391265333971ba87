"""Wrapped lines: paragraphs become one line, verse and lists stay."""

import textwrap

import pytest

from llmkit.text.cleaning.wrapping import join_hyphens, join_lines, join_lines_and_hyphens
from llmkit.text.documents import StepCounts

PARAGRAPH = (
    "The ferry left at dawn, and nobody on the bank knew where it went, since the lamp was out and the water was high. "
    "We waited until noon, and then we walked along the river to the next village, where an old man sold us bread."
)


@pytest.mark.parametrize("width", [30, 45, 72])
def test_wrapped_paragraphs_become_one_line_each(width: int) -> None:
    wrapped = "\n\n".join([textwrap.fill(PARAGRAPH, width)] * 3) + "\n"
    count = StepCounts()
    assert "".join(join_lines([wrapped], count)) == "\n\n".join([PARAGRAPH] * 3) + "\n"
    assert count.removed["line ends"] == wrapped.count("\n") - 5
    assert "are one line" in count.examples["line ends"]


def test_wrapped_chinese_is_joined_without_a_space() -> None:
    whole = "话说天下大势，分久必合，合久必分。周末七国分争，并入于秦。及秦灭之后，楚汉分争，又并入于汉。"
    wrapped = "\n".join(whole[at : at + 12] for at in range(0, len(whole), 12)) + "\n"
    assert "".join(join_lines([wrapped], StepCounts())) == whole + "\n"


@pytest.mark.parametrize(
    "text",
    [
        "The lamp is low,\nthe ferry slow,\nand nobody will ever come to row\nus over.\n",
        "Tyger Tyger, burning bright,\nIn the forests of the night;\nWhat immortal hand or eye,\nCould frame it?\n\n"
        * 5,
        "- bread\n- salt\n- two candles\n- a rope\n",
        "Name  Age\n===\nIda   3\nOle   44\n",
        "The ferry number 1 left at dawn.\n" * 9,
        "白日依山盡，黃河入海流。\n欲窮千里目，更上一層樓。\n" * 3,
        "One line.\n\nAnother line.\n",
        "",
    ],
)
def test_verse_lists_and_single_lines_stay(text: str) -> None:
    count = StepCounts()
    assert "".join(join_lines([text], count)) == text
    assert not count.changed


def test_lists_and_headings_between_wrapped_lines_start_a_new_line() -> None:
    body = textwrap.fill(PARAGRAPH, 40)
    text = f"{body}\n# Heading\n{body}\n  indented\n- item\n"
    assert "".join(join_lines([text], StepCounts())) == f"{PARAGRAPH}\n# Heading\n{PARAGRAPH}\n  indented\n- item\n"


HYPHENS = """It keeps run-
ning, chil-
dren. A well-
known tale of the well-known
McDonald-
Smith and of E-
mail; 3-
4.
"""


def test_only_lower_case_words_are_joined_at_a_hyphen_and_their_number_is_counted() -> None:
    count = StepCounts()
    joined = (
        "It keeps running,\nchildren.\nA well-known\ntale of the well-known\nMcDonald-\nSmith and of E-\nmail; 3-\n4.\n"
    )
    assert "".join(join_hyphens([HYPHENS], count)) == joined
    assert count.removed == {"hyphens at line ends": 2}
    assert count.examples == {"hyphens at line ends": "run-|ning is now running"}


def test_hyphens_of_other_scripts_are_joined_too() -> None:
    assert "".join(join_hyphens(["парохо-\nды, Stra\xad\nße, λό‐\nγος"], StepCounts())) == "пароходы,\nStraße,\nλόγος"


def test_lines_that_end_inside_a_word_are_joined_only_with_both_options() -> None:
    text = "The ferry keeps run-\nning all night long.\nNobody knows why it\nkeeps running at all.\n"
    both = "The ferry keeps running all night long. Nobody knows why it keeps running at all.\n"
    assert "".join(join_lines_and_hyphens([text], StepCounts())) == both
    assert "run-\nning all night long. Nobody" in "".join(join_lines([text], StepCounts()))


def test_joining_does_not_depend_on_where_the_parts_are_cut() -> None:
    text = "\n\n".join([textwrap.fill(PARAGRAPH, 50)] * 40)
    lines = text.splitlines(keepends=True)
    whole = "".join(join_lines_and_hyphens([text], StepCounts()))
    assert "".join(join_lines_and_hyphens(lines, StepCounts())) == whole
