"""Documents inside of a text: lines, paragraphs, separators, however the text comes in."""

import random
from collections.abc import Iterable

import pytest

from llmkit.config.prepare import Read
from llmkit.core.errors import DataError, UsageError
from llmkit.text import boundaries
from llmkit.text.boundaries import split_documents
from llmkit.text.sources import Source


def split(pieces: str | Iterable[str], source: Source | None = None, **options: object) -> list[str]:
    stream = [pieces] if isinstance(pieces, str) else pieces
    read = Read(**options)  # type: ignore[arg-type]
    return [each.text for each in split_documents(stream, read, source or Source("a.txt"))]


@pytest.mark.parametrize(
    "text",
    [
        "One.\nTwo.\n \nThree.\n\t\nFour.\n",
        "One.\r\nTwo.\r\n\r\nThree.\r\n \t\r\nFour.",
        "\n\nOne.\nTwo.\n\u3000\nThree.\n\n\n\nFour.\n\n",
        "One.\nTwo.\u2029Three.\u2029\u2029Four.",
        "One.\nTwo.\u2028\u2028Three.\n\u200b\nFour.",
        "One.\nTwo.\n\fThree.\fFour.\n\f",
        "One.\nTwo.\n\u00a0\n\ufeff\nThree.\r\rFour.",
    ],
)
def test_a_blank_line_ends_a_paragraph_though_it_holds_white_space(text: str) -> None:
    assert split(text, documents="paragraph") == ["One.\nTwo.", "Three.", "Four."]


def test_paragraphs_keep_their_indents_and_single_line_separators() -> None:
    assert split("\u3000\u3000一。\n\n\u3000\u3000二\u2028三。\n", documents="paragraph") == [
        "\u3000\u3000一。",
        "\u3000\u3000二\u2028三。",
    ]


def test_only_line_feeds_end_a_line_and_blank_lines_are_no_documents() -> None:
    assert split("一\u2028二\r\n \n\t\n三\x85四\x0c五\n", documents="line") == ["一\u2028二", "三\x85四\x0c五"]


def test_marks_of_the_end_of_a_text_are_the_default_separator() -> None:
    text = "".join(f"Story {n} is short.\n<|endoftext|>\n" for n in range(200))
    assert split(text, documents="separator") == [f"Story {n} is short." for n in range(200)]


@pytest.mark.parametrize(
    ("separator", "text", "found"),
    [
        (r"^-{3,}$", "a - b\n---\nb\n-----\nc --- d\n", ["a - b", "b", "c --- d"]),
        (r"^%$", "one\n%\ntwo %\n%\n%\nthree", ["one", "two %", "three"]),
        (r"(?=^Chapter )", "Title\nChapter 1\na\nChapter 2\nb", ["Title", "Chapter 1\na", "Chapter 2\nb"]),
        (r"\f", "page one\n\fpage two", ["page one", "page two"]),
        (r"^第.章$", "第一章\n从前。\n第二章\n后来。", ["从前。", "后来。"]),
    ],
)
def test_a_regular_expression_separates_documents(separator: str, text: str, found: list[str]) -> None:
    assert split(text, documents="separator", separator=separator) == found
    assert split(list(text), documents="separator", separator=separator) == found, "one character at a time"


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("unit", ["line", "paragraph", "separator"])
def test_documents_do_not_depend_on_where_the_stream_is_cut(
    seed: int, unit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boundaries, "_MAX_SEPARATOR_CHARS", 64)
    draw = random.Random(seed)
    text = "".join(draw.choices(["a", "字", "\n", "\r\n", " ", "\n \n", "\u2029", "<#>", "#"], k=300))
    size = draw.randint(1, 40)
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    options = {"documents": unit, **({"separator": "<#>\n?"} if unit == "separator" else {})}
    assert split(pieces, **options) == split(text, **options)


def test_a_separator_that_does_not_occur_is_noted() -> None:
    source = Source("a.txt")
    assert split("One.\n\nTwo.\n", source, documents="separator") == ["One.\n\nTwo."]
    assert "does not occur" in next(iter(source.notes))


def test_a_separator_with_carriage_returns_gets_a_note_on_line_ends() -> None:
    source = Source("a.txt")
    assert split("One.\r\n\r\nTwo.", source, documents="separator", separator=r"\r\n\r\n") == ["One.\n\nTwo."]
    assert r"every line end is read as \n" in next(iter(source.notes))


def test_a_text_without_blank_lines_is_one_paragraph_and_it_is_noted() -> None:
    source = Source("a.txt")
    assert len(split("　　一段。\n" * 10, source, documents="paragraph")) == 1
    assert source.notes == {
        "no blank line, so the file is one document; to make each line a document: prepare.read.documents=line": (
            "10 lines"
        )
    }
    for text in ("一段。\n" * 9, "一段。\n\n" * 20, ""):
        split(text, other := Source("b.txt"), documents="paragraph")
        assert not other.notes


@pytest.mark.parametrize("separator", ["", "x*", "^", "[", "(?P<a"])
def test_a_separator_that_matches_nothing_or_is_no_expression_is_refused(separator: str) -> None:
    with pytest.raises(UsageError):
        Read().with_updates(documents="separator", separator=separator)


def test_a_separator_without_its_documents_is_refused_as_it_would_not_be_read() -> None:
    with pytest.raises(UsageError, match="separator applies only if documents is separator"):
        Read().with_updates(separator="%")


def test_a_separator_that_backtracks_without_end_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boundaries, "MAX_SEPARATOR_SECONDS", 0.2)
    with pytest.raises(DataError, match=r"takes more than 0\.2 seconds"):
        split("a" * 60 + "b", documents="separator", separator="(a+)+$")
