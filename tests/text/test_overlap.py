"""Held-out text that is also in train is found, however it is wrapped."""

import random

import pytest

from llmkit.text.documents import Document
from llmkit.text.overlap import find_overlap
from llmkit.text.parts import make_documents


def write(n_chars: int, seed: int, chinese: bool) -> str:
    draw = random.Random(seed)
    letters = [chr(code) for code in range(0x4E00, 0x5600)] if chinese else list("abcdefghijklmnop")
    return "".join(draw.choices(letters, k=n_chars))


@pytest.mark.parametrize("chinese", [False, True])
def test_the_share_of_copied_text_is_found_through_other_line_ends_case_and_punctuation(chinese: bool) -> None:
    train = write(20_000, 0, chinese)
    copied = train[5_000:6_000]
    wrapped = "，\n".join(copied[start : start + 17] for start in range(0, 1000, 17)).upper()
    held_out = write(3_000, 1, chinese) + wrapped
    found = find_overlap(make_documents([train], "a", 0, 1_000), [Document(held_out, "b")])[0]
    assert 0.22 < found.share < 0.26
    assert found.n_found / found.n_windows == found.share


def test_different_texts_do_not_overlap() -> None:
    found = find_overlap([Document(write(9000, 0, False), "a")], [Document(write(9000, 1, False), "b")])[0]
    assert (found.share, found.n_found) == (0, 0)


def test_a_text_shorter_than_a_window_has_no_overlap() -> None:
    assert find_overlap([Document("short", "a")], [Document("short", "b")])[0].share == 0


def test_no_window_spans_two_documents() -> None:
    text = write(100, 0, False)
    halves = [Document(text[:50], "a"), Document(text[50:], "a", 1)]
    assert find_overlap(halves, [Document(text, "b")])[0].n_found == 2


def test_the_sample_of_a_large_held_out_text_is_bounded_and_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmkit.text.overlap._MOST_WINDOWS", 1000)
    train = write(30_000, 0, False)
    found = find_overlap([Document(train, "a")], [Document(train[:10_000] + write(10_000, 1, False), "b")])[0]
    assert found.n_windows <= 1000
    assert found.every > 1
    assert 0.4 < found.share < 0.6
