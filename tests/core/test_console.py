"""Only the main process prints, without control characters."""

import sys

import pytest

from llmkit.core import console
from llmkit.core.console import clean_line, clean_lines, first_line, show_size


def test_only_rank_0_prints_and_a_closed_pipe_is_ignored(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    console.info("from the second")
    monkeypatch.setenv("RANK", "0")
    console.info("from the first")
    assert capsys.readouterr().err == "from the first\n"

    class Closed:
        def write(self, text: str) -> None:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Closed())
    console.info("a pipe that nobody reads")


def test_control_characters_are_shown_as_escapes() -> None:
    hostile = "a\tb\n\u3000却说\x1b[31m\x9b\r\x08\u202e\u2066\u200b\ud800c"
    shown = r"\x1b[31m\x9b\r\x08\u202e\u2066\ud800c"
    assert clean_lines(hostile) == "a\tb\n\u3000却说" + shown
    assert clean_lines("plain — é 却说") == "plain — é 却说"
    assert clean_line(hostile).isprintable()
    assert clean_line("a\r\nb\tc\x1b[2Jd\u202ee\u200b") == r"a⏎b c\x1b[2Jd\u202ee "


def test_joiners_and_spaces_that_spell_words_are_shown() -> None:
    text = "می\u200cخواهم क्\u200dष 👩\u200d👧"
    assert (clean_line(text), clean_lines(text)) == (text, text)
    assert clean_lines("10\u00a0km\u202f!") == "10\u00a0km\u202f!"
    assert clean_line("a\u200eb\u200bc\ufeffd") == "a b c d"


@pytest.mark.parametrize(
    ("error", "line"),
    [(ValueError("\n  first\nsecond"), "first"), (ValueError(), "ValueError"), (KeyError("a"), "'a'")],
)
def test_first_line_is_that_of_the_message_or_the_type(error: Exception, line: str) -> None:
    assert first_line(error) == line


def test_count_of_one_is_singular() -> None:
    assert [console.count(n, "row") for n in (0, 1, 2000)] == ["0 rows", "1 row", "2,000 rows"]


def test_sizes_are_shown_in_the_largest_unit_below_them() -> None:
    sizes = (0, 999, 1.5e3, 64e6, 2e9, 80e9, 3e12, 2e15)
    assert [show_size(n) for n in sizes] == [
        "0 bytes", "999 bytes", "1.5 kB", "64 MB", "2 GB", "80 GB", "3 TB", "2,000 TB"
    ]  # fmt: skip
