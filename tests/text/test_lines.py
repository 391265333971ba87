"""Lines of text that arrives in pieces."""

import random

import pytest

from llmkit.core.errors import DataError
from llmkit.text import lines
from llmkit.text.lines import replace_lone_returns, split_lines, unify_line_ends


def cut_anyhow(text: str, draw: random.Random) -> list[str]:
    places = sorted(draw.randint(0, len(text)) for _ in range(draw.randint(0, 12)))
    return [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]


@pytest.mark.parametrize("seed", range(30))
def test_lines_and_their_ends_do_not_depend_on_where_the_stream_is_cut(seed: int) -> None:
    draw = random.Random(seed)
    text = "".join(draw.choices(["a", "字", "\n", "\r\n", "\r", "\u2028", ""], k=40))
    unified = "".join(unify_line_ends(cut_anyhow(text, draw)))
    assert unified == text.replace("\r\n", "\n").replace("\r", "\n")
    lines = list(split_lines(cut_anyhow(unified, draw), "a.txt"))
    expected = unified.split("\n")
    assert lines == (expected if expected[-1] else expected[:-1]), "only line feeds end a line"


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ('a\rb\n"c\rd\r"\r"e""\r"\r\n', 'a\nb\n"c\rd\r"\n"e""\r"\r\n'),
        ('"my\rname",b\r\n\r', '"my\rname",b\r\n\n'),
        ("a\r\n" * 9, "a\r\n" * 9),
    ],
)
def test_returns_inside_of_quotes_are_kept_wherever_the_stream_is_cut(text: str, kept: str, seed: int) -> None:
    pieces = [text[:15], *cut_anyhow(text[15:], random.Random(seed))]
    assert "".join(replace_lone_returns(pieces, is_quoted=True)) == kept
    assert "".join(replace_lone_returns(pieces)) == kept.replace("\r\n", "\0").replace("\r", "\n").replace("\0", "\r\n")


def test_file_of_an_old_mac_has_returns_for_line_ends_whatever_its_quotes() -> None:
    text = 'a,b\r5" disk,c\r"d\re",f\r'
    assert "".join(replace_lone_returns([text], is_quoted=True)) == text.replace("\r", "\n")


def test_line_beyond_all_bounds_is_an_error_with_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MAX_ROW_CHARS", 100)
    with pytest.raises(DataError) as caught:
        list(split_lines(["a\nb\n", "c" * 60, "c" * 60], "a.csv"))
    assert caught.value.problems[0].where == "a.csv, line 3"
