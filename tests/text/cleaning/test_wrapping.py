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


CODE = "x = compute(alpha, beta, gamma, delta, eps)\ny = compute(alpha, beta, gamma, delta, z)\nprint(x, y)\n"
TABLE = "Name     City of the boat and the ferry\n" + "Anna     Bern of the river bank and hills\n" * 2


@pytest.mark.parametrize(
    "block", [CODE, f"```\n{PARAGRAPH[:40]}\n{PARAGRAPH[40:80]}\n```\n", TABLE, "(a) one\nii. two\n•three\n"]
)
def test_code_tables_and_lists_between_wrapped_paragraphs_stay(block: str) -> None:
    wrapped = textwrap.fill(PARAGRAPH, 40)
    joined = "".join(join_lines_and_hyphens([f"{wrapped}\n\n{block}\n{wrapped}\n"], StepCounts()))
    assert joined == f"{PARAGRAPH}\n\n{block}\n{PARAGRAPH}\n"


def test_stanzas_without_capitals_stay() -> None:
    text = "".join(
        f"so much depends upon the {word} morning light,\nand all the boats that wait beside the shore\n"
        f"are only dreams that left the {word} night\nto wander where no {word} water was before\n\n"
        for word in ("grey", "blue", "green", "white")
    )
    assert "".join(join_lines([text], StepCounts())) == text


@pytest.mark.parametrize(
    ("text", "joined"),
    [
        ("a well-\nknown man", "a well-known\nman"),
        ("the mother-\nin-law came", "the mother-in-law\ncame"),
        ("by e-\nmail", "by e-mail"),
        ("a vice-\npresident", "a vice-president"),
        ("a river. A bank. The river-\nbank", "a river. A bank. The river-bank"),
        ("run --dry-\nrun", "run --dry-run"),
        ("Haus-\nund Garten", "Haus-\nund Garten"),
        ("thou-\nsand of a thousand", "thousand\nof a thousand"),
        ("co-\noperative", "cooperative"),
        ("river. bank. river\xad\nbank", "river. bank. riverbank"),
        ("in 1870-\n1880", "in 1870-\n1880"),
    ],
)
def test_hyphens_of_compounds_stay(text: str, joined: str) -> None:
    assert "".join(join_hyphens([text], StepCounts())) == joined


def test_hyphens_are_joined_in_code_neither_with_nor_without_wrapped_lines() -> None:
    fenced = "```\nalpha-\nbeta\n\ngamma-\ndelta\n```\n"
    assert "".join(join_hyphens([fenced], StepCounts())) == fenced
    assert "".join(join_lines_and_hyphens([fenced + "run-\nning\n"], StepCounts())) == fenced + "running\n"


def test_a_suspended_hyphen_keeps_its_space_where_lines_are_joined() -> None:
    text = "Die Lampen von Haus-\nund Garten brannten die ganze\nNacht, und niemand wusste es\ngenau.\n"
    assert "Haus- und Garten brannten" in "".join(join_lines_and_hyphens([text], StepCounts()))
