"""The identity of a document is its text, and its hash is that of the text's UTF-8."""

import hashlib
import random
import unicodedata
from collections.abc import Iterator
from dataclasses import FrozenInstanceError
from itertools import pairwise

import pytest

from llmkit.text import documents
from llmkit.text.documents import (
    Document,
    StepCounts,
    combines_with_previous,
    cut_parts,
    emit_document,
    group_documents,
    hash_text,
    make_documents,
    mark_last,
    replay_texts,
)


def test_hash_is_that_of_the_utf8_and_every_text_has_one() -> None:
    assert hash_text("却说 café") == hashlib.sha256("却说 café".encode()).hexdigest()
    assert hash_text("a\ud800") != hash_text("a\ud801") != hash_text("a"), "a lone surrogate has no UTF-8"


def test_documents_are_immutable_and_each_step_has_its_own_counts() -> None:
    with pytest.raises(FrozenInstanceError):
        Document("a", "a.txt").text = "b"  # type: ignore[misc]  # what must not be done
    StepCounts().dropped["short"] += 1
    assert not StepCounts().dropped


PIECES = ["word ", "字", "\n", "\r\n", "\r", "e\u0301\u0302", "。", "\n\n", "x" * 30, "가", "각", "\U0001f468"]


def make_text(draw: random.Random, n: int) -> str:
    return "".join(draw.choices(PIECES, k=n))


def cut_anyhow(text: str, draw: random.Random, longest: int) -> list[str]:
    pieces, start = [], 0
    while start < len(text):
        end = start + draw.randint(0, longest)
        pieces.append(text[start:end])
        start = end
    return pieces


@pytest.mark.parametrize("seed", range(20))
def test_parts_are_bounded_joined_they_are_the_text_and_no_character_is_torn(seed: int) -> None:
    draw = random.Random(seed)
    text, most = make_text(draw, draw.randint(0, 400)), draw.randint(8, 200)
    found = list(cut_parts([text], most))
    assert "".join(part for part, _ in found) == text
    assert [last for _, last in found] == [False] * (len(found) - 1) + [True]
    for (part, _), (following, _) in pairwise(found):
        assert 0 < len(part) <= most
        assert not unicodedata.category(following[0]).startswith("M")
        assert not (part.endswith("\r") and following.startswith("\n"))
    assert list(cut_parts(cut_anyhow(text, draw, 50), most)) == found, "however the stream comes in"


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("1234567\n90abc", "1234567\n"),
        ("12345\r\n890abc", "12345\r\n"),
        ("12\n4567 90abc", "12\n4567 "),  # a line end in the first half would make a short part
        ("12345。7890abc", "12345。"),
        ("1234567890abc", "1234567890"),
        ("123456789e\u0301abc", "123456789"),
        ("123456789\r\nabc", "123456789"),
    ],
)
def test_part_ends_at_a_line_else_at_a_pause_else_where_it_must(text: str, first: str) -> None:
    assert next(cut_parts([text], 10)) == (first, False)


def test_text_that_just_fits_is_one_part_and_an_empty_one_too() -> None:
    assert list(cut_parts(["12345", "67890"], 10)) == [("1234567890", True)]
    assert list(cut_parts([], 10)) == [("", True)]


def test_marks_and_korean_letters_join_what_is_before_exactly_where_unicode_composes() -> None:
    for char in map(chr, range(0x3100)):
        composes = any(len(unicodedata.normalize("NFC", base + char)) == 1 for base in "aeAEk\u1100가")
        assert combines_with_previous(char) or not composes, hex(ord(char))
    assert not combines_with_previous("a")


def test_document_of_many_parts_is_grouped_and_comes_out_as_it_went_in() -> None:
    documents = [*make_documents(["line\n" * 10], "a", 3, 12), *make_documents(["b"], "b", 0, 12)]
    assert list(make_documents([""], "a", 0, 12)) == []
    assert len(documents) > 3
    again = [each for first, texts in group_documents(documents) for each in emit_document(texts, first)]
    assert again == documents
    assert [first.source for first, _ in group_documents(documents)] == ["a", "b"], "texts that nobody took are passed"


def test_parts_that_were_emptied_leave_no_hole_in_the_numbers() -> None:
    like = Document("", "a", 7)
    found = list(emit_document(["", "x", "", "y", ""], like))
    assert found == [Document("x", "a", 7, 0, False), Document("y", "a", 7, 1, True)]
    assert list(emit_document(["", ""], like)) == []
    assert list(mark_last("abc")) == [("a", False), ("b", False), ("c", True)]


@pytest.mark.parametrize("in_memory", [4, 10**6])
def test_texts_can_be_replayed_repeatedly_from_memory_and_from_disk(
    monkeypatch: pytest.MonkeyPatch, in_memory: int
) -> None:
    monkeypatch.setattr(documents, "_IN_MEMORY_CHARS", in_memory)
    texts = ["却说", "", "\ud800 lone\r\n", "e\u0301", "end"]
    asked = 0

    def come() -> Iterator[str]:
        nonlocal asked
        for text in texts:
            asked += 1
            yield text

    with replay_texts(come()) as replay:
        assert list(replay()) == texts
        assert next(replay()) == "却说"
        assert list(replay()) == texts
    assert asked == len(texts), "the stream was read once"
