"""Excerpts: the line that shows why an encoding was chosen."""

from llmkit.text.decoding.excerpts import EXAMPLE_CHARS, find_difference, find_example, find_high, line_at, shorten


def test_the_example_is_the_first_line_that_is_not_ascii() -> None:
    assert find_example("plain\nun  café\nnoël\n") == "un café"
    assert find_example("plain\n") == ""


def test_a_long_line_is_shown_around_its_first_letter_that_is_not_ascii() -> None:
    assert "é" in shorten("x" * 500 + "é" + "y" * 500) and len(shorten("é" * 500)) == EXAMPLE_CHARS


def test_the_line_of_a_position_has_no_line_end() -> None:
    assert line_at(b"one\ntwo\nthree", 5) == b"two"


def test_the_line_with_the_most_differences_is_found() -> None:
    assert find_difference(b"a\n\xe9\n\xe9\xf8\n", "cp1252", "cp1251") == (4, b"\xe9\xf8\n")


def test_the_first_byte_that_is_not_ascii_is_found() -> None:
    assert find_high(b"ab\xff") == 2 and find_high(b"ab") == 2
